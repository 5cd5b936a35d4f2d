"""Runs the command line, inside this process or as one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from raytrade import cli


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    error: str

    @property
    def problem(self) -> str:
        """The one line on standard error, which every failed command must have left."""
        lines = self.error.splitlines()
        assert len(lines) == 1, self.error
        assert "Traceback" not in self.error
        assert "\x1b" not in self.error
        return lines[0]


class Commands:
    """Calls `main` as the installed command does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["raytrade", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, error = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, error)


def run_process(*arguments: object, stdout: Path | None = None, timeout_s: float = 60) -> Outcome:
    """Run ``python -m raytrade``; with `stdout` its output goes to that file."""
    command = [sys.executable, "-m", "raytrade", *map(str, arguments)]
    with (stdout or Path("/dev/null")).open("w") as file:
        target = file if stdout is not None else subprocess.PIPE
        ended = subprocess.run(
            command, stdout=target, stderr=subprocess.PIPE, text=True, timeout=timeout_s, check=False
        )
    return Outcome(ended.returncode, ended.stdout or "", ended.stderr)


def files(directory: Path) -> list[Path]:
    """Give every file below a directory, hidden ones too."""
    return sorted(path for path in directory.rglob("*") if path.is_file())
