"""What Ray finds in the environment: token authentication unless told otherwise, a token that others cannot read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from raytrade.errors import ConfigError
from raytrade.pipeline import environment


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_worker_niceness"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    environment.prepare()
    path = tmp_path / ".ray" / "auth_token"
    token = path.read_text()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    environment.prepare()
    assert path.read_text() == token


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("planted")
    path.chmod(mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(ConfigError) as refused:
        environment.prepare()
    assert str(refused.value) == f"{path}: others can read the token (mode {mode:o}): chmod 600 {path}"
    path.chmod(0o400)
    environment.prepare()


def test_a_choice_of_the_users_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    environment.prepare()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not (tmp_path / ".ray").exists()


def test_a_token_from_the_environment_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted")
    environment.prepare()
    assert not (tmp_path / ".ray").exists()
