"""Cross of two moving averages on bars of the mid price: long while the fast one is above the slow one, else short.

Parameters
    instrument  what is traded, e.g. ``binance-spot:BTCUSDT``
    quantity    the position it takes, in the base, as text: ``"0.01"``
    seconds     length of a bar
    fast, slow  how many bars the averages take

Trades at the market when the averages have crossed, once a bar at most. The oldest of all systems, here to show bars:
it pays the taker's fee at each turn and makes nothing in a market without trend.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from raytrade.core.book import L2Book
from raytrade.core.events import Gap, Side
from raytrade.strategy import BaseStrategy, Context
from raytrade.strategy.features import Bars


class MovingAverage(BaseStrategy):
    """Trades one instrument on paper between -quantity and +quantity; its gauges are ``fast`` and ``slow``."""

    def __init__(self, instrument: str, quantity: str, seconds: float = 5.0, fast: int = 3, slow: int = 12) -> None:
        if not 0 < int(fast) < int(slow):
            raise ValueError("fast must be above 0 and below slow")
        self.instrument = instrument
        self.quantity = Decimal(str(quantity))
        self.fast, self.slow = int(fast), int(slow)
        self.bars = Bars(float(seconds))
        self.closes: deque[float] = deque(maxlen=self.slow)

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Begin again: bars across a hole would be invented."""
        if gap.instrument == self.instrument:
            self.closes.clear()

    def on_book(self, context: Context, book: L2Book) -> None:
        """Take the mid; at the end of a bar compare the averages."""
        top = book.top() if book.instrument == self.instrument else None
        bar = None if top is None else self.bars.update(top.mid, context.now_ns)
        if bar is None:
            return
        self.closes.append(bar.close)
        if len(self.closes) == self.slow:
            self.decide(context)

    def decide(self, context: Context) -> None:
        """Hold the position that the averages ask for."""
        fast = sum(list(self.closes)[-self.fast :]) / self.fast
        slow = sum(self.closes) / self.slow
        context.record("fast", fast)
        context.record("slow", slow)
        wanted = self.quantity if fast > slow else -self.quantity
        missing = wanted - context.position(self.instrument)
        if missing and fast != slow:
            context.market(self.instrument, Side.BUY if missing > 0 else Side.SELL, abs(missing))
