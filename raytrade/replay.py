"""Replay: recorded streams merged in the order of time, fed to a strategy's engine, and named by a hash.

Pure: time is that of the recording, whoever runs it decides how fast. The same streams give the same sequence, the same
callbacks and the same hash, in any process.

The order: by time, then by instrument and channel; inside one stream the order is the recording's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from heapq import heappop, heappush, heapreplace
from heapq import merge as merge_sorted
from typing import TypeVar

from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.delta_run import DeltaRun, Part
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Gap, Resynced, Stalled
from raytrade.core.message import Message
from raytrade.strategy.commands import EngineCommand
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.replay_engine import ReplayEngine

DRAIN_NS: Nanos = 5 * SECOND
"""After the last message time runs on this long, so that what an arbiter holds back is decided."""

NOTHING: list[EngineCommand] = []
TIMER_STEPS_MAX = 100_000
"""Timers run between two messages; a pause that asks for more is between recordings, not in one."""

StreamKey = tuple[str, Channel]
Timed = tuple[Nanos, Message]
"""A message and its time: never earlier than the message before it."""


_Item = TypeVar("_Item")


def merge(streams: Mapping[StreamKey, Iterable[tuple[Nanos, _Item]]]) -> Iterator[tuple[Nanos, _Item]]:
    """Merge streams, each in the order of its times, holding one message of each."""
    ranked = [_ranked(rank, streams[key]) for rank, key in enumerate(sorted(streams))]
    if len(ranked) == 1:
        return iter(next(iter(streams.values())))
    return ((now_ns, message) for now_ns, _, message in merge_sorted(*ranked))


def _ranked(rank: int, stream: Iterable[tuple[Nanos, _Item]]) -> Iterator[tuple[Nanos, int, _Item]]:
    """Two heads never have the same rank, so messages are never compared."""
    for now_ns, message in stream:
        yield now_ns, rank, message


def merge_runs(
    streams: Mapping[StreamKey, Iterable[tuple[Nanos, _Item | Part]]],
) -> Iterator[tuple[Nanos, _Item | Part]]:
    """Merge streams as `merge` does, where parts of runs stand among their items; cuts a part where another comes in.

    The time of a part is that of its first delta.
    """
    heads: list[tuple[Nanos, int, _Item | Part, Iterator[tuple[Nanos, _Item | Part]]]] = []
    for rank, key in enumerate(sorted(streams)):
        _push(heads, rank, iter(streams[key]))
    while heads:
        now_ns, rank, item, stream = heads[0]
        if isinstance(item, Part) and len(heads) > 1:
            other_ns, other_rank, *_ = min(heads[1:3])
            bisect = bisect_right if rank < other_rank else bisect_left
            run, first, last = item
            end = bisect(run.times, other_ns, first, last)
            yield now_ns, Part(run, first, end)
            if end < last:
                heapreplace(heads, (run.times[end], rank, Part(run, end, last), stream))
                continue
        else:
            yield now_ns, item
        heappop(heads)
        _push(heads, rank, stream)


def _push(
    heads: list[tuple[Nanos, int, _Item | Part, Iterator[tuple[Nanos, _Item | Part]]]],
    rank: int,
    stream: Iterator[tuple[Nanos, _Item | Part]],
) -> None:
    """Two heads never have the same rank, so items are never compared."""
    head = next(stream, None)
    if head is not None:
        heappush(heads, (head[0], rank, head[1], stream))


def between(
    items: Iterable[tuple[Nanos, _Item | Part]], start_ns: Nanos, end_ns: Nanos
) -> Iterator[tuple[Nanos, _Item | Part]]:
    """Give what has a time from `start_ns` to before `end_ns`, cutting parts; times never step back."""
    for now_ns, item in items:
        if now_ns >= end_ns:
            return
        if not isinstance(item, Part):
            if now_ns >= start_ns:
                yield now_ns, item
            continue
        run, first, last = item
        first, last = bisect_left(run.times, start_ns, first, last), bisect_left(run.times, end_ns, first, last)
        if first < last:
            yield run.times[first], Part(run, first, last)


def apply(book: L2Book, event: Event) -> None:
    """Move a book by an event of its instrument: a gap or stall makes it STALE, a snapshot or its end LIVE."""
    match event:
        case BookDelta() | BookSnapshot():
            book.apply(event)
        case Gap(channel=Channel.BOOK) | Stalled(channel=Channel.BOOK):
            book.invalidate()
        case Resynced(channel=Channel.BOOK):
            book.revalidate()


class StreamHash:
    """Names the content of a stream of messages: times, names, ids and levels; 128 bits as hexadecimal digits."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def update(self, now_ns: Nanos, message: Message) -> None:
        """Take one message in."""
        self._hash.update(now_ns.to_bytes(8, "little", signed=True))
        self._hash.update(message.raw)

    def text(self) -> str:
        """Give the hash of all messages so far."""
        return self._hash.hexdigest()


class Player:
    """Feeds a merged recording to an engine as from one replica, and runs the engine's timers on the way."""

    def __init__(self, engine: StrategyEngine, line: str = "recording") -> None:
        self.engine = engine
        self._line = line
        self._now_ns: Nanos | None = None

    def play(self, now_ns: Nanos, message: Message) -> list[EngineCommand]:
        """Let time run to `now_ns` and hand the message over; gives what the engine says to it."""
        engine = self.engine
        if self._now_ns is None:
            engine.receive_line_up(self._line, now_ns)
        self._now_ns = now_ns
        self._run_timers(now_ns)
        engine.receive(self._line, message, now_ns)
        return engine.commands()

    def finish(self) -> list[EngineCommand]:
        """Let what is held back be decided and tell the strategy that it is over; gives the last commands."""
        end_ns = (self._now_ns or 0) + (DRAIN_NS if self._now_ns is not None else 0)
        if self._now_ns is not None:
            self._run_timers(end_ns)
        self.engine.stop(end_ns)
        return self.engine.commands()

    def _run_timers(self, until_ns: Nanos) -> None:
        """Run what is due; over a leap that no live run has, the last step takes the rest."""
        engine, steps = self.engine, 0
        while (due_ns := engine.deadline_ns()) is not None and due_ns <= until_ns:
            steps += 1
            engine.receive_timeout(due_ns if steps < TIMER_STEPS_MAX else until_ns)
            if steps > TIMER_STEPS_MAX:
                return


class EventPlayer(Player):
    """Feeds a merged recording without arbitrating again: as events, or as runs of deltas, which is fastest."""

    def __init__(self, engine: ReplayEngine, line: str = "recording") -> None:
        super().__init__(engine, line)
        self._replay = engine

    def play_event(self, now_ns: Nanos, event: Event) -> list[EngineCommand]:
        """Let time run to `now_ns` and hand an event of the recording over; gives what the engine says to it."""
        engine = self._replay
        due_ns = engine.wake_ns
        if self._now_ns is None:
            engine.receive_line_up(self._line, now_ns)
        elif due_ns is not None and due_ns <= now_ns:
            self._run_timers(now_ns)
        self._now_ns = now_ns
        engine.receive_merged(self._line, event, now_ns)
        return engine.commands() if engine.has_commands else NOTHING

    def play_run(self, run: DeltaRun, first: int, last: int, delay_ns: Nanos = 0) -> tuple[int, list[EngineCommand]]:
        """Do the same with deltas of a run, each `delay_ns` after its time, up to one that leads to commands.

        Gives the place of the next delta, and the commands.
        """
        engine, at = self._replay, first
        while at < last:
            now_ns = run.times[at] + delay_ns
            due_ns = engine.wake_ns
            if self._now_ns is None:
                engine.receive_line_up(self._line, now_ns)
            elif due_ns is not None and due_ns <= now_ns:
                self._run_timers(now_ns)
            at = engine.receive_run(self._line, run, at, last, delay_ns)
            self._now_ns = run.times[at - 1] + delay_ns
            if engine.has_commands:
                return at, engine.commands()
        return at, NOTHING
