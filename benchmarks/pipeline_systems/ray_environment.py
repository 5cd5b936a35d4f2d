"""What Ray must find in the environment, before it is imported, in every benchmark."""

from __future__ import annotations

import os
from pathlib import Path

from raytrade.pipeline.environment import prepare

ROOT = Path(__file__).resolve().parents[2]
OBJECT_STORE_BYTES = 200 * 1024 * 1024


def set_environment(temporary: str) -> None:
    """Keep Ray's files in `temporary`, without token, workers at niceness 0 and with the benchmarks to import."""
    os.environ["RAY_TMPDIR"] = temporary
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    prepare()
