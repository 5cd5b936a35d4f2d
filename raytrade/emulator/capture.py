"""Reads a recording (`.jsonl.gz`, format version 1) for serving.

Invariant: text and binary payloads are kept byte for byte; line numbers in errors count from 1.
Called by the capture feed.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raytrade.errors import CaptureError, ConfigError

from .frames import BINARY, TEXT

UNTIMED_STEP_NS = 1_000_000
"""Distance given to the frames of a recording without times."""
FORMAT_VERSION = 1
SOLE_CONNECTION = "1"
"""Name given to clients of a recording that holds REST bodies only."""


class CaptureHeader(msgspec.Struct):
    """First line of a recording."""

    kind: str
    version: int
    venue: str
    connections: list[str] = []


class CaptureRecord(msgspec.Struct):
    """Any other line; `ts_ns` is the recorder's clock in ns since the epoch."""

    kind: str
    conn: str = ""
    ts_ns: int | None = None
    url: str | None = None
    data: str | None = None
    b64: str | None = None


class CapturedFrame(msgspec.Struct, frozen=True, gc=False):
    """One received frame: connection, place in it (from 0), offset in ns, frame to send."""

    connection: str
    index: int
    offset_ns: int
    payload: bytes
    opcode: int


class CapturedRest(msgspec.Struct, frozen=True, gc=False):
    """One REST body: address, offset in ns, JSON text."""

    url: str
    offset_ns: int
    body: str


class Capture(msgspec.Struct):
    """A whole recording, in its order."""

    venue: str
    connections: tuple[str, ...]
    frames: list[CapturedFrame]
    rests: list[CapturedRest]
    senders: frozenset[str]
    """Connections on which the client's requests were recorded."""


def load_capture(path: str) -> Capture:
    """Read a recording into memory.

    Raises:
        ConfigError: there is no such file.
        CaptureError: a line is not of the format, or the file ends too early.
    """
    if not Path(path).is_file():
        raise ConfigError("", "capture", f"no such file: {path}")
    lines = _lines(path)
    header = _header(path, lines)
    loader = _Loader()
    for number, line in lines:
        try:
            loader.add(msgspec.json.decode(line, type=CaptureRecord))
        except (msgspec.DecodeError, binascii.Error) as error:
            raise CaptureError(path, number, f"not a record: {error}") from error
    seen = dict.fromkeys(frame.connection for frame in loader.frames)
    connections = tuple(header.connections) or tuple(seen) or (SOLE_CONNECTION,)
    senders = frozenset(loader.senders)
    return Capture(header.venue, connections, loader.frames, loader.rests, senders)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise CaptureError(path, number + 1, f"cannot be read on: {error}") from error


def _header(path: str, lines: Iterator[tuple[int, bytes]]) -> CaptureHeader:
    _, line = next(lines, (1, b""))
    try:
        header = msgspec.json.decode(line, type=CaptureHeader)
    except msgspec.DecodeError as error:
        raise CaptureError(path, 1, f"not a header: {error}") from error
    if header.kind != "header" or header.version != FORMAT_VERSION:
        problem = f"not a header of version {FORMAT_VERSION}"
        raise CaptureError(path, 1, problem)
    return header


class _Loader:
    def __init__(self) -> None:
        self.frames: list[CapturedFrame] = []
        self.rests: list[CapturedRest] = []
        self.senders: set[str] = set()
        self._counts: dict[str, int] = {}
        self._start_ns: int | None = None

    def add(self, record: CaptureRecord) -> None:
        if record.kind == "send":
            self.senders.add(record.conn)
        elif record.kind == "rest" and record.url and record.data is not None:
            self.rests.append(CapturedRest(record.url, self._offset(record.ts_ns), record.data))
        elif record.kind == "recv":
            self._add_frame(record)

    def _add_frame(self, record: CaptureRecord) -> None:
        index = self._counts.get(record.conn, 0)
        self._counts[record.conn] = index + 1
        if record.b64 is not None:
            payload, opcode = base64.b64decode(record.b64, validate=True), BINARY
        else:
            payload, opcode = (record.data or "").encode(), TEXT
        offset_ns = self._offset(record.ts_ns)
        self.frames.append(CapturedFrame(record.conn, index, offset_ns, payload, opcode))

    def _offset(self, ts_ns: int | None) -> int:
        if ts_ns is None:
            return len(self.frames) * UNTIMED_STEP_NS
        if self._start_ns is None:
            self._start_ns = ts_ns
        return max(ts_ns - self._start_ns, 0)
