"""What an engine counts, and the copy of it that it gives away."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from raytrade.arbitration.stream import LineCounts
from raytrade.core.book import L2Book
from raytrade.core.events import Side
from raytrade.core.metrics import Histogram
from raytrade.strategy.base import Quality


class InstrumentCounts(msgspec.Struct):
    """What the engine took in of one instrument.

    `updates`: deltas applied. `unapplied`: deltas between a gap and its resync. `last_id`: of the book;
    `last_trade_id`: the last trade's sequence, 0 where the venue gives none.
    """

    updates: int = 0
    snapshots: int = 0
    unapplied: int = 0
    trades: int = 0
    gaps: int = 0
    resyncs: int = 0
    stalls: int = 0
    last_id: int = 0
    last_trade_id: int = 0


class InstrumentStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and state of one instrument; `book_hash` is the book's `state_hash()` at `counts.last_id`."""

    counts: InstrumentCounts
    state: str
    levels: int
    book_hash: int
    quality: float
    copies_left: int


class EngineStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of all counts.

    `replicas`: what each link gave. `latency`: from socket to strategy (now - ts_recv_ns) of what was applied
    to books, images aside. `failure`: callback and error of a strategy that raised, else empty.
    """

    name: str
    running: bool
    failure: str
    strategy_errors: int
    fills: int
    rejections: int
    orders: int
    notes_dropped: int
    gauges: dict[str, float]
    instruments: dict[str, InstrumentStatistics]
    replicas: dict[str, LineCounts]
    latency: Histogram


class BookTexts(TypedDict):
    """A book in full depth as canonical decimal text, best first: for checks, not for trading."""

    state: str
    id_last: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


def texts_of(book: L2Book) -> BookTexts:
    """Give the whole book as text, whatever its state."""
    return BookTexts(
        state=book.state.value,
        id_last=book.id_last,
        bids=book.texts(Side.BUY),
        asks=book.texts(Side.SELL),
    )


def statistics_of(counts: InstrumentCounts, book: L2Book, quality: Quality) -> InstrumentStatistics:
    """Give a copy of an instrument's counts with its present state."""
    return InstrumentStatistics(
        counts=msgspec.structs.replace(counts),
        state=book.state.value,
        levels=len(book),
        book_hash=book.state_hash(),
        quality=quality.value,
        copies_left=quality.copies_left,
    )
