"""`StateFile`: what a node provider keeps between calls, processes and crashes.

Every change is read, made and written under one lock; the file is replaced whole, by write, sync and rename, so that a
crash at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from raytrade.cluster.pools import Launches
from raytrade.errors import PipelineError


class StateFile:
    """Holds the launches of one cluster under `directory`, readable by its owner only."""

    def __init__(self, directory: Path, cluster: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / f"{cluster}.json"
        self._lock_path = directory / f"{cluster}.lock"

    def read(self) -> Launches:
        """Give the state.

        Raises:
            PipelineError: the file is not what this class wrote.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Launches()
        try:
            return msgspec.json.decode(data, type=Launches)
        except msgspec.MsgspecError as error:
            raise PipelineError(f"{self.path}: not a state of launches: {error}") from None

    @contextmanager
    def change(self) -> Iterator[Launches]:
        """Give the state to be changed; it is written when the block ends without an error."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            before = self.read()
            launches = msgspec.convert(msgspec.to_builtins(before), Launches)
            yield launches
            if launches != before:
                self._write(msgspec.json.encode(launches))
        finally:
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        part = self.path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
