"""Strategies for backtests in tests; parameters show in what they do."""

from __future__ import annotations

from collections import Counter

from raytrade.core.book import L2Book
from raytrade.core.events import Side
from raytrade.strategy import BaseStrategy, Context


class Quoter(BaseStrategy):
    """Rests one order a side at the touch, anew every `every` books."""

    def __init__(self, quantity: str = "0.1", every: int = 10) -> None:
        self.quantity, self.every = str(quantity), int(every)
        self.counts: Counter[str] = Counter()

    def on_book(self, context: Context, book: L2Book) -> None:
        """Quote."""
        self.counts[book.instrument] += 1
        top = book.top()
        if top is None or self.counts[book.instrument] % self.every:
            return
        for order_id, order in list(context.orders.items()):
            if order.instrument == book.instrument:
                context.cancel(order_id)
        for side in (Side.BUY, Side.SELL):
            context.limit(book.instrument, side, book.texts(side, 1)[0][0], self.quantity)


class Taker(BaseStrategy):
    """Buys and sells in turn at the market."""

    def __init__(self, quantity: str = "0.1", fails_at: int = 0) -> None:
        self.quantity, self.fails_at, self.count = str(quantity), int(fails_at), 0

    def on_book(self, context: Context, book: L2Book) -> None:
        """Trade every 20th book."""
        self.count += 1
        if self.count == self.fails_at:
            raise RuntimeError("no luck")
        if self.count % 20 == 0:
            context.market(book.instrument, Side.BUY if self.count % 40 else Side.SELL, self.quantity)
