"""Synthetic messages, an engine driven by hand, and a strategy that writes down what it is told."""

from __future__ import annotations

from typing import Any

from raytrade.arbitration import HELD_NS, ArbiterSettings, Rule, StreamRule
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Flag,
    Gap,
    Held,
    LineDown,
    LineUp,
    Resynced,
    Side,
    Stalled,
    Trade,
)
from raytrade.core.instrument import Filter
from raytrade.core.message import Message, encode, parse
from raytrade.strategy import (
    BaseStrategy,
    Context,
    EngineCommand,
    EngineSettings,
    Fill,
    Quality,
    Rejection,
    Strategy,
    StrategyEngine,
)

BTC = "binance-spot:BTCUSDT"
ETH = "binance-spot:ETHUSDT"
HIT = "hitbtc:BTCUSDT"
T0 = 1_700_000_000 * SECOND
PATIENCE = 3 * SECOND


def rules(instrument: str, channel: Channel) -> StreamRule:
    if channel is Channel.TRADES:
        return StreamRule(rule=Rule.TRADE)
    return StreamRule(rule=Rule.STRICT, contiguous=True)


def message(event: Event, line: str = "osaka/1") -> Message:
    return parse(encode(event, line))


def snapshot(
    id_last: int,
    bids: tuple[int, ...] = (100, 5, 99, 7),
    asks: tuple[int, ...] = (101, 4, 102, 6),
    instrument: str = BTC,
    flags: int = Flag.IMAGE,
    ts_recv_ns: int = T0,
) -> Message:
    """Prices in whole units, sizes in tenths."""
    event = BookSnapshot(
        instrument=instrument,
        id_last=id_last,
        bids=bids,
        asks=asks,
        price_scale=0,
        size_scale=1,
        ts_recv_ns=ts_recv_ns,
        flags=flags,
    )
    return message(event, "dedup")


def delta(
    id_last: int,
    bids: tuple[int, ...] = (),
    asks: tuple[int, ...] = (),
    instrument: str = BTC,
    line: str = "osaka/1",
    ts_recv_ns: int = T0,
) -> Message:
    event = BookDelta(
        instrument=instrument,
        id_prev=id_last - 1,
        id_last=id_last,
        bids=bids,
        asks=asks,
        price_scale=0,
        size_scale=1,
        ts_recv_ns=ts_recv_ns,
    )
    return message(event, line)


def trade(sequence: int, instrument: str = BTC) -> Message:
    event = Trade(
        instrument=instrument,
        trade_id=str(sequence),
        price=100,
        size=1,
        price_scale=0,
        size_scale=1,
        aggressor=Side.BUY,
        sequence=sequence,
        ts_recv_ns=T0,
    )
    return message(event)


def line_up(line: str, venue: str = "binance-spot") -> Message:
    return message(LineUp(venue=venue), line)


def line_down(line: str, venue: str = "binance-spot", cause: str = "lost") -> Message:
    return message(LineDown(venue=venue, cause=cause), line)


def held(id_last: int) -> Message:
    return message(Held(instrument=BTC, channel=Channel.BOOK, id_last=id_last), "dedup")


def stalled(instrument: str = BTC, channel: Channel = Channel.BOOK) -> Message:
    return message(Stalled(instrument=instrument, channel=channel, cause="silence"), "dedup")


def resynced(id_last: int, instrument: str = BTC) -> Message:
    return message(Resynced(instrument=instrument, channel=Channel.BOOK, id_last=id_last), "dedup")


class Diary(BaseStrategy):
    """Writes down every callback as (name, what)."""

    def __init__(self, timer_interval_ns: int = 0) -> None:
        self.timer_interval_ns = timer_interval_ns
        self.entries: list[tuple[str, Any]] = []
        self.context: Context | None = None

    def names(self) -> list[str]:
        return [name for name, _ in self.entries]

    def of(self, name: str) -> list[Any]:
        return [what for key, what in self.entries if key == name]

    def on_start(self, context: Context) -> None:
        self.context = context
        self.entries.append(("start", context.now_ns))

    def on_book(self, context: Context, book: L2Book) -> None:
        assert book.top() is not None
        self.entries.append(("book", (book.instrument, book.id_last)))

    def on_trade(self, context: Context, trade: Trade) -> None:
        self.entries.append(("trade", trade.sequence))

    def on_gap(self, context: Context, gap: Gap) -> None:
        assert gap.channel is Channel.TRADES or context.book(gap.instrument).top() is None
        self.entries.append(("gap", (gap.id_prev, gap.id_last)))

    def on_stalled(self, context: Context, stalled: Stalled) -> None:
        self.entries.append(("stalled", (stalled.instrument, stalled.channel)))

    def on_quality(self, context: Context, quality: Quality) -> None:
        self.entries.append(("quality", quality))

    def on_timer(self, context: Context, now_ns: int) -> None:
        assert context.now_ns == now_ns
        self.entries.append(("timer", now_ns - T0))

    def on_fill(self, context: Context, fill: Fill) -> None:
        self.entries.append(("fill", fill))

    def on_rejection(self, context: Context, rejection: Rejection) -> None:
        self.entries.append(("rejection", rejection))

    def on_stop(self, context: Context) -> None:
        self.entries.append(("stop", context.now_ns))


class Rig:
    """An engine with its clock; drains the commands after each input, as its owner must."""

    def __init__(
        self, strategy: Strategy, *globs: str, settings: EngineSettings | None = None, observed: bool = False
    ) -> None:
        self.now_ns = T0
        self.commands: list[EngineCommand] = []
        self.seen: list[tuple[int, str, int, int, int]] = []
        settings = settings or EngineSettings(arbiter=ArbiterSettings(hold_back_ns_max=SECOND, held_ns=HELD_NS))
        observer = (lambda *fact: self.seen.append(fact)) if observed else None
        self.engine = StrategyEngine("test", strategy, Filter(*globs), rules, settings, observer)

    def receive(self, line: str, *messages: Message) -> None:
        for item in messages:
            self.now_ns += MILLISECOND
            self.engine.receive(line, item, self.now_ns)
            self._drain()

    def up(self, *lines: str) -> None:
        for line in lines:
            self.engine.receive_line_up(line, self.now_ns)
            self._drain()

    def down(self, line: str) -> None:
        self.engine.receive_line_down(line, self.now_ns)
        self._drain()

    def wait(self, duration_ns: int = PATIENCE) -> None:
        """Let the time pass, with every timeout on the way."""
        end_ns = self.now_ns + duration_ns
        while (due_ns := self.engine.deadline_ns()) is not None and due_ns <= end_ns:
            self.now_ns = max(due_ns, self.now_ns)
            self.engine.receive_timeout(self.now_ns)
            self._drain()
        self.now_ns = end_ns

    def of(self, kind: type) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]

    @property
    def book(self) -> L2Book:
        return self.engine.books[BTC]

    def _drain(self) -> None:
        self.commands += self.engine.commands()
        self.engine.validate()
