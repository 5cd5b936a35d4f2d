"""Strategies that the tests attach; loaded by name in the strategy's own process."""

from __future__ import annotations

import time
from decimal import Decimal

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Channel, Gap, Side, Stalled
from raytrade.strategy import BaseStrategy, Context, Fill

STEP = Decimal("0.001")


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


class Steps(BaseStrategy):
    """Buys a step for every so many ids of the book; what it has bought is its own state.

    A fill that it is not told would have it buy twice, one that is told twice would be seen by its number.
    """

    def __init__(self, instrument: str, every: int = 20) -> None:
        self.instrument, self.every = instrument, every
        self.first, self.fills, self.bought = 0, 0, Decimal(0)

    def on_book(self, context: Context, book: L2Book) -> None:
        """Order what is lacking, less what is under way."""
        if book.instrument != self.instrument:
            return
        self.first = self.first or book.id_last
        under_way = sum((order.remaining for order in context.orders.values()), Decimal(0))
        lacking = STEP * ((book.id_last - self.first) // self.every) - self.bought - under_way
        if lacking < 0:
            raise ValueError(f"{-lacking} too many")
        if lacking > 0:
            context.market(self.instrument, Side.BUY, lacking)
        context.record("lacking", lacking)

    def on_fill(self, context: Context, fill: Fill) -> None:
        """Each comes once, in the order of their numbers."""
        if fill.fill_id != self.fills + 1:
            raise ValueError(f"fill {fill.fill_id} after {self.fills}")
        self.fills, self.bought = fill.fill_id, self.bought + fill.quantity
        context.record("bought", self.bought)

    def save(self, context: Context) -> object:
        """Keep all there is."""
        return [self.first, self.fills, str(self.bought)]

    def restore(self, context: Context, state: object) -> None:
        """Go on."""
        assert isinstance(state, list)
        self.first, self.fills, self.bought = state[0], state[1], Decimal(state[2])
