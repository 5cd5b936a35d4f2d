"""Bars go to a terminal's standard error alone: whatever is piped or written to a file stays as it is."""

from __future__ import annotations

import os
import pty
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from raytrade.cli.progress import naming, steps, through_time


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


def shown_on(stderr: int, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something long with standard error there and standard output in a file."""
    with out.open("w") as file, os.fdopen(os.dup(stderr), "w") as error, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        patched.setattr(sys, "stderr", error)
        with steps("seeds") as told:
            for number in range(3):
                print(number)
                told(number + 1, 3)
        with naming("compacting") as name:
            name("a folder")
        assert list(through_time("replay", [(1, "one"), (2, "two")])) == [(1, "one"), (2, "two")]


def test_bars_on_the_terminal_and_nothing_of_them_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with Terminal() as terminal:
        shown_on(terminal.descriptor, tmp_path / "out", monkeypatch)
    for text in (b"\x1b", b"seeds", b"3/3", b"compacting a folder", b"replay"):
        assert text in terminal.shown
    assert (tmp_path / "out").read_text() == "0\n1\n2\n"


def test_nothing_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "error").open("w") as error:
        shown_on(error.fileno(), tmp_path / "out", monkeypatch)
    assert (tmp_path / "error").read_text() == ""
    assert (tmp_path / "out").read_text() == "0\n1\n2\n"
