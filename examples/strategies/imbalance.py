"""Follow the weight of the book: long while bids outweigh asks near the touch, short the other way round.

Parameters
    instrument  what is traded, e.g. ``binance-spot:BTCUSDT``
    quantity    the position it takes, in the base, as text: ``"0.01"``
    levels      how many levels a side are weighed
    threshold   imbalance (bids - asks) / (bids + asks), from -1 to 1, from which on it takes a position
    quality     it opens nothing while the book's quality is below this

A limit order at the opposite touch buys or sells what is missing; what has not filled at the next update is
taken off. Assumes that the displayed size is meant and that the order meets it without delay, which real
markets grant to nobody: an example of the interface, not of a way to earn money.
"""

from __future__ import annotations

from decimal import Decimal

from raytrade.core.book import L2Book
from raytrade.core.events import Gap, Side
from raytrade.strategy import BaseStrategy, Context, Fill, Quality


class Imbalance(BaseStrategy):
    """Trades one instrument on paper between -quantity and +quantity; its gauge is ``imbalance``."""

    def __init__(
        self, instrument: str, quantity: str, levels: int = 5, threshold: float = 0.5, quality: float = 0.5
    ) -> None:
        self.instrument = instrument
        self.quantity = Decimal(str(quantity))
        self.levels = int(levels)
        self.threshold = float(threshold)
        self.quality_min = float(quality)
        self.quality = 0.0

    def on_quality(self, context: Context, quality: Quality) -> None:
        """Remember how good the book is."""
        if quality.instrument == self.instrument:
            self.quality = quality.value

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Take off what rests: the book it was placed in is not there any more."""
        self.cancel_orders(context)

    def on_book(self, context: Context, book: L2Book) -> None:
        """Weigh the book and trade the difference to the position that the weight asks for."""
        if book.instrument != self.instrument:
            return
        bids = sum(size for _, size in book.levels(Side.BUY, self.levels))
        asks = sum(size for _, size in book.levels(Side.SELL, self.levels))
        if not bids or not asks:
            return
        imbalance = (bids - asks) / (bids + asks)
        context.record("imbalance", imbalance)
        self.cancel_orders(context)
        if abs(imbalance) >= self.threshold and self.quality >= self.quality_min:
            wanted = self.quantity if imbalance > 0 else -self.quantity
            self.trade(context, book, wanted - context.position(self.instrument))

    def trade(self, context: Context, book: L2Book, difference: Decimal) -> None:
        """Buy (or sell, below zero) the difference at the opposite touch."""
        if difference:
            side, other = (Side.BUY, Side.SELL) if difference > 0 else (Side.SELL, Side.BUY)
            context.limit(self.instrument, side, book.texts(other, 1)[0][0], abs(difference))

    def cancel_orders(self, context: Context) -> None:
        """Take off whatever rests."""
        for order_id in list(context.orders):
            context.cancel(order_id)

    def on_fill(self, context: Context, fill: Fill) -> None:
        """Log the execution."""
        context.log("filled", side=fill.side.name, price=fill.price, quantity=fill.quantity)
