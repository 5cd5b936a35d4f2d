"""A recording as events of hftbacktest 2: one ``.npz`` per day and symbol.

https://hftbacktest.readthedocs.io/en/latest/data.html (read 2026-11-23). Times in nanoseconds, prices and sizes as
floats. Each day begins with the whole book. A whole book is the levels that are gone, with size 0, then its own as
snapshot events. A gap takes every level off, so that a strategy has no touch until the next whole book. Where the
exchange's order differs from ours, an event stands twice, once for each side.

The format demands that nothing arrives before it happened: where the venue's clock was ahead of ours, all receive times
of a file are moved by the largest such lead. A file is built in memory: 64 bytes per level.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Gap, Levels, Side, Trade
from raytrade.core.message import decode
from raytrade.core.prices import POWERS
from raytrade.replay import Timed
from raytrade.storage.day_files import Pending, day_of

EVENTS = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "i8"),
        ("local_ts", "i8"),
        ("px", "f8"),
        ("qty", "f8"),
        ("order_id", "u8"),
        ("ival", "i8"),
        ("fval", "f8"),
    ],
    align=True,
)
"""One event."""

_DEPTH, _TRADE, _SNAPSHOT = 1, 2, 4
_EXCHANGE, _LOCAL = 1 << 31, 1 << 30
_BUY, _SELL = 1 << 29, 1 << 28
_SIDES = {Side.BUY: _BUY, Side.SELL: _SELL, Side.NONE: 0}


def export_hftbacktest(instrument: str, messages: Iterable[Timed], out: Path) -> list[Path]:
    """Write the files of one instrument; `messages` are its book and trades in the order of time.

    Raises:
        OSError: a file cannot be written; then none of them is there.
    """
    name = quote(instrument.replace(":", "_"), safe="")
    with Pending(out) as pending:
        rows, day = _Rows(instrument), ""
        for now_ns, message in messages:
            today = day_of(now_ns)
            if today != day and rows:
                _save(pending.path(f"{name}_{day}.npz"), rows.array())
                rows.begin(now_ns)
            day = today
            rows.take(now_ns, decode(message))
        if rows:
            _save(pending.path(f"{name}_{day}.npz"), rows.array())
    return pending.written


def _save(path: Path, events: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, data=events)


class _Rows:
    """One instrument's events, gathered column by column."""

    def __init__(self, instrument: str) -> None:
        self._book = L2Book(instrument)
        self._columns: tuple[list[int], list[int], list[int], list[float], list[float]] = ([], [], [], [], [])

    def __bool__(self) -> bool:
        return bool(self._columns[0])

    def begin(self, now_ns: Nanos) -> None:
        """Begin a new day with the book as it stands."""
        for column in self._columns:
            column.clear()
        book, self._book = self._book, L2Book(self._book.instrument)
        if book.state is BookState.LIVE:
            times = {"ts_recv_ns": now_ns, "ts_venue_ns": 0}
            self._take_book(now_ns, msgspec.structs.replace(book.snapshot(), **times))

    def take(self, now_ns: Nanos, event: object) -> None:
        """Take an event; one held back counts as received when it was given out, so that receive times rise."""
        match event:
            case Trade():
                if not event.flags & Flag.HISTORY:
                    levels = (event.price, event.size)
                    kind = _TRADE | _SIDES[event.aggressor]
                    self._add(kind, (event.ts_venue_ns, now_ns), levels, (event.price_scale, event.size_scale))
            case BookDelta() | BookSnapshot():
                self._take_book(now_ns, event)
            case Gap(channel=Channel.BOOK):
                self._empty((0, now_ns), L2Book(self._book.instrument))
                self._book = L2Book(self._book.instrument)

    def _take_book(self, now_ns: Nanos, event: BookDelta | BookSnapshot) -> None:
        is_delta = isinstance(event, BookDelta)
        if event.flags & Flag.UNAPPLIED or (is_delta and self._book.state is not BookState.LIVE):
            return
        times, scales = (event.ts_venue_ns, now_ns), (event.price_scale, event.size_scale)
        if not is_delta:
            fresh = L2Book(event.instrument)
            fresh.apply(event)
            self._empty(times, fresh)
        self._book.apply(event)
        kind = _DEPTH if is_delta else _SNAPSHOT
        self._add(kind | _BUY, times, event.bids, scales)
        self._add(kind | _SELL, times, event.asks, scales)

    def _empty(self, times: tuple[Nanos, Nanos], fresh: L2Book) -> None:
        """Take off the levels that the fresh book does not have."""
        book = self._book
        for side in (Side.BUY, Side.SELL):
            kept = {price for price, _ in fresh.texts(side)}
            texts, ticks = book.texts(side), book.levels(side)
            gone = [
                value
                for (text, _), (price, _) in zip(texts, ticks, strict=True)
                if text not in kept
                for value in (price, 0)
            ]
            self._add(_DEPTH | _SIDES[side], times, tuple(gone), (book.price_scale, book.size_scale))

    def _add(self, kind: int, times: tuple[Nanos, Nanos], levels: Levels, scales: tuple[int, int]) -> None:
        count = len(levels) // 2
        price_unit, size_unit = POWERS[scales[0]], POWERS[scales[1]]
        kinds, exchange, local, prices, sizes = self._columns
        kinds += [kind] * count
        exchange += [times[0] or times[1]] * count
        local += [times[1]] * count
        prices += [price / price_unit for price in levels[::2]]
        sizes += [size / size_unit for size in levels[1::2]]

    def array(self) -> np.ndarray:
        """Give the events of the day."""
        events = np.zeros(len(self._columns[0]), EVENTS)
        for name, column in zip(("ev", "exch_ts", "local_ts", "px", "qty"), self._columns, strict=True):
            events[name] = column
        return in_order(events)


def in_order(events: np.ndarray) -> np.ndarray:
    """Give events that came in the order of `local_ts` as the format wants them.

    Where both orders agree an event stands once for exchange and local; elsewhere once in each order.
    """
    lead = int((events["exch_ts"] - events["local_ts"]).max(initial=0))
    events["local_ts"] += max(lead, 0)
    happened = np.argsort(events["exch_ts"], kind="stable")
    agree = happened == np.arange(len(events))
    copies = np.where(agree, 1, 2)
    found = np.repeat(events, copies)
    ends = np.cumsum(copies)
    found["ev"][ends - 1] |= np.where(agree, _EXCHANGE | _LOCAL, _LOCAL).astype(np.uint64)
    firsts = (ends - 2)[~agree]
    found[firsts] = events[happened[~agree]]
    found["ev"][firsts] |= np.uint64(_EXCHANGE)
    return found
