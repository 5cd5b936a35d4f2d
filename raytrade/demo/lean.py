"""The strategy that trades in a demo that stays: it follows the weight of one book, on paper."""

from __future__ import annotations

from decimal import Decimal

from raytrade.core.book import L2Book
from raytrade.core.events import Side
from raytrade.strategy.base import BaseStrategy, Context

INSTRUMENT = "binance-spot:BTCUSDT"
QUANTITY = Decimal("0.01")
LEVELS = 5
THRESHOLD = 0.6


class Lean(BaseStrategy):
    """Is long while bids outweigh asks by far, short the other way round; no way to earn money."""

    def on_book(self, context: Context, book: L2Book) -> None:
        """Trade the difference to the position that the book's weight asks for."""
        if book.instrument != INSTRUMENT or book.top() is None:
            return
        bids = sum(size for _, size in book.levels(Side.BUY, LEVELS))
        asks = sum(size for _, size in book.levels(Side.SELL, LEVELS))
        weight = (bids - asks) / (bids + asks)
        if abs(weight) < THRESHOLD:
            return
        for order_id in list(context.orders):
            context.cancel(order_id)
        missing = (QUANTITY if weight > 0 else -QUANTITY) - context.position(INSTRUMENT)
        if missing:
            side, other = (Side.BUY, Side.SELL) if missing > 0 else (Side.SELL, Side.BUY)
            context.limit(INSTRUMENT, side, book.texts(other, 1)[0][0], abs(missing))
