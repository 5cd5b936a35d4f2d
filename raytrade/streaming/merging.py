"""`Merger`: the arbiter of all lines, the books, and a bounded queue for one consumer. Pure.

A consumer that does not keep up loses what waits, never order: next it gets a `Gap` of kind `SLOW_CONSUMER` for each
stream, the books as they are then, and goes on from there.
"""

from __future__ import annotations

from collections import deque

from raytrade.arbitration import Arbiter, ArbiterSettings, SnapshotWanted, line_totals
from raytrade.arbitration.stream import LineCounts
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Gap,
    GapKind,
    LineDown,
    LineUp,
    Resynced,
    Stalled,
    Trade,
)
from raytrade.core.message import decode, encode, parse
from raytrade.rules import rule_of

QUEUE_EVENTS_MAX = 10_000


class Merger:
    """Merges what lines deliver; `next_event` gives one event after the other, None where there is none now."""

    def __init__(self, name: str = "stream", queue_events_max: int = QUEUE_EVENTS_MAX) -> None:
        self.books: dict[str, L2Book] = {}
        """As of the newest event that was received, which the consumer may not have taken yet."""
        self.overruns = 0
        self._arbiter = Arbiter(name, rule_of, ArbiterSettings())
        self._queue: deque[Event] = deque()
        self._queue_max = queue_events_max
        self._given: dict[tuple[str, Channel], int] = {}
        self._is_behind = False

    # From the lines.

    def receive(self, line: str, events: list[Event], now_ns: Nanos) -> None:
        """Take what a line delivered."""
        for event in events:
            self._arbiter.receive(line, parse(encode(event, line)), now_ns)
        self._collect()

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed."""
        self._arbiter.receive_timeout(now_ns)
        self._collect()

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due."""
        return self._arbiter.deadline_ns()

    def commands(self) -> list[SnapshotWanted]:
        """Drain the requests for snapshots."""
        return self._arbiter.commands()

    def statistics(self) -> dict[str, LineCounts]:
        """Give what each line gave: wins, duplicates, gaps, lead."""
        return line_totals(self._arbiter.statistics())

    def _collect(self) -> None:
        for message in self._arbiter.output():
            event = decode(message)
            self._follow(event)
            if not self._is_behind:
                self._queue.append(event)
        if len(self._queue) > self._queue_max:
            self._queue.clear()
            self._is_behind = True
            self.overruns += 1

    def _follow(self, event: Event) -> None:
        match event:
            case BookSnapshot() | BookDelta():
                self._book(event.instrument).apply(event)
            case Gap(channel=Channel.BOOK) | Stalled(channel=Channel.BOOK):
                self._book(event.instrument).invalidate()
            case Resynced(channel=Channel.BOOK):
                self._book(event.instrument).revalidate()

    def _book(self, instrument: str) -> L2Book:
        book = self.books.get(instrument)
        if book is None:
            book = self.books[instrument] = L2Book(instrument)
        return book

    # To the consumer.

    def next_event(self, now_ns: Nanos) -> Event | None:
        """Give the next event, or None."""
        if self._is_behind:
            self._begin_anew(now_ns)
        if not self._queue:
            return None
        event = self._queue.popleft()
        match event:
            case BookSnapshot() | BookDelta():
                self._given[event.instrument, Channel.BOOK] = event.id_last
            case Trade():
                self._given[event.instrument, Channel.TRADES] = event.sequence
            case LineUp() | LineDown() | Gap() | Resynced() | Stalled():
                pass
        return event

    def _begin_anew(self, now_ns: Nanos) -> None:
        self._is_behind = False
        cause = f"more than {self._queue_max} events were waiting to be taken"
        for (instrument, channel), id_prev in self._given.items():
            book = self.books.get(instrument) if channel is Channel.BOOK else None
            gap = Gap(
                instrument=instrument,
                channel=channel,
                kind=GapKind.SLOW_CONSUMER,
                id_prev=id_prev,
                id_last=book.id_last if book is not None else 0,
                cause=cause,
                ts_recv_ns=now_ns,
            )
            self._queue.append(gap)
        self._queue.extend(book.snapshot() for book in self.books.values() if book.state is BookState.LIVE)
