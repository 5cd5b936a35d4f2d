"""`WriteAheadLog`: what a sink has taken and not yet closed a segment over, on disk within a tenth of a second.

``wal/<start>-<number>.arrows`` is an Arrow IPC stream with one batch per flush: the messages of all streams as the
bytes they came as, each with its index. Nothing is taken apart twice: columns are made once, when the segment is
written. The last batch of a killed process may be torn; every batch carries a CRC32, and what stands before a damaged
one is whole.
A file lives until all that is in it stands in segments, and is locked by the process that writes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel
from raytrade.core.message import SCHEMA_VERSION, Message, parse
from raytrade.errors import MalformedBatch, StorageError
from raytrade.storage.files import reason_of

FOLDER = "wal"
SUFFIX = ".arrows"
FLUSH_NS: Nanos = 100 * MILLISECOND
SYNC_NS: Nanos = SECOND
FILE_NS: Nanos = 30 * SECOND
FILE_BYTES = 32 * 1024 * 1024
BATCH_BYTES = 16 * 1024 * 1024
_VERSION_KEY = b"raytrade.wal_version"
_VERSION = f"1.{SCHEMA_VERSION}".encode()

LOG = pa.schema(
    [("index", pa.int64()), ("message", pa.binary()), ("check", pa.uint32())],
    metadata={_VERSION_KEY: _VERSION},
)
"""`message` is one message of `raytrade.core.message`; `check` the CRC32 of the batch, the same in all its rows."""

Logged = tuple[int, Message]
"""A message and its index; of a note (a gap, a stall or its end) the index of the message that comes next."""


class Sync(Enum):
    """When the log is forced to the device: never, once a second, at every flush.

    A killed process loses nothing that was flushed under any of them; this is about the machine losing power.
    """

    NONE = "none"
    INTERVAL = "interval"
    ALWAYS = "always"


class WriteAheadLog:
    """The log of one start of a sink. Made when there is something to write."""

    def __init__(self, directory: Path, start: str, sync: Sync) -> None:
        self.number = 0
        """Of the file that what is added now will stand in, or a later one."""
        self.bytes_written = 0
        self._folder = directory / FOLDER
        self._start = start
        self._sync = sync
        self._waiting: list[Logged] = []
        self._due_ns: Nanos | None = None
        self._is_failing = False
        self._descriptor: int | None = None
        self._opened_ns: Nanos = 0
        self._synced_ns: Nanos = 0
        self._size = 0
        self._kept: list[int] = []

    def add(self, index: int, message: Message, now_ns: Nanos) -> None:
        """Take a message; it is written by the next flush, which is due after `FLUSH_NS` at the latest."""
        if self._due_ns is None:
            self._due_ns = now_ns + FLUSH_NS
        self._waiting.append((index, message))

    def due_ns(self) -> Nanos | None:
        """Give when the next flush is due."""
        return self._due_ns

    def flush_due(self, now_ns: Nanos) -> None:
        """Write what waits, if that is due.

        Raises:
            StorageError: it could not be written; it waits on.
        """
        if self._due_ns is not None and now_ns >= self._due_ns:
            self.flush(now_ns)

    def flush(self, now_ns: Nanos) -> None:
        """Write what waits.

        Raises:
            StorageError: it could not be written; it waits on, and nothing torn is left before it.
        """
        try:
            while self._waiting:
                if self._descriptor is None:
                    self._open(now_ns)
                count = _count_for(self._waiting)
                self._append(_batch(self._waiting[:count]))
                del self._waiting[:count]
                if self._size >= FILE_BYTES or now_ns - self._opened_ns >= FILE_NS:
                    self._rotate()
            self._sync_due(now_ns)
        except OSError as error:
            self._is_failing = True
            self._due_ns = now_ns + FLUSH_NS
            raise StorageError(str(self._path(self.number)), f"cannot be written: {reason_of(error)}") from None
        self._is_failing = False
        self._due_ns = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._start}-{number:06d}{SUFFIX}"

    def _open(self, now_ns: Nanos) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self.number)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._descriptor, self._size = descriptor, 0
            self._append(memoryview(LOG.serialize()))
        except OSError:
            self._descriptor = None
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        self._opened_ns = self._synced_ns = now_ns
        self._kept.append(self.number)

    def _append(self, data: memoryview) -> None:
        """Write behind what is there; what a full disk has taken of it is cut off again."""
        assert self._descriptor is not None
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], self._size + done)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        self.bytes_written += len(data)

    def _sync_due(self, now_ns: Nanos) -> None:
        is_due = self._sync is Sync.ALWAYS or (self._sync is Sync.INTERVAL and now_ns - self._synced_ns >= SYNC_NS)
        if is_due and self._descriptor is not None:
            os.fdatasync(self._descriptor)
            self._synced_ns = now_ns

    def _rotate(self) -> None:
        if self._descriptor is None:
            return
        if self._sync is not Sync.NONE:
            os.fdatasync(self._descriptor)
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)
        self.number += 1

    def forget(self, stream: tuple[str, Channel], indexes: list[int]) -> None:
        """Let go what stands in a segment now, where the log itself cannot be written: it must not pile up."""
        if self._is_failing:
            first, last = indexes[0], indexes[-1]
            self._waiting = [
                logged for logged in self._waiting if logged[1].stream != stream or not first <= logged[0] <= last
            ]

    def release(self, oldest: int) -> None:
        """Remove the files before this one: all that is in them stands in segments."""
        while self._kept and self._kept[0] < min(oldest, self.number):
            with suppress(OSError):
                self._path(self._kept[0]).unlink()
            del self._kept[0]

    def close(self) -> None:
        """End: everything stands in segments."""
        self._waiting.clear()
        self._due_ns = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.number += 1
        self.release(self.number)
        with suppress(OSError):
            self._folder.rmdir()


def _count_for(waiting: list[Logged]) -> int:
    size = 0
    for count, (_, message) in enumerate(waiting, start=1):
        size += len(message.raw)
        if size >= BATCH_BYTES:
            return count
    return len(waiting)


def _batch(logged: list[Logged]) -> memoryview:
    indexes = np.array([index for index, _ in logged], np.int64)
    offsets = np.zeros(len(logged) + 1, np.int32)
    np.cumsum([len(message.raw) for _, message in logged], out=offsets[1:])
    body = b"".join([message.raw for _, message in logged])
    messages = pa.Array.from_buffers(pa.binary(), len(logged), [None, pa.py_buffer(offsets), pa.py_buffer(body)])
    checks = np.full(len(logged), _check(indexes, offsets, body), np.uint32)
    batch = pa.RecordBatch.from_arrays([pa.array(indexes), messages, pa.array(checks)], schema=LOG)
    return memoryview(batch.serialize())


def _check(indexes: np.ndarray, offsets: np.ndarray, body: bytes | memoryview) -> int:
    return crc32(body, crc32(offsets.tobytes(), crc32(indexes.tobytes())))


# Reading.


class LogContent(NamedTuple):
    """What could be read of a file. `problem`: why it ends there; empty where it is whole to its last batch.

    `is_torn`: it just ends too early, as one of a killed process does.
    """

    path: Path
    start: str
    logged: list[Logged]
    problem: str
    is_torn: bool


def log_paths(directory: Path) -> list[Path]:
    """Give the files of all logs, those of one start in their order."""
    return sorted((directory / FOLDER).glob(f"*{SUFFIX}"))


def is_live(path: Path) -> bool:
    """Tell whether a process is writing the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_log(path: Path) -> LogContent:
    """Read every batch up to the first that is not whole.

    Raises:
        StorageError: it cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(str(path), f"cannot be read: {reason_of(error)}") from None
    logged: list[Logged] = []
    problem, is_torn = "", False
    try:
        for part in _batches(data):
            logged += part
    except (pa.ArrowException, OSError, EOFError) as error:
        problem, is_torn = " ".join(str(error).split())[:200] or type(error).__name__, True
    except (ValueError, MalformedBatch) as error:
        problem = " ".join(str(error).split())[:200]
    return LogContent(path, path.stem.rpartition("-")[0], logged, problem, is_torn)


def _batches(data: bytes) -> Iterator[list[Logged]]:
    reader = pa.ipc.open_stream(pa.py_buffer(data))
    version = (reader.schema.metadata or {}).get(_VERSION_KEY, b"")
    if version != _VERSION or not reader.schema.equals(LOG):
        raise ValueError(f"is a log of version {version.decode(errors='replace') or 'none'}, not {_VERSION.decode()}")
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        batch.validate(full=True)
        yield _read_batch(batch)


def _read_batch(batch: pa.RecordBatch) -> list[Logged]:
    indexes = batch.column("index").to_numpy()
    _, offsets_buffer, body = batch.column("message").buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[: batch.num_rows + 1]
    content = memoryview(body)[: int(offsets[-1])]
    checks = batch.column("check").to_numpy()
    if batch.num_rows and (checks != _check(indexes, offsets, content)).any():
        raise ValueError("a batch is damaged: its check does not hold")
    bounds = offsets.tolist()
    raws = [bytes(content[at:end]) for at, end in pairwise(bounds)]
    return [(index, parse(raw)) for index, raw in zip(indexes.tolist(), raws, strict=True)]
