"""Files of one day each that appear when they are whole."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from raytrade.core.clock import SECOND, Nanos

_File = TypeVar("_File", bound=IO[Any])


def day_of(ts_ns: Nanos) -> str:
    """Give the UTC day of an instant, as in ``2026-11-23``."""
    return f"{datetime.fromtimestamp(ts_ns // SECOND, UTC):%Y-%m-%d}"


class Pending:
    """Files written beside their places: moved there when the block ends, removed when it fails."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: list[Path] = []
        self._parts: dict[Path, Path] = {}
        self._open = ExitStack()

    def __enter__(self) -> Pending:
        self.out.mkdir(parents=True, exist_ok=True)
        return self

    def path(self, name: str) -> Path:
        """Give the path to write to for the file of this name."""
        target = self.out / name
        part = self._parts[target] = self.out / f".{name}.part"
        return part

    def keep(self, file: _File) -> _File:
        """Close the file at the end."""
        self._open.callback(file.close)
        return file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._open.close()
            if kind is None:
                for target, part in self._parts.items():
                    os.replace(part, target)
                    self.written.append(target)
        finally:
            for part in self._parts.values():
                with suppress(OSError):
                    part.unlink()
