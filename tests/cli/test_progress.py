"""Bars go to a terminal's standard error alone: whatever is piped or written to a file stays as it is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

RUN = "from raytrade.cli import main; main()"
SEEDS = ("simulate", "--seeds", "0:2", "--json")


class Terminal:
    """A terminal that somebody reads: one that nobody reads holds up who writes."""

    def __init__(self) -> None:
        self._primary, self.descriptor = pty.openpty()
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        with suppress(OSError):  # how a terminal tells that nobody writes any more
            while data := os.read(self._primary, 65_536):
                self.shown += data

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        self._reader.join(10)
        os.close(self._primary)


def written(arguments: tuple[str, ...], stderr: int, stdout: Path) -> int:
    with stdout.open("w") as file:
        command = [sys.executable, "-c", RUN, *arguments]
        return subprocess.run(command, stdout=file, stderr=stderr, timeout=60, check=False).returncode


def test_a_bar_on_the_terminal_and_nothing_of_it_in_the_file(tmp_path: Path) -> None:
    plain, piped = tmp_path / "plain", tmp_path / "piped"
    with Terminal() as terminal:
        assert written(SEEDS, terminal.descriptor, plain) == 0
    assert b"\x1b" in terminal.shown and b"seeds" in terminal.shown
    with (tmp_path / "error").open("w+") as error:
        assert written(SEEDS, error.fileno(), piped) == 0
        error.seek(0)
        assert error.read() == ""
    assert piped.read_text() == plain.read_text()
    assert "\x1b" not in plain.read_text()
