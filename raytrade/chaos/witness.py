"""`Witness`: a strategy that writes down every id it is shown, and when; and the reading of what it wrote.

One file per life of the strategy's process, 29 bytes an entry. What a kill takes away is at most the last
`timer_interval_ns`: the rest has left the process. It does I/O, which a strategy that trades must not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from zlib import crc32

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Channel, Gap, Stalled, Trade
from raytrade.strategy.base import BaseStrategy, Context

_ENTRY = struct.Struct("<qqqIB")
BUFFER_BYTES = 64 * 1024


class What(IntEnum):
    """What an entry tells of."""

    BOOK = 0
    TRADE = 1
    BOOK_GAP = 2
    TRADE_GAP = 3
    STALLED = 4


class Seen(msgspec.Struct, frozen=True):
    """An entry: when it was delivered, what, of which instrument (its CRC-32), the ids (`id_prev` of gaps only)."""

    ts_ns: Nanos
    id_prev: int
    id_last: int
    instrument: int
    what: What


class Witness(BaseStrategy):
    """Writes into `directory`, one file per life."""

    timer_interval_ns: Nanos = 50 * MILLISECOND

    def __init__(self, directory: str) -> None:
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor = -1
        self._buffer = bytearray()
        self._codes: dict[str, int] = {}

    def on_start(self, context: Context) -> None:
        """Open this life's file; its name tells the order of lives."""
        path = self._path / f"{context.now_ns:020d}-{os.getpid()}.seen"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def on_book(self, context: Context, book: L2Book) -> None:
        """Note the state that is shown."""
        self._note(context.now_ns, 0, book.id_last, book.instrument, What.BOOK)

    def on_trade(self, context: Context, trade: Trade) -> None:
        """Note the trade."""
        self._note(context.now_ns, 0, trade.sequence or int(trade.trade_id), trade.instrument, What.TRADE)

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Note what is said to be missing."""
        what = What.BOOK_GAP if gap.channel is Channel.BOOK else What.TRADE_GAP
        self._note(context.now_ns, gap.id_prev, gap.id_last, gap.instrument, what)

    def on_stalled(self, context: Context, stalled: Stalled) -> None:
        """Note that nothing comes any more."""
        self._note(context.now_ns, 0, 0, stalled.instrument, What.STALLED)

    def on_timer(self, context: Context, now_ns: Nanos) -> None:
        """Hand on what was noted."""
        self._write()

    def on_stop(self, context: Context) -> None:
        """Hand on the rest."""
        self._write()

    def _note(self, ts_ns: Nanos, id_prev: int, id_last: int, instrument: str, what: What) -> None:
        code = self._codes.get(instrument)
        if code is None:
            code = self._codes[instrument] = code_of(instrument)
        self._buffer += _ENTRY.pack(ts_ns, id_prev, id_last, code, what)
        if len(self._buffer) >= BUFFER_BYTES:
            self._write()

    def _write(self) -> None:
        if self._buffer:
            os.write(self._descriptor, self._buffer)
            self._buffer.clear()


def code_of(instrument: str) -> int:
    """Give the number that stands for an instrument in the files."""
    return crc32(instrument.encode())


def lives(directory: Path) -> list[Path]:
    """Give the files of a witness, in the order of its lives."""
    return sorted(directory.glob("*.seen"))


def read_life(path: Path) -> Iterator[Seen]:
    """Read a file; an entry that the end of the process has cut is left out."""
    data = path.read_bytes()
    for ts_ns, id_prev, id_last, instrument, what in _ENTRY.iter_unpack(data[: len(data) - len(data) % _ENTRY.size]):
        yield Seen(ts_ns, id_prev, id_last, instrument, What(what))
