"""Reads captures: raw websocket frames and REST bodies, one JSON object a line, gzip.

The first line is a header, then come `connect`, `send`, `recv` (with text in `data` or bytes in `b64`) and `rest`
records in the order of their local receive time.
"""

from __future__ import annotations

import gzip
import zlib
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec

from raytrade.errors import CaptureError

FORMAT_VERSION = 1
LINE_BYTES_MAX = 128 * 1024 * 1024
"""A line beyond this is damage: the largest frame, written in base64 or with escapes, is well below."""

Time = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Connection = Annotated[str, msgspec.Meta(max_length=60)]


class CaptureHeader(msgspec.Struct, frozen=True):
    """What a capture says of itself."""

    kind: str
    version: int
    venue: str
    symbols: list[str] = []
    channels: list[str] = []
    connections: list[Connection] = []
    redundant: bool = False
    recorded: str | None = None


class CaptureRecord(msgspec.Struct, frozen=True):
    """One line of a capture; `conn` is empty for REST records."""

    kind: str
    ts_ns: Time | None = None
    conn: Connection = ""
    data: str | None = None
    b64: str | None = None
    url: str | None = None

    def frame(self) -> bytes | str:
        """Give the frame as it came over the wire.

        Raises:
            ValueError: its base64 is damaged.
        """
        return b64decode(self.b64, validate=True) if self.b64 is not None else (self.data or "")


_headers = msgspec.json.Decoder(CaptureHeader)
_records = msgspec.json.Decoder(CaptureRecord)
_DAMAGE = (OSError, zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Capture:
    """One capture file.

    Raises:
        CaptureError: the file cannot be opened or does not begin with a header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_total = path.stat().st_size if path.exists() else 0
        self._file: IO[bytes] | None = None
        with self._opened() as lines:
            self.header = self._read_header(lines)

    @property
    def bytes_read(self) -> int:
        """How far into the compressed file the reading has come, for progress bars."""
        return self._file.tell() if self._file is not None and not self._file.closed else self.bytes_total

    def _opened(self) -> gzip.GzipFile:
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise CaptureError(str(self.path), 0, error.strerror or str(error)) from None
        return gzip.GzipFile(fileobj=self._file)

    def _read_header(self, lines: gzip.GzipFile) -> CaptureHeader:
        try:
            header = _headers.decode(lines.readline(LINE_BYTES_MAX))
        except (EOFError, *_DAMAGE) as error:
            raise CaptureError(str(self.path), 1, f"not a capture: {_reason(error)}") from None
        if header.kind != "header" or header.version != FORMAT_VERSION:
            problem = f"not a capture of format version {FORMAT_VERSION}: {header.kind} {header.version}"
            raise CaptureError(str(self.path), 1, problem)
        return header

    def records(self) -> Iterator[CaptureRecord]:
        """Give the records in order.

        Raises:
            CaptureError: the rest of the file cannot be read; what came before is good.
        """
        number = 1
        with self._opened() as lines:
            try:
                lines.readline()
                while line := lines.readline(LINE_BYTES_MAX):
                    number += 1
                    if len(line) == LINE_BYTES_MAX:
                        raise CaptureError(str(self.path), number, f"damaged: longer than {LINE_BYTES_MAX} bytes")
                    yield _records.decode(line)
            except EOFError:
                raise CaptureError(str(self.path), number + 1, "the file ends in the middle") from None
            except _DAMAGE as error:
                raise CaptureError(str(self.path), number, f"damaged: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
