"""The strategy of the hosts test: watches that no book goes back, and for how long one stays usable without news."""

from __future__ import annotations

import time

from raytrade import L2Book
from raytrade.strategy.base import BaseStrategy, Context


class Sentinel(BaseStrategy):
    """Gauges: `first_s`, when by the clock the first update came; `stale_ms`, the longest silence of a usable book.

    And `backwards`: books that went back.
    """

    timer_interval_ns = 50_000_000

    def __init__(self) -> None:
        self.heard_ns: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.stale_ns = 0
        self.backwards = 0

    def on_book(self, context: Context, book: L2Book) -> None:
        """Note that the book moved on."""
        if not self.heard_ns:
            context.record("first_s", time.time())
        self.heard_ns[book.instrument] = context.now_ns
        if book.id_last < self.ids.get(book.instrument, 0):
            self.backwards += 1
            context.record("backwards", self.backwards)
        self.ids[book.instrument] = book.id_last

    def on_timer(self, context: Context, now_ns: int) -> None:
        """Measure the silence of each book that says it is usable."""
        for instrument, heard_ns in self.heard_ns.items():
            if context.book(instrument).top() is not None and now_ns - heard_ns > self.stale_ns:
                self.stale_ns = now_ns - heard_ns
                context.record("stale_ms", self.stale_ns / 1e6)
