"""One backtest: a recording through the strategy's engine, which is the one that runs it live.

Constant feed latency moves the strategy's clock: it lives `feed_latency_ns` behind the market. An order decided at s
acts on the market at s + order latency, which the strategy sees at s + order latency + feed latency: that is when the
order is let act on the book as the strategy sees it, and when the fill is told. One book serves both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from decimal import Decimal, localcontext
from pathlib import Path

import msgspec

from raytrade.backtest.results import Curve, Figures, InstrumentFigures, OutputHash, Result
from raytrade.backtest.settings import BacktestSettings
from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.delta_run import DeltaRun, Part
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.instrument import Filter
from raytrade.core.prices import POWERS
from raytrade.errors import ConfigError
from raytrade.replay import EventPlayer
from raytrade.rules import rule_of
from raytrade.storage.recording import Recording, open_recording
from raytrade.storage.site import Site
from raytrade.storage.source import TimedItem
from raytrade.storage.times import instant_text
from raytrade.strategy.commands import EngineCommand, StrategyFailed, StrategyHalted
from raytrade.strategy.engine import EngineSettings
from raytrade.strategy.ledger import EXACT, ZERO, Account, Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.orders import Rejection
from raytrade.strategy.replay_engine import ReplayEngine

FILLS_KEPT = 100_000
"""Fills that stand in the result; all of them count and are in the hash."""


def run(settings: BacktestSettings, recording: Recording | None = None) -> Result:
    """Run one backtest to its end, or until the strategy raises.

    Raises:
        ConfigError: strategy, parameters or interval are wrong, or nothing is recorded in the interval.
        StorageError: a segment cannot be read.
    """
    if recording is None:
        recording = open_recording(Path(settings.data))
    backtest = Backtest(settings, interval_of(settings, recording))
    site = Site(recording.directory, settings.site) if settings.site else None
    interval = settings.start_ns, settings.end_ns
    if site is None:
        backtest.play(recording.timed_runs(*interval, settings.instruments, images=True))
    else:
        backtest.play(recording.timed_events(*interval, settings.instruments, images=True, site=site))
    return backtest.result()


def interval_of(settings: BacktestSettings, recording: Recording) -> tuple[Nanos, Nanos]:
    """Give first and last time of what is recorded in the interval that is asked for.

    Raises:
        ConfigError: nothing is.
    """
    messages = recording.messages(settings.start_ns, settings.end_ns, settings.instruments)
    first = next(messages, None)
    if first is None:
        wanted = [instant_text(at) if at is not None else "..." for at in (settings.start_ns, settings.end_ns)]
        raise ConfigError("", " to ".join(wanted), f"nothing is recorded then in {settings.data}")
    last_ns = recording.end_ns() if settings.end_ns is None else min(settings.end_ns, recording.end_ns())
    return first[0], max(last_ns, first[0])


class Backtest:
    """A strategy on its way through a recording."""

    def __init__(self, settings: BacktestSettings, interval: tuple[Nanos, Nanos]) -> None:
        self.settings = settings
        paper = settings.paper
        latency_ns = paper.order_latency_ns + settings.feed_latency_ns
        paper = msgspec.structs.replace(paper, order_latency_ns=latency_ns)
        strategy = load_strategy(settings.strategy, settings.parameters)
        streams = Filter(*settings.instruments)
        self.engine = ReplayEngine(settings.name, strategy, streams, rule_of, EngineSettings(paper=paper))
        self._player = EventPlayer(self.engine)
        self._hash = OutputHash()
        self._sampler = _Sampler(self.engine, interval, settings)
        self._fills: list[Fill] = []
        self._fills_made = self._maker_fills = self._rejections = 0
        self._messages = self._levels = 0
        self._interval = interval
        self._stopped = self._traceback = ""

    def play(self, items: Iterable[TimedItem]) -> None:
        """Feed the engine; ends early when the strategy has raised."""
        feed_ns = self.settings.feed_latency_ns
        for now_ns, item in items:
            if isinstance(item, Part):
                self._play_run(*item)
            else:
                self._sample_until(now_ns + feed_ns)
                self._messages += 1
                if isinstance(item, BookDelta | BookSnapshot):
                    self._levels += (len(item.bids) + len(item.asks)) // 2
                self._take(self._player.play_event(now_ns + feed_ns, item))
            if self._traceback:
                break
        self._take(self._player.finish())
        self._sampler.finish()

    def _play_run(self, run: DeltaRun, first: int, last: int) -> None:
        """Feed the engine a run in pieces between which the curve is looked at."""
        feed_ns, at = self.settings.feed_latency_ns, first
        while at < last and not self._traceback:
            self._sample_until(run.times[at] + feed_ns)
            stop = bisect_right(run.times, self._sampler.due_ns - feed_ns, at, last)
            at, commands = self._player.play_run(run, at, stop, feed_ns)
            self._take(commands)
        self._messages += at - first
        self._levels += run.level_count(first, at)

    def _sample_until(self, seen_ns: Nanos) -> None:
        while seen_ns > self._sampler.due_ns:
            self._sampler.take()

    def _take(self, commands: list[EngineCommand]) -> None:
        for command in commands:
            self._hash.update(_without_place(command))
            if isinstance(command, Fill):
                self._fills_made += 1
                self._maker_fills += command.is_maker
                if len(self._fills) < FILLS_KEPT:
                    self._fills.append(command)
            elif isinstance(command, Rejection):
                self._rejections += 1
            elif isinstance(command, StrategyFailed):
                where = f"{command.callback} {command.subject}".strip()
                self._stopped = f"{where} at {instant_text(command.ts_fail_ns)}{command.event}: {command.error}"
                self._traceback = command.traceback
            elif isinstance(command, StrategyHalted):
                self._stopped = f"risk at {instant_text(command.ts_halt_ns)}: {command.reason}"

    def result(self) -> Result:
        """Give what has come of it.

        Raises:
            InvariantError: the ledger contradicts itself.
        """
        self.engine.validate()
        broker, curve = self.engine.broker, self._sampler.curve
        marks = self._sampler.marks
        instruments = {name: _figures_of(account, marks.get(name)) for name, account in sorted(broker.accounts.items())}
        with localcontext(EXACT):
            figures = Figures(
                profit=broker.profit(marks),
                fees=sum((one.fees for one in instruments.values()), ZERO),
                turnover=sum((one.turnover for one in instruments.values()), ZERO),
                drawdown_max=max(curve.drawdown(), default=ZERO),
                sharpe=curve.sharpe(),
                fills=self._fills_made,
                maker_fills=self._maker_fills,
                rejections=self._rejections,
                messages=self._messages,
                levels=self._levels,
                first_ns=self._interval[0],
                last_ns=self._interval[1],
            )
        books = {name: book.state_hash(0) for name, book in sorted(self.engine.books.items())}
        for part in (figures, instruments, curve, books):
            self._hash.update(part)
        return Result(
            settings=self.settings,
            figures=figures,
            instruments=instruments,
            curve=curve,
            fills=self._fills,
            fills_left_out=self._fills_made - len(self._fills),
            gauges=dict(sorted(self.engine.statistics().gauges.items())),
            hash=self._hash.text(),
            stopped=self._stopped,
            traceback=self._traceback,
        )


def _without_place(command: EngineCommand) -> EngineCommand:
    """Leave out what depends on where the strategy's file lies."""
    is_failure = isinstance(command, StrategyFailed)
    return msgspec.structs.replace(command, traceback="") if is_failure else command


def _figures_of(account: Account, mark: Decimal | None) -> InstrumentFigures:
    with localcontext(EXACT):
        return InstrumentFigures(
            fills=account.fills,
            position=account.position,
            cash=account.cash,
            fees=account.fees,
            realised=account.realised,
            unrealised=ZERO if mark is None else account.unrealised(mark),
            turnover=account.bought_notional + account.sold_notional,
            mark=mark,
        )


class _Sampler:
    """Looks at account and books at points of equal distance."""

    def __init__(self, engine: ReplayEngine, interval: tuple[Nanos, Nanos], settings: BacktestSettings) -> None:
        first_ns, last_ns = (at + settings.feed_latency_ns for at in interval)
        self.curve = Curve()
        self.marks: dict[str, Decimal] = {}
        self._engine = engine
        self._step_ns = max(-(-(last_ns - first_ns) // (settings.curve_points - 1)), 1)
        self.due_ns = first_ns

    def take(self) -> None:
        """Take the sample that is due."""
        engine, curve = self._engine, self.curve
        count = len(curve.ts_ns)
        for name, book in engine.books.items():
            top = book.top()
            if top is not None:
                self.marks[name] = _mid(book, top.bid_ticks, top.ask_ticks)
            if name not in curve.bids:
                curve.bids[name], curve.asks[name] = [None] * count, [None] * count
                curve.positions[name] = [ZERO] * count
            curve.bids[name].append(None if top is None else top.bid)
            curve.asks[name].append(None if top is None else top.ask)
            curve.positions[name].append(engine.broker.position(name))
        curve.ts_ns.append(self.due_ns)
        curve.profit.append(engine.broker.profit(self.marks))
        self.due_ns += self._step_ns

    def finish(self) -> None:
        """Take the last sample: what came of it in the end."""
        self.take()


def _mid(book: L2Book, bid: int, ask: int) -> Decimal:
    return EXACT.divide(Decimal(bid + ask), Decimal(2 * POWERS[book.price_scale]))
