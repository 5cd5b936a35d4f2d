"""The demo's strategy: keeps the widest and the tightest spread of each book."""

from __future__ import annotations

from raytrade.core.book import L2Book
from raytrade.strategy.base import BaseStrategy, Context


class SpreadWatch(BaseStrategy):
    """Measures; trades nothing."""

    def __init__(self) -> None:
        self.spreads: dict[str, tuple[float, float]] = {}

    def on_book(self, context: Context, book: L2Book) -> None:
        """Widen the range of spreads seen."""
        top = book.top()
        if top is not None:
            low, high = self.spreads.get(book.instrument, (top.spread, top.spread))
            self.spreads[book.instrument] = (min(low, top.spread), max(high, top.spread))
