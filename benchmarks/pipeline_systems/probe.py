"""The strategy that is measured in raytrade: notes every update once it is in the book."""

from __future__ import annotations

import time
from pathlib import Path

from raytrade.core.book import L2Book
from raytrade.core.events import Side
from raytrade.strategy.base import BaseStrategy, Context

from .market import LOTS_PER_UNIT, TICKS_PER_UNIT, Half, digest
from .timelog import AppliedLog


class Probe(BaseStrategy):
    """Logs (id, time) and, after the last update, the digest of the book."""

    def __init__(self, applied: str, digest: str, capacity: int, last_id: int) -> None:
        self._log = AppliedLog(Path(applied), capacity)
        self._digest = Path(digest)
        self._last_id = last_id

    def on_book(self, context: Context, book: L2Book) -> None:
        book.top()
        self._log.append(book.id_last, time.time_ns())
        if book.id_last == self._last_id and not self._digest.exists():
            self._digest.write_text(digest(_half(book, Side.BUY), _half(book, Side.SELL)))


def _half(book: L2Book, side: Side) -> Half:
    return {round(price * TICKS_PER_UNIT): round(size * LOTS_PER_UNIT) for price, size in book.decimals(side)}
