"""`ReplayEngine`: a `StrategyEngine` that also takes a stream which is merged already, as a recording is.

Nothing is arbitrated again: events go straight to the books, and whole runs of plain deltas
(`raytrade.core.delta_run`) come at once. The strategy sees what it would see of the same events one by one.
"""

from __future__ import annotations

from raytrade.arbitration.stream import RuleBook
from raytrade.core.book import BookState
from raytrade.core.clock import Nanos
from raytrade.core.delta_run import DeltaRun
from raytrade.core.events import RETIRED, BookDelta, Channel, Event, Gap, LineDown, LineUp, Trade
from raytrade.core.instrument import Filter
from raytrade.core.lagging_book import LaggingBook
from raytrade.strategy.base import Strategy
from raytrade.strategy.engine import EngineSettings, StrategyEngine
from raytrade.strategy.paper import PaperBroker
from raytrade.strategy.tracks import Track


class ReplayEngine(StrategyEngine):
    """The engine of replays and backtests; see the module."""

    book_type = LaggingBook

    def __init__(
        self, name: str, strategy: Strategy, streams: Filter, rules: RuleBook, settings: EngineSettings | None = None
    ) -> None:
        super().__init__(name, strategy, streams, rules, settings)
        assert isinstance(self.broker, PaperBroker)
        self._paper = self.broker
        self._on_book = strategy.on_book
        self._merged: dict[str, Track] = {}

    @property
    def has_commands(self) -> bool:
        """Whether `commands` would give any."""
        return bool(self._commands or self._notebook.waiting)

    @property
    def wake_ns(self) -> Nanos | None:
        """When `receive_timeout` is due, where all is fed by `receive_merged`: for an order, or the timer."""
        timer_ns, order_ns = self._timer_due_ns, self.broker.due_ns
        if timer_ns is None or order_ns is None:
            return order_ns if timer_ns is None else timer_ns
        return min(timer_ns, order_ns)

    def receive_merged(self, line: str, event: Event, now_ns: Nanos) -> None:
        """Take an event of a stream that is merged already, as a recording is: nothing is arbitrated again."""
        if not self._started:
            self.start(now_ns)
        broker, track = self.broker, self._merged.get(event.instrument)  # type: ignore[union-attr]
        if broker.due_ns is not None:
            self._run_orders(now_ns)
        self._context.now_ns = now_ns
        if track is None or type(event) is not BookDelta or event.flags or track.book.state is not BookState.LIVE:
            self._receive_rarer(line, event, now_ns)
            return
        track.book.apply(event)
        track.counts.updates += 1
        track.counts.last_id = event.id_last
        broker.receive_book(event.instrument, now_ns)
        if broker.news or broker.halted:
            self._pump()
        if not self._stopped:
            try:
                self._on_book(self._context, track.book)
            except Exception as error:  # noqa: BLE001 - as in `_call`, without the call
                self._fail("on_book", (track.book,), error)
        if broker.news or broker.halted:
            self._pump()

    def receive_run(self, line: str, run: DeltaRun, first: int, last: int, delay_ns: Nanos) -> int:
        """Take deltas of a merged stream, each `delay_ns` after its time, as `receive_merged` takes them one by one.

        Ends before `last` behind one that leads to commands, and before one that `wake_ns` comes before; takes at
        least one. Gives the place of the next.
        """
        track = self._merged.get(run.instrument)
        if track is None or not isinstance(book := track.book, LaggingBook) or not book.follow(run, first):
            self.receive_merged(line, run.event(first), run.times[first] + delay_ns)
            return first + 1
        broker, context, commands, notes = self._paper, self._context, self._commands, self._notebook.waiting
        times, ids, venue_ns, recv_ns = run.times, run.id_last, run.ts_venue_ns, run.ts_recv_ns
        on_book, orders, shown, watches = self._on_book, broker.orders, broker.shown, broker.watches
        timer_ns, at = self._timer_due_ns, first
        while at < last:
            now_ns = times[at] + delay_ns
            due_ns = broker.due_ns if timer_ns is None else self.wake_ns
            if due_ns is not None and due_ns <= now_ns and at > first:
                break
            context.now_ns = now_ns
            book.id_last, book.ts_venue_ns, book.ts_recv_ns = ids[at], venue_ns[at], recv_ns[at]
            at += 1
            book.shown = at
            if orders or shown or watches:
                broker.receive_book(run.instrument, now_ns)
                if broker.news or broker.halted:
                    self._pump()
            if not self._stopped:
                try:
                    on_book(context, book)
                except Exception as error:  # noqa: BLE001 - as in `_call`, without the call
                    self._fail("on_book", (book,), error)
            if broker.news or broker.halted:
                self._pump()
            if commands or notes:
                break
        track.counts.updates += at - first
        track.counts.last_id = book.id_last
        return at

    def _receive_rarer(self, line: str, event: Event, now_ns: Nanos) -> None:
        """Take a merged event that is not a plain delta of a LIVE book that is wanted and known."""
        if isinstance(event, LineUp | LineDown):
            is_last = isinstance(event, LineDown) and event.cause == RETIRED
            self._hear_of_line(event.venue, line, isinstance(event, LineUp), is_last)
            return
        channel = Channel.TRADES if isinstance(event, Trade) else getattr(event, "channel", Channel.BOOK)
        if self._streams.accepts(event.instrument, channel):
            track = self._track(event.instrument)
            self._take_event(track, event, (0 if isinstance(event, Gap) else getattr(event, "flags", 0), line), now_ns)
            if channel is Channel.BOOK and track.lines.heard.get(line):
                self._merged[event.instrument] = track
