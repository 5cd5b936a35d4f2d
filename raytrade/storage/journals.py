"""Journals of strategies (`raytrade.strategy.journal`) as files: one for each life of a strategy's host.

``DIR/<name>-<start in ns>.journal`` is a line that says what it is, the opening, then blocks of entries: length,
checksum, zstd. A block is written at most `FLUSH_NS` after its first entry, by a thread of its own, so that the disk
never keeps the strategy waiting. What a killed process leaves is whole up to its last block; a torn one is left out.

Bounded: a file that reaches `bytes_max` says so and ends, since a journal without its beginning could not be played
again; when a new one begins, the oldest of the strategy go until half the bytes are free.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Full, Queue
from struct import Struct
from zlib import crc32

import msgspec
import pyarrow as pa

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.errors import ConfigError, StorageError
from raytrade.strategy.journal import Entry, Opening, pack, unpack

MAGIC = b"raytrade-journal 1\n"
SUFFIX = ".journal"
JOURNAL_FOLDER = "journal"
"""Where journals are kept below a recording, if nothing else is said."""
FLUSH_NS: Nanos = 100 * MILLISECOND
BLOCK_BYTES = 256 * 1024
BLOCKS_WAITING_MAX = 64
RAW_BYTES_MAX = 2**30
JOIN_TIMEOUT_S = 10.0
_BLOCK = Struct("<III")
_NAME = re.compile(r"(?P<name>.+)-(?P<start>\d+)\.journal")


class JournalWriter:
    """Takes entries on the host's thread; `problem` says why it has ended, if it has.

    Raises:
        ConfigError: the directory cannot be written.
    """

    def __init__(self, directory: Path, opening: Opening, bytes_max: int) -> None:
        self.problem = ""
        self.entries = 0
        self.bytes_written = 0
        self._bytes_max = bytes_max
        self._waiting = bytearray()
        self._due_ns: Nanos | None = None
        self._blocks: Queue[bytes | None] = Queue(BLOCKS_WAITING_MAX)
        self.path = directory / f"{opening.name}-{opening.ts_start_ns}{SUFFIX}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _make_room(directory, opening.name, bytes_max // 2)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError("", str(directory), f"no journal: {error.strerror or error}") from None
        self._write(MAGIC + _block(msgspec.json.encode(opening)))
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Take an entry."""
        if self.problem:
            return
        self.entries += 1
        self._waiting += pack(entry)
        if self._due_ns is None:
            self._due_ns = entry.now_ns + FLUSH_NS
        if len(self._waiting) >= BLOCK_BYTES:
            self._flush()

    def tick(self, now_ns: Nanos) -> None:
        """Write what has waited long enough."""
        if self._due_ns is not None and now_ns >= self._due_ns:
            self._flush()

    @property
    def due_ns(self) -> Nanos | None:
        """When `tick` has something to do."""
        return self._due_ns

    def _flush(self) -> None:
        block, self._waiting, self._due_ns = bytes(self._waiting), bytearray(), None
        try:
            self._blocks.put_nowait(block)
        except Full:
            self.problem = "the disk does not keep up: the journal ends here"

    def close(self) -> None:
        """Write what is left."""
        if self._waiting and not self.problem:
            self._flush()
        self._blocks.put(None)
        self._thread.join(JOIN_TIMEOUT_S)
        os.close(self._file)

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            if not self.problem:
                self._write(_block(block))

    def _write(self, data: bytes) -> None:
        if self.bytes_written + len(data) > self._bytes_max:
            self.problem = f"the journal is full ({self._bytes_max} bytes) and ends here"
            return
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror or error}: the journal ends here"
            return
        self.bytes_written += len(data)


def _block(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(data, asbytes=True)
    return _BLOCK.pack(len(packed), len(data), crc32(packed)) + packed


def _make_room(directory: Path, name: str, bytes_kept: int) -> None:
    """Remove the oldest journals of a strategy until the others take no more than `bytes_kept`."""
    paths = journals_of(directory, name)
    sizes = [path.stat().st_size for path in paths]
    for path, size in zip(paths, list(sizes), strict=True):
        if sum(sizes) <= bytes_kept:
            return
        path.unlink(missing_ok=True)
        sizes.remove(size)


def journals_of(directory: Path, name: str) -> list[Path]:
    """Give the journals of a strategy, the oldest first."""
    found = [(match, path) for path in directory.glob(f"*{SUFFIX}") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted((int(match["start"]), path) for match, path in found if match["name"] == name)]


def names_of(directory: Path) -> list[str]:
    """Give the strategies that have journals in a directory."""
    return sorted({match["name"] for path in directory.glob(f"*{SUFFIX}") if (match := _NAME.fullmatch(path.name))})


class Journal:
    """One journal read back; `torn_bytes` at its end, known when all entries were read, are of no whole block.

    Raises:
        StorageError: it cannot be read, or is no journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_bytes = 0
        try:
            with path.open("rb") as file:
                is_ours = file.read(len(MAGIC)) == MAGIC
                first = next(_blocks(file.read(_BLOCK.size + 2**20)), None) if is_ours else None
            if first is None:
                raise StorageError(str(path), "is no journal of a strategy")
            self.opening = msgspec.json.decode(first[1], type=Opening)
        except OSError as error:
            raise StorageError(str(path), f"cannot be read: {error.strerror or error}") from None
        except msgspec.MsgspecError as error:
            raise StorageError(str(path), f"is damaged: {error}") from None
        self._begin = len(MAGIC) + first[0]

    def entries(self) -> Iterator[Entry]:
        """Give the entries up to the first block that is not whole.

        Raises:
            StorageError: it cannot be read, or what is in a whole block are no entries.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._begin)
                while head := file.read(_BLOCK.size):
                    rest = file.read(_BLOCK.unpack(head)[0]) if len(head) == _BLOCK.size else b""
                    block = next(_blocks(head + rest), None)
                    if block is None:
                        self.torn_bytes = len(head) + len(rest) + len(file.read())
                        return
                    yield from unpack(block[1])
        except OSError as error:
            raise StorageError(str(self.path), f"cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise StorageError(str(self.path), f"is damaged: {error}") from None


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give whole blocks, each behind the bytes that it takes."""
    at = 0
    while at + _BLOCK.size <= len(data):
        packed_bytes, raw_bytes, checksum = _BLOCK.unpack_from(data, at)
        packed = data[at + _BLOCK.size : at + _BLOCK.size + packed_bytes]
        if len(packed) < packed_bytes or crc32(packed) != checksum or raw_bytes > RAW_BYTES_MAX:
            return
        yield _BLOCK.size + packed_bytes, pa.Codec("zstd").decompress(packed, raw_bytes, asbytes=True)
        at += _BLOCK.size + packed_bytes
