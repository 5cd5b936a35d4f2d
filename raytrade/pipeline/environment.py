"""What Ray must find in the environment before it is first imported."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from raytrade.errors import ConfigError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prepare() -> None:
    """Set what Ray must find before it starts: niceness 0 for workers, and token authentication.

    Ray's default niceness is 15; a strategy must not wait behind a compiler. The token is made once, readable by its
    owner only.

    Raises:
        ConfigError: others can read the token.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN"):
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            raise ConfigError(str(path), "", f"others can read the token (mode {mode:o}): chmod 600 {path}")
