"""A synthetic venue, the copies of its stream on faulty lines, and a consumer that checks what comes out."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from raytrade.arbitration import Arbiter, ArbiterSettings, SnapshotWanted, StreamRule
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Side, Trade
from raytrade.core.message import Kind, Message, decode, encode, parse

NAME = "sim:X-Y"
STREAM = (NAME, Channel.BOOK)
START_NS = 1_700_000_000 * SECOND
STEP_NS = 10 * MILLISECOND


class Arrival(NamedTuple):
    """A message and when it reaches the arbiter on which line."""

    now_ns: int
    line: str
    message: Message


class Truth:
    """The venue's books: one changed level at a time; id n is the state after n changes."""

    def __init__(self, seed: int, count: int, id_start: int = 1000) -> None:
        rng = random.Random(seed)
        self.id_start, self.id_end = id_start, id_start + count
        self.changes: list[tuple[Side, int, int]] = []
        self._states: list[dict[Side, dict[int, int]]] = [{Side.BUY: {}, Side.SELL: {}}]
        for n in range(count + 40):
            side = rng.choice((Side.BUY, Side.SELL))
            price = rng.randint(80, 99) if side is Side.BUY else rng.randint(101, 120)
            size = rng.choice((0, 1, 2, 3, 5, 8)) if n >= 40 else rng.randint(1, 9)
            state = {each: dict(rows) for each, rows in self._states[-1].items()}
            state[side][price] = size
            if not size:
                del state[side][price]
            self._states.append(state)
            self.changes.append((side, price, size))
        self.changes = self.changes[40:]
        self._states = self._states[40:]

    def at_ns(self, number: int) -> int:
        """When the venue made this state."""
        return START_NS + (number - self.id_start) * STEP_NS

    def levels(self, number: int, side: Side) -> tuple[int, ...]:
        """Give the flat levels of a state."""
        rows = self._states[number - self.id_start][side]
        return tuple(value for row in sorted(rows.items()) for value in row)

    def book(self, number: int) -> L2Book:
        """Give the book of a state."""
        book = L2Book(NAME)
        book.apply(self.snapshot(number))
        return book

    def snapshot(self, number: int, **fields: object) -> BookSnapshot:
        """Give the state as a snapshot."""
        event = BookSnapshot(
            instrument=NAME,
            id_last=number,
            bids=self.levels(number, Side.BUY),
            asks=self.levels(number, Side.SELL),
            price_scale=0,
            size_scale=0,
            ts_venue_ns=self.at_ns(number),
            ts_recv_ns=self.at_ns(number),
        )
        return msgspec.structs.replace(event, **fields)

    def delta(self, id_prev: int, id_last: int, *, net: bool = False, **fields: object) -> BookDelta:
        """Give the window ``(id_prev, id_last]``: every level touched, or (net) those that differ at its end."""
        sides: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        for side, price, size in self.changes[id_prev - self.id_start : id_last - self.id_start]:
            sides[side][price] = size
        if net:
            before = self._states[id_prev - self.id_start]
            sides = {s: {p: v for p, v in rows.items() if before[s].get(p, 0) != v} for s, rows in sides.items()}
        event = BookDelta(
            instrument=NAME,
            id_prev=id_prev,
            id_last=id_last,
            bids=tuple(value for row in sides[Side.BUY].items() for value in row),
            asks=tuple(value for row in sides[Side.SELL].items() for value in row),
            price_scale=0,
            size_scale=0,
            ts_venue_ns=self.at_ns(id_last),
            ts_recv_ns=self.at_ns(id_last),
        )
        return msgspec.structs.replace(event, **fields)


def trade(number: int, **fields: object) -> Trade:
    """Give a trade with that id."""
    event = Trade(
        instrument=NAME,
        trade_id=str(number),
        sequence=number,
        price=number,
        size=1,
        price_scale=0,
        size_scale=0,
        aggressor=Side.BUY,
        ts_venue_ns=START_NS + number * STEP_NS,
        ts_recv_ns=START_NS + number * STEP_NS,
    )
    return msgspec.structs.replace(event, **fields)


def message(event: Event, line: str = "a") -> Message:
    """Write and read an event, as a link does."""
    return parse(encode(event, line))


class Consumer:
    """Follows one merged stream and checks what every consumer may rely on.

    `follow_ids`: ids are the venue's own, so what is applicable must have rising ids and be the venue's state.
    """

    def __init__(self, truth: Truth | None = None, *, follow_ids: bool = True) -> None:
        self.book = L2Book(NAME)
        self.truth = truth
        self.follow_ids = follow_ids
        self.usable = False
        self.gaps: list[Message] = []
        self.log: list[Message] = []
        self.applied: list[Message] = []
        self.stalls = 0

    def take(self, messages: Iterable[Message]) -> None:
        """Take what an arbiter gave out."""
        for each in messages:
            self.log.append(each)
            match each.kind:
                case Kind.SNAPSHOT:
                    self._apply(each)
                    self.usable = True
                case Kind.DELTA if each.flags & Flag.UNAPPLIED:
                    assert not self.usable, "an unapplied delta while the book is live"
                case Kind.DELTA:
                    assert self.usable, "an applicable delta between a gap and its snapshot"
                    self._apply(each)
                case Kind.GAP:
                    self.gaps.append(each)
                    self.usable = False
                    self.book.invalidate()
                case Kind.STALLED:
                    self.stalls += 1
                    self.book.invalidate()
                case Kind.RESYNCED:
                    self.usable = True
                    self.book.revalidate()

    def _apply(self, each: Message) -> None:
        if self.follow_ids and self.applied and each.kind is Kind.DELTA:
            assert each.id_last > self.book.id_last, "ids do not rise"
        event = decode(each)
        assert isinstance(event, BookDelta | BookSnapshot)
        self.book.apply(event)
        self.applied.append(each)
        if self.truth is not None and self.follow_ids:
            self.check()

    def check(self) -> None:
        """Compare the book with the venue's at the same id."""
        assert self.truth is not None
        expected = self.truth.book(self.book.id_last)
        assert same(self.book, expected), f"wrong book at {self.book.id_last}"


def same(book: L2Book, other: L2Book) -> bool:
    """Tell whether two books are equal in full depth."""
    return all(book.decimals(side) == other.decimals(side) for side in (Side.BUY, Side.SELL))


Answer = Callable[[SnapshotWanted, int], list[Arrival]]


def run(
    arrivals: Iterable[Arrival],
    rule: StreamRule,
    *consumers: Consumer,
    settings: ArbiterSettings | None = None,
    answer: Answer | None = None,
    name: str = "out",
    tail_ns: int = 10 * SECOND,
    validate: bool = True,
) -> tuple[Arbiter, list[Arrival]]:
    """Feed the arrivals in order, timers and answers to snapshot requests between them; give all that came out."""
    arbiter = Arbiter(name, lambda _instrument, _channel: rule, settings or ArbiterSettings())
    queue = deque(sorted(arrivals, key=lambda arrival: arrival.now_ns))
    out: list[Arrival] = []
    end_ns = (queue[-1].now_ns if queue else START_NS) + tail_ns
    now_ns = 0

    def settle() -> None:
        messages = arbiter.output()
        out.extend(Arrival(now_ns, name, each) for each in messages)
        for consumer in consumers:
            consumer.take(messages)
        for wanted in arbiter.commands():
            if answer is not None:
                late = sorted([*queue, *answer(wanted, now_ns)], key=lambda arrival: arrival.now_ns)
                queue.clear()
                queue.extend(late)
        if validate:
            arbiter.validate()

    while queue or ((due_ns := arbiter.deadline_ns()) is not None and due_ns <= end_ns):
        due_ns = arbiter.deadline_ns()
        if due_ns is not None and due_ns <= end_ns and (not queue or due_ns <= queue[0].now_ns):
            now_ns = max(now_ns, due_ns)
            arbiter.receive_timeout(now_ns)
        else:
            arrival = queue.popleft()
            now_ns = arrival.now_ns
            arbiter.receive(arrival.line, arrival.message, now_ns)
        settle()
    return arbiter, out
