"""Strategies that the tests attach; loaded by name in the strategy's own process."""

from __future__ import annotations

import time

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Channel, Gap, Stalled
from raytrade.strategy import BaseStrategy, Context


class Diary(BaseStrategy):
    """Writes down every gap, every stall, and that the book is live again."""

    timer_interval_ns: Nanos = 50_000_000

    def __init__(self) -> None:
        self.in_doubt: set[str] = set()

    def on_book(self, context: Context, book: L2Book) -> None:
        """A book is shown only while it is live."""
        if book.top() is None:
            context.log("shown in doubt")
        if book.instrument in self.in_doubt:
            self.in_doubt.discard(book.instrument)
            context.log("live", id_last=book.id_last)

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Note the range."""
        if gap.channel is Channel.BOOK:
            self._doubt(context, gap.instrument)
            context.log("gap", id_prev=gap.id_prev, id_last=gap.id_last, kind=gap.kind.name)

    def on_stalled(self, context: Context, stalled: Stalled) -> None:
        """Note it."""
        if stalled.channel is Channel.BOOK:
            self._doubt(context, stalled.instrument)
            context.log("stalled")

    def _doubt(self, context: Context, instrument: str) -> None:
        self.in_doubt.add(instrument)
        if context.book(instrument).top() is not None:
            context.log("shown in doubt")


class Slow(BaseStrategy):
    """Takes its time over every book."""

    def __init__(self, busy_ms: int = 20) -> None:
        self.busy_s = busy_ms / 1000

    def on_book(self, context: Context, book: L2Book) -> None:
        """Be busy, as a strategy that computes too much would."""
        end = time.monotonic() + self.busy_s
        while time.monotonic() < end:
            pass


class Picky(BaseStrategy):
    """Refuses to start."""

    def __init__(self, limit: int) -> None:
        raise ValueError(f"limit {limit} is not to my taste")
