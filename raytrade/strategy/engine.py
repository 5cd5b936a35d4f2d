"""`StrategyEngine`: one strategy with all it needs: arbiter over the replicas, books, paper broker, context.

    replica a --+                      +-> L2Book per instrument -> PaperBroker -> Strategy -> orders
    replica b --+-> Filter -> Arbiter -+-> trades, gaps, quality ----------------> Strategy

The owner feeds `receive`, `receive_line_up`, `receive_line_down`, calls `receive_timeout` when `deadline_ns`
has come, and drains `commands` after each. Every message is decoded once, after arbitration. Lines are the
replicas (dedups) that the engine is linked to; what they say of the lines behind them makes the quality.

A strategy that raises is stopped for good, its orders are taken off and `StrategyFailed` says why; the books
and the statistics go on. An engine can be started anew at any time: its first input is an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from raytrade.arbitration import HELD_NS, Arbiter, ArbiterSettings, line_totals
from raytrade.arbitration.stream import RuleBook
from raytrade.arbitration.words import is_retired
from raytrade.core.book import LIVE, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Gap,
    Held,
    Resynced,
    Stalled,
    Trade,
)
from raytrade.core.instrument import Filter, split_instrument
from raytrade.core.members import DELTA, IMAGE, LINE_DOWN, LINE_UP, SNAPSHOT, SPLICE, UNAPPLIED
from raytrade.core.message import Kind, Message, decode
from raytrade.core.metrics import Histogram
from raytrade.errors import InvariantError
from raytrade.strategy.base import Context, Notebook, Strategy
from raytrade.strategy.broker import Broker
from raytrade.strategy.commands import EngineCommand, StrategyHalted, failure_of
from raytrade.strategy.ledger import Fill
from raytrade.strategy.lines import VenueLines
from raytrade.strategy.orders import PaperSettings
from raytrade.strategy.paper import PaperBroker
from raytrade.strategy.statistics import BookTexts, EngineStatistics, statistics_of, texts_of
from raytrade.strategy.tracks import Track, quality_of

Observer = Callable[[Kind, str, int, int, int], None]
"""Told of every applied book message and every trade: kind, instrument, id_prev, id_last, flags."""

HISTORY = "history"
"""The replica that is a recording: while it is up the strategy warms up, and no order is taken."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of an engine."""

    arbiter: ArbiterSettings = ArbiterSettings(held_ns=HELD_NS)
    paper: PaperSettings = PaperSettings()
    notes_max: int = 1000
    gauges_max: int = 1000
    cascade_max: int = 10_000
    """Fills and refusals that follow from answers to others; a strategy that goes in circles is stopped."""


class _Moved(NamedTuple):
    """What moved a book, whether it came as an event or as a message; `was_live` before it."""

    kind: Kind
    id_prev: int
    id_last: int
    flags: int
    line: str
    was_live: bool


class StrategyEngine:
    """Hosts `strategy` over the streams that the filter wants; see the module."""

    book_type = L2Book

    def __init__(
        self,
        name: str,
        strategy: Strategy,
        streams: Filter,
        rules: RuleBook,
        settings: EngineSettings | None = None,
        observer: Observer | None = None,
        broker: Broker | None = None,
    ) -> None:
        """`broker` takes the orders; without one they are filled on paper, here."""
        self.name = name
        self.settings = settings = settings or EngineSettings()
        self.books: dict[str, L2Book] = {}
        self.broker: Broker = broker or PaperBroker(self.books, settings.paper)
        self._strategy = strategy
        self._streams = streams
        self._arbiter = Arbiter(name, rules, settings.arbiter)
        self._notebook = Notebook(name, settings.notes_max, settings.gauges_max)
        self._context = Context(self.broker, self.books, self.open_book, self._notebook)
        self._observer = observer
        self._tracks: dict[str, Track] = {}
        self._venues: dict[str, VenueLines] = {}
        self._commands: list[EngineCommand] = []
        self._latency = Histogram()
        self._timer_due_ns: Nanos | None = None
        self._started = self._stopped = False
        self._errors = self._fills = self._rejections = 0
        self._failure = ""

    # Inputs.

    def start(self, now_ns: Nanos) -> None:
        """Call `on_start` and set the timer; the first input does it too."""
        self._context.now_ns = now_ns
        if self._started:
            return
        self._started = True
        self._call(self._strategy.on_start)
        if (interval_ns := self._strategy.timer_interval_ns) > 0 and self.is_running:
            self._timer_due_ns = now_ns + interval_ns
        self._pump()

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message from the replica `line`."""
        if not self._started:
            self.start(now_ns)
        if self.broker.due_ns is not None:
            self._run_orders(now_ns)
        self._context.now_ns = now_ns
        kind = message.kind
        if kind is not LINE_UP and kind is not LINE_DOWN:
            if not self._streams.accepts(message.instrument, message.channel):
                return
            self._track(message.instrument)
        self._arbiter.receive(line, message, now_ns)
        self._drain(now_ns)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """The link to a replica is open."""
        self._warm(line, is_warming=True)
        self.start(now_ns)
        self._arbiter.receive_line_up(line, now_ns)
        self._drain(now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """The link to a replica is lost; with the last one every stream it carried is stalled."""
        self._warm(line, is_warming=False)
        self.start(now_ns)
        self._arbiter.receive_line_down(line, now_ns)
        self._drain(now_ns)

    def _warm(self, line: str, *, is_warming: bool) -> None:
        if line == HISTORY:
            self._context.is_warming = is_warming
            self.broker.refusing = "the strategy is warming up" if is_warming else ""

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed."""
        self._run_orders(now_ns)
        self.start(now_ns)
        self._arbiter.receive_timeout(now_ns)
        self._drain(now_ns)
        due_ns = self._timer_due_ns
        if due_ns is not None and now_ns >= due_ns:
            interval_ns = max(self._strategy.timer_interval_ns, 1)
            self._timer_due_ns = due_ns + ((now_ns - due_ns) // interval_ns + 1) * interval_ns
            self._call(self._strategy.on_timer, now_ns)
            self._pump()

    def stop(self, now_ns: Nanos) -> None:
        """Call `on_stop` and take off what rests; the strategy is not called again."""
        self.start(now_ns)
        if self.is_running:
            self._call(self._strategy.on_stop)
            self._pump()
        self._end()

    def host(self, strategy: Strategy, now_ns: Nanos) -> None:
        """Go on with another strategy: it is started, books and links stay as they are."""
        self._strategy = strategy
        self._started = self._stopped = False
        self._failure, self._timer_due_ns = "", None
        self.start(now_ns)
        for track in self._tracks.values():
            self._call(strategy.on_quality, track.quality)

    def act(self, callback: Callable[..., None], now_ns: Nanos, *arguments: object) -> None:
        """Call `callback(context, ...)` like one of the strategy's own, and tell what the broker has to tell."""
        self._run_orders(now_ns)
        self.start(now_ns)
        self._context.now_ns = now_ns
        self._call(callback, *arguments)
        self._pump()

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due: for a message held back, a snapshot not come, an order, or the timer."""
        due_ns = self._arbiter.deadline_ns()
        for other_ns in (self._timer_due_ns, self.broker.due_ns):
            if other_ns is not None and (due_ns is None or other_ns < due_ns):
                due_ns = other_ns
        return due_ns

    # Outputs.

    @property
    def is_running(self) -> bool:
        """Whether the strategy is called: it has neither failed nor been stopped."""
        return not self._stopped

    def commands(self) -> list[EngineCommand]:
        """Drain: snapshots wanted (re-open the link for an image), fills, refusals, failures; then notes."""
        drained, self._commands = self._commands, []
        drained.extend(self._notebook.notes())
        return drained

    def statistics(self) -> EngineStatistics:
        """Give a copy of all counts."""
        latency = Histogram()
        latency.merge(self._latency)
        return EngineStatistics(
            name=self.name,
            running=self.is_running,
            failure=self._failure,
            strategy_errors=self._errors,
            fills=self._fills,
            rejections=self._rejections,
            orders=len(self.broker.orders),
            notes_dropped=self._notebook.notes_dropped,
            gauges=dict(self._notebook.gauges),
            instruments={
                name: statistics_of(track.counts, track.book, track.quality) for name, track in self._tracks.items()
            },
            replicas=line_totals(self._arbiter.statistics()),
            latency=latency,
        )

    def book_texts(self) -> dict[str, BookTexts]:
        """Give every book in full depth as text: for checks, not for trading."""
        return {name: texts_of(book) for name, book in self.books.items()}

    def validate(self) -> None:
        """Raise InvariantError where inner states contradict themselves."""
        self._arbiter.validate()
        self.broker.validate()
        for name, track in self._tracks.items():
            track.book.validate()
            if track.doubt and track.book.state is LIVE:
                raise InvariantError(f"{name}: live in spite of doubt ({track.doubt})")

    # Books and trades.

    def open_book(self, instrument: str) -> L2Book:
        """Give the book of an instrument, an empty one where nothing has come of it."""
        return self._track(instrument).book

    def _track(self, instrument: str) -> Track:
        track = self._tracks.get(instrument)
        if track is None:
            lines = self._venues.setdefault(split_instrument(instrument)[0], VenueLines())
            track = self._tracks[instrument] = Track(self.book_type(instrument), lines)
            self.books[instrument] = track.book
        return track

    def _drain(self, now_ns: Nanos) -> None:
        for message in self._arbiter.output():
            kind = message.kind
            if kind is LINE_UP or kind is LINE_DOWN:
                is_up = kind is LINE_UP
                self._hear_of_line(message.instrument, message.line, is_up, is_retired(message))
            else:
                self._take(self._track(message.instrument), message, now_ns)
        self._commands.extend(self._arbiter.commands())

    def _take(self, track: Track, message: Message, now_ns: Nanos) -> None:
        """Take one message of the merged stream."""
        if message.flags & UNAPPLIED:
            track.counts.unapplied += 1
            return
        if message.kind > DELTA:
            self._take_event(track, decode(message), (message.flags, message.line), now_ns)
            return
        if not message.flags & IMAGE:
            self._latency.record(now_ns - message.ts_recv_ns)
        was_live = track.book.state is LIVE
        track.book.take(message)
        id_prev = message.id_prev if message.kind is DELTA else 0
        moved = _Moved(message.kind, id_prev, message.id_last, message.flags, message.line, was_live)
        self._follow(track, moved, now_ns)

    def _take_event(self, track: Track, event: Event, origin: tuple[int, str], now_ns: Nanos) -> None:
        """Take one event of the merged stream; `origin`: its flags, and the line that it came over."""
        if origin[0] & UNAPPLIED:
            track.counts.unapplied += 1
            return
        match event:
            case BookDelta() | BookSnapshot():
                self._apply(track, event, origin, now_ns)
            case Trade():
                self._take_trade(track, event, now_ns)
            case Gap():
                self._take_gap(track, event)
            case Resynced():
                self._take_resynced(track, event, now_ns)
            case Stalled():
                self._take_stalled(track, event)
            case Held():
                self._take_held(track, event)
            case _:
                raise InvariantError(f"{event!r} in the merged stream of {track.book.instrument}")

    def _apply(self, track: Track, event: BookDelta | BookSnapshot, origin: tuple[int, str], now_ns: Nanos) -> None:
        was_live = track.book.state is LIVE
        track.book.apply(event)
        kind, id_prev = (Kind.DELTA, event.id_prev) if isinstance(event, BookDelta) else (Kind.SNAPSHOT, 0)
        self._follow(track, _Moved(kind, id_prev, event.id_last, *origin, was_live), now_ns)

    def _follow(self, track: Track, moved: _Moved, now_ns: Nanos) -> None:
        """The book has moved: count it, and show it if it is live."""
        counts = track.counts
        counts.last_id = moved.id_last
        if moved.kind is SNAPSHOT:
            counts.snapshots += 1
            track.doubt = ""
        else:
            counts.updates += 1
            if track.lines.is_new(moved.line) and not moved.flags & SPLICE:
                track.lines.hear(moved.line, True)
                self._judge_all(track.lines)
        if self._observer is not None:
            self._observer(moved.kind, track.book.instrument, moved.id_prev, moved.id_last, moved.flags)
        if track.book.state is LIVE:
            is_news = track.is_held or not moved.was_live
            track.is_held = False
            self._show(track, is_news, now_ns)

    def _run_orders(self, now_ns: Nanos) -> None:
        """Let the orders act that are due before `now_ns`, each at its own time."""
        while (due_ns := self.broker.due_ns) is not None and due_ns <= now_ns:
            self._context.now_ns = due_ns
            self.broker.receive_timeout(due_ns)
            self._pump()

    def _show(self, track: Track, is_news: bool, now_ns: Nanos) -> None:
        """Show the strategy a live book: first what it fills, then how good it is, then the book itself."""
        self.broker.receive_book(track.book.instrument, now_ns)
        self._pump()
        if is_news:
            self._judge(track)
        self._call(self._strategy.on_book, track.book)
        self._pump()

    def _take_trade(self, track: Track, trade: Trade, now_ns: Nanos) -> None:
        track.counts.trades += 1
        track.counts.last_trade_id = trade.sequence
        self.broker.receive_trade(trade, now_ns)
        self._pump()
        if self._observer is not None:
            ids = max(trade.sequence - 1, 0), trade.sequence
            self._observer(Kind.TRADE, trade.instrument, *ids, trade.flags)
        self._call(self._strategy.on_trade, trade)
        self._pump()

    # Doubt and proof.

    def _take_gap(self, track: Track, gap: Gap) -> None:
        track.counts.gaps += 1
        track.suspect(gap.channel, "gap")
        self._call(self._strategy.on_gap, gap)
        self._judge(track)
        self._pump()

    def _take_stalled(self, track: Track, stalled: Stalled) -> None:
        track.counts.stalls += 1
        track.suspect(stalled.channel, "stalled")
        self._call(self._strategy.on_stalled, stalled)
        self._judge(track)
        self._pump()

    def _take_held(self, track: Track, held: Held) -> None:
        """Something is held back; a replica that is behind what is known here says nothing new."""
        if held.channel is Channel.BOOK and held.id_last >= track.book.id_last:
            track.is_held = True
            self._judge(track)
            self._pump()

    def _take_resynced(self, track: Track, resynced: Resynced, now_ns: Nanos) -> None:
        track.counts.resyncs += 1
        if resynced.channel is Channel.BOOK:
            track.doubt = ""
            track.book.revalidate()
            self.broker.receive_book(track.book.instrument, now_ns)
            self._judge(track)
            self._pump()

    # Quality.

    def _hear_of_line(self, venue: str, line: str, is_up: bool, is_last: bool) -> None:
        """Take word of a line; after its last one it is not missed."""
        lines = self._venues.setdefault(venue, VenueLines())
        if lines.retire(line) if is_last else lines.hear(line, is_up):
            self._judge_all(lines)

    def _judge_all(self, lines: VenueLines) -> None:
        for track in list(self._tracks.values()):
            if track.lines is lines:
                self._judge(track)
        self._pump()

    def _judge(self, track: Track) -> None:
        """Work out the quality, and tell the strategy if it is another."""
        quality = quality_of(track)
        if quality != track.quality:
            track.quality = quality
            self._call(self._strategy.on_quality, quality)

    # The strategy.

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._stopped:
            return
        try:
            callback(self._context, *arguments)
        except Exception as error:  # noqa: BLE001 - the strategy's code is its author's: it ends, all else goes on
            self._fail(getattr(callback, "__name__", "?"), arguments, error)

    def _fail(self, callback: str, arguments: tuple[object, ...], error: Exception) -> None:
        self._errors += 1
        self._failure = f"{callback}: {type(error).__name__}: {error}"
        self._commands.append(failure_of(self.name, callback, arguments, error, self._context.now_ns))
        self._end()

    def _end(self) -> None:
        self._stopped = True
        self._timer_due_ns = None
        self.broker.cancel_all()

    def _pump(self) -> None:
        """Tell the strategy of fills and refusals, and of those that its answers cause, up to a bound.

        Then that it is over, if a limit of risk was passed.
        """
        caused: int | None = None
        while events := self.broker.events():
            for event in events:
                self._commands.append(event)
                if isinstance(event, Fill):
                    self._fills += 1
                    self._call(self._strategy.on_fill, event)
                else:
                    self._rejections += 1
                    self._call(self._strategy.on_rejection, event)
            caused = 0 if caused is None else caused + len(events)
            if caused > self.settings.cascade_max and self.is_running:
                error = RecursionError(f"{caused} fills and refusals followed from answers to others")
                self._fail("on_fill", (), error)
        if not self.broker.halted or self._stopped:
            return
        now_ns = self._context.now_ns
        self._commands.append(StrategyHalted(strategy=self.name, reason=self.broker.halted, ts_halt_ns=now_ns))
        self._failure = f"risk: {self.broker.halted}"
        self._call(self._strategy.on_stop)
        if not self._stopped:
            self._end()
