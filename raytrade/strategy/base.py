"""What a strategy is, and what it sees: `Strategy` (its callbacks) and `Context` (its hands).

A strategy is an object with the callbacks below; deriving from `BaseStrategy` makes all of them optional. It
is called by one engine in one thread, never twice at a time, and must do no I/O and read no clock:
`context.now_ns` is the time. Then live, paper and replay give the same decisions for the same input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Gap, Side, Stalled, Trade
from raytrade.strategy.broker import Broker
from raytrade.strategy.ledger import Fill
from raytrade.strategy.orders import Order, Rejection

Plain = str | int | float | bool


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How far an instrument's book can be relied upon.

    `copies_left` is how many of the venue's lines are up. `value` is 0 while the book is not LIVE, else these
    over the most that were up at the same time (1 where no line was heard of). A line that is silent while others
    flow counts as lost until it speaks. While an update is held back for over 50 ms, the value is halved.
    """

    instrument: str
    value: float
    copies_left: int
    reason: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a strategy's log."""

    strategy: str
    text: str
    fields: dict[str, Plain]
    ts_note_ns: Nanos


class Notebook:
    """At most `notes_max` notes (the oldest goes first) and `gauges_max` gauges (the first ones stay)."""

    def __init__(self, strategy: str, notes_max: int, gauges_max: int) -> None:
        self.gauges: dict[str, float] = {}
        self.notes_dropped = 0
        self.gauges_refused = 0
        self._strategy = strategy
        self.waiting: deque[Note] = deque(maxlen=notes_max)
        """What `notes` will give."""
        self._gauges_max = gauges_max

    def write(self, text: str, fields: Mapping[str, object], now_ns: Nanos) -> None:
        """Add a note; a field that is neither text nor number is kept as text."""
        plain = {name: value if isinstance(value, Plain) else str(value) for name, value in fields.items()}
        if len(self.waiting) == self.waiting.maxlen:
            self.notes_dropped += 1
        self.waiting.append(Note(strategy=self._strategy, text=text, fields=plain, ts_note_ns=now_ns))

    def record(self, name: str, value: float | Decimal) -> None:
        """Set a gauge."""
        if name not in self.gauges and len(self.gauges) >= self._gauges_max:
            self.gauges_refused += 1
        else:
            self.gauges[name] = float(value)

    def notes(self) -> list[Note]:
        """Drain the notes."""
        drained = list(self.waiting)
        self.waiting.clear()
        return drained


class Context:
    """A strategy's view of the world and its hands in it; one per strategy, the same in every callback."""

    def __init__(
        self,
        broker: Broker,
        books: dict[str, L2Book],
        open_book: Callable[[str], L2Book],
        notebook: Notebook,
    ) -> None:
        self.now_ns: Nanos = 0
        """The time of the input that is being worked on, nanoseconds since the Unix epoch."""
        self.is_warming = False
        """Whether what is shown is history, played before the live stream (`warmup`): no order is taken meanwhile."""
        self.books = MappingProxyType(books)
        """The books by instrument; to be read, not to be moved."""
        self._broker = broker
        self._open_book = open_book
        self._notebook = notebook

    def book(self, instrument: str) -> L2Book:
        """Give the book of an instrument; SYNCING (`top()` is None) where nothing has come of it."""
        return self._open_book(instrument)

    def limit(self, instrument: str, side: Side, price: str | Decimal, quantity: str | Decimal) -> int:
        """Place a limit order and give its id; `price` in quote per base, `quantity` in the base."""
        return self._broker.limit(instrument, side, price, quantity, self.now_ns)

    def market(self, instrument: str, side: Side, quantity: str | Decimal) -> int:
        """Place a market order and give its id; `quantity` in the base."""
        return self._broker.market(instrument, side, quantity, self.now_ns)

    def cancel(self, order_id: int) -> bool:
        """Take an open order off; tells whether it was still there. With order latency it may fill meanwhile."""
        return self._broker.cancel(order_id, self.now_ns)

    def position(self, instrument: str) -> Decimal:
        """Give the signed quantity held, in the base."""
        return self._broker.position(instrument)

    @property
    def cash(self) -> Decimal:
        """Cash in the quote; a sum of money only where all traded instruments have one quote."""
        return self._broker.cash

    @property
    def orders(self) -> Mapping[int, Order]:
        """The open orders by id: resting or on their way, and not asked to be taken off."""
        return MappingProxyType(self._broker.open_orders())

    def log(self, text: str, /, **fields: object) -> None:
        """Write a note, which whoever runs the engine takes away; the oldest go when there are too many."""
        self._notebook.write(text, fields, self.now_ns)

    def record(self, name: str, value: float | Decimal) -> None:
        """Set a gauge, which shows in the engine's statistics."""
        self._notebook.record(name, value)


@runtime_checkable
class Strategy(Protocol):
    """The callbacks of a strategy, and how often it wants `on_timer` (0: never)."""

    timer_interval_ns: Nanos

    def on_start(self, context: Context) -> None:
        """Prepare; comes before everything else."""

    def on_book(self, context: Context, book: L2Book) -> None:
        """A message was applied to the book, which is LIVE; fills that it caused were told before."""

    def on_trade(self, context: Context, trade: Trade) -> None:
        """A public trade; one flagged HISTORY happened before the subscription."""

    def on_gap(self, context: Context, gap: Gap) -> None:
        """No copy of a range was delivered. A gap of the book channel: its `top()` is None from now on."""

    def on_stalled(self, context: Context, stalled: Stalled) -> None:
        """Every line of a stream is silent or lost. Of the book channel: its `top()` is None from now on."""

    def on_quality(self, context: Context, quality: Quality) -> None:
        """The quality of an instrument's book is another than before."""

    def on_timer(self, context: Context, now_ns: Nanos) -> None:
        """`timer_interval_ns` has passed; times that were missed are not made up for."""

    def on_fill(self, context: Context, fill: Fill) -> None:
        """One of our orders was executed; never comes while another callback is running."""

    def on_rejection(self, context: Context, rejection: Rejection) -> None:
        """An order or a cancel was refused; never comes while another callback is running."""

    def on_stop(self, context: Context) -> None:
        """The last callback; orders that rest are taken off afterwards."""


@runtime_checkable
class Stateful(Protocol):
    """The hooks of a strategy whose own state outlives its process: where it has a standby, or is moved."""

    def save(self, context: Context) -> object:
        """Give the state as plain data (dicts, lists, text, numbers, bytes); None: there is none to keep."""
        ...

    def restore(self, context: Context, state: object) -> None:
        """Go on from what `save` gave; comes after `on_start`, and before the fills that were told since then."""


class BaseStrategy:
    """A strategy that does nothing: derive from it and write the callbacks that are wanted."""

    timer_interval_ns: Nanos = 0

    def on_start(self, context: Context) -> None:
        """Do nothing."""

    def on_book(self, context: Context, book: L2Book) -> None:
        """Do nothing."""

    def on_trade(self, context: Context, trade: Trade) -> None:
        """Do nothing."""

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Do nothing."""

    def on_stalled(self, context: Context, stalled: Stalled) -> None:
        """Do nothing."""

    def on_quality(self, context: Context, quality: Quality) -> None:
        """Do nothing."""

    def on_timer(self, context: Context, now_ns: Nanos) -> None:
        """Do nothing."""

    def on_fill(self, context: Context, fill: Fill) -> None:
        """Do nothing."""

    def on_rejection(self, context: Context, rejection: Rejection) -> None:
        """Do nothing."""

    def on_stop(self, context: Context) -> None:
        """Do nothing."""

    def save(self, context: Context) -> object:
        """Keep nothing."""
        return None

    def restore(self, context: Context, state: object) -> None:
        """Do nothing."""
