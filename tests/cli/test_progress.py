"""Bars go to a terminal's standard error alone: whatever is piped or written to a file stays as it is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

RUN = "from raytrade.cli import main; main()"
SEEDS = ("simulate", "--seeds", "0:2", "--json")


def written(arguments: tuple[str, ...], stderr: int, stdout: Path) -> int:
    with stdout.open("w") as file:
        command = [sys.executable, "-c", RUN, *arguments]
        return subprocess.run(command, stdout=file, stderr=stderr, timeout=60, check=False).returncode


def test_a_bar_on_the_terminal_and_nothing_of_it_in_the_file(tmp_path: Path) -> None:
    primary, terminal = pty.openpty()
    plain, piped = tmp_path / "plain", tmp_path / "piped"
    assert written(SEEDS, terminal, plain) == 0
    os.set_blocking(primary, False)
    shown = os.read(primary, 1_000_000)
    assert b"\x1b" in shown and b"seeds" in shown
    with (tmp_path / "error").open("w+") as error:
        assert written(SEEDS, error.fileno(), piped) == 0
        error.seek(0)
        assert error.read() == ""
    assert piped.read_text() == plain.read_text()
    assert "\x1b" not in plain.read_text()
    os.close(primary)
    os.close(terminal)
