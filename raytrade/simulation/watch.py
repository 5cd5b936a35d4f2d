"""What every arbiter must keep to, seen from outside: nothing twice, nothing lost silently, no false gap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from raytrade.arbitration import Rule
from raytrade.core.events import Flag, Gap, GapKind
from raytrade.core.message import Kind, Message, decode
from raytrade.simulation.rules import CHAINED, simulated_rule

Fail = Callable[[str, str], None]
"""Told of a broken promise: who broke it, and how."""

Ids = tuple[int, int]


class Sees(NamedTuple):
    """What of a place can be seen besides what it gives out to be applied."""

    inputs: bool = True
    unapplied: bool = True


class ChainWatch:
    """One stream with global ids at one place.

    `received`: ids that came in, and on which lines; None where nobody watches the input. `gaps`: the ranges given
    out. `bridged`: ranges that a snapshot after a gap contained and no message did.
    """

    def __init__(self, who: str, stream: str, fail: Fail, *, is_loose: bool, sees: Sees) -> None:
        self.received: dict[int, set[str]] | None = {} if sees.inputs else None
        self.is_believed: Callable[[str], bool] = lambda _line: True
        self.gaps: list[Ids] = []
        self.bridged: list[Ids] = []
        self.first: int | None = None
        self.covered = 0
        self._position = 0
        self._late: set[Ids] = set()
        self._who = who
        self._stream = stream
        self._fail = fail
        self._is_loose = is_loose
        self._is_of_many_lives = not sees.inputs
        """A recorder that starts again between a gap and what comes after it tells the gap again."""
        self._given = 0
        self._sees_unapplied = sees.unapplied
        self._is_book = stream.endswith("/book")
        """Trades go on behind a gap without any snapshot."""
        self._in_gap = False

    def receive(self, line: str, message: Message) -> None:
        """Note what came in."""
        if self.received is not None and message.kind in (Kind.DELTA, Kind.TRADE) and self.is_believed(line):
            for number in range(message.id_prev + 1, message.id_last + 1):
                self.received.setdefault(number, set()).add(line)

    def _broken(self, how: str) -> None:
        self._fail(self._who, f"{self._stream}: {how}")

    def give(self, kind: Kind, flags: int, id_prev: int, id_last: int) -> None:
        """Check an update or a snapshot that came out."""
        if flags & Flag.CONFLATED:
            self._skip_to(id_last)
        elif kind is Kind.SNAPSHOT:
            self._give_snapshot(id_last)
        elif self.first is not None or not flags & Flag.UNAPPLIED:
            self._give_update(flags, id_prev, id_last)

    def _skip_to(self, id_last: int) -> None:
        """A consumer that wants the latest only has left out the rest: a step forward, or a doubt of the same state."""
        if id_last < self.covered + (not self._in_gap):
            self._broken(f"left out everything up to {id_last} after {self.covered}")
        self.first = self.covered = self._position = self._given = id_last
        self._in_gap = False

    def _give_update(self, flags: int, id_prev: int, id_last: int) -> None:
        if self.first is None:
            self.first = self.covered = self._position = id_prev
        if id_last <= self.covered and not (flags & Flag.UNAPPLIED and self._is_late(id_prev, id_last)):
            self._broken(f"({id_prev}, {id_last}] given out although everything up to {self.covered} was")
        if id_prev > self.covered:
            self._broken(f"({self.covered}, {id_prev}] is missing without a gap")
        if not flags & Flag.UNAPPLIED:
            follows = id_prev <= self._position if self._is_loose else id_prev == self._position
            if not follows or self._in_gap:
                self._broken(f"({id_prev}, {id_last}] applied at {self._position}{' inside a gap' * self._in_gap}")
            self._position = id_last
        self.covered = max(self.covered, id_last)
        self._given = max(self._given, id_last)

    def _is_late(self, id_prev: int, id_last: int) -> bool:
        """Tell whether a message came when its absence was told already: it is recorded, once, and not applied."""
        is_late = any(start < id_last <= end for start, end in self.gaps) and (id_prev, id_last) not in self._late
        self._late.add((id_prev, id_last))
        return is_late

    def _give_snapshot(self, id_last: int) -> None:
        if self.first is None:
            self.first = self.covered = id_last
        elif id_last < self.covered:
            self._broken(f"a book of {id_last} after everything up to {self.covered}")
        elif id_last > self.covered:
            if not self._in_gap:
                self._broken(f"a book of {id_last} right after {self.covered}, without a gap")
            self.bridged.append((self.covered, id_last))
            self.covered = id_last
        self._position = id_last
        self._given = max(self._given, id_last)
        self._in_gap = False

    def give_gap(self, gap: Gap) -> None:
        """Check a gap that came out."""
        was_in_gap, self._in_gap = self._in_gap, self._is_book
        if gap.kind is GapKind.RESET and not gap.id_last:
            self.first = None
            return
        if self.first is None:
            return
        if was_in_gap and not self._sees_unapplied:
            self.covered = max(self.covered, gap.id_prev)
        if gap.id_prev > self.covered:
            self._broken(f"({self.covered}, {gap.id_prev}] is missing in front of a gap")
        if gap.id_last > gap.id_prev:
            self._check_range(gap.id_prev, gap.id_last)

    def _check_range(self, id_prev: int, id_last: int) -> None:
        self.gaps.append((id_prev, id_last))
        if id_prev < (self._given if self._is_of_many_lives else self.covered):
            self._broken(f"the gap ({id_prev}, {id_last}] reaches into what was given out up to {self.covered}")
        known = self.received or {}
        numbers = range(id_prev + 1, id_last + 1)
        false = [number for number in numbers if any(map(self.is_believed, known.get(number, ())))]
        if false:
            self._broken(f"false gap ({id_prev}, {id_last}]: {false[0]} had come in")
        self.covered = max(self.covered, id_last)
        if not self._is_book:
            self._position = id_last

    def resynced(self) -> None:
        """The stream says that it is whole again."""
        self._in_gap = False


class TradeWatch:
    """One stream of trades with sparse ids at one place: each trade once."""

    def __init__(self, who: str, stream: str, fail: Fail) -> None:
        self.seen: set[bytes] = set()
        self._who = who
        self._stream = stream
        self._fail = fail

    def give(self, trade_id: bytes) -> None:
        """Check a trade that came out."""
        if trade_id in self.seen:
            self._fail(self._who, f"{self._stream}: trade {trade_id.decode()} twice")
        self.seen.add(trade_id)


class ArbiterWatch:
    """Watches all streams of one place."""

    def __init__(self, who: str, fail: Fail, sees: Sees) -> None:
        self.chains: dict[str, ChainWatch] = {}
        self.trades: dict[str, TradeWatch] = {}
        self.on_gap: Callable[[str, Gap], None] = lambda _stream, _gap: None
        self.liars: set[str] = set()
        """Lines of which nothing need be given out."""
        self.is_believed: Callable[[str, str], bool] = lambda _stream, _line: True
        """Whether what a line says of a stream counts now: of what only others say, nothing need be given out."""
        self._who = who
        self._fail = fail
        self._sees = sees
        self._rules: dict[str, Rule] = {}

    def _rule(self, stream: str, message: Message) -> Rule:
        rule = self._rules.get(stream)
        if rule is None:
            rule = self._rules[stream] = simulated_rule(message.instrument, message.channel).rule
        return rule

    def _chain(self, stream: str, rule: Rule) -> ChainWatch:
        chain = self.chains.get(stream)
        if chain is None:
            is_loose = rule is Rule.LOOSE
            chain = self.chains[stream] = ChainWatch(self._who, stream, self._fail, is_loose=is_loose, sees=self._sees)
            chain.is_believed = partial(self.is_believed, stream)
        return chain

    def receive(self, line: str, message: Message) -> None:
        """Note what came in on a line."""
        if line not in self.liars and message.kind in (Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE):
            stream = stream_name(message)
            rule = self._rule(stream, message)
            if rule in CHAINED:
                self._chain(stream, rule).receive(line, message)

    def give(self, messages: list[Message]) -> None:
        """Check what came out."""
        for message in messages:
            if message.kind is not Kind.LINE_UP and message.kind is not Kind.LINE_DOWN:
                stream = stream_name(message)
                rule = self._rule(stream, message)
                if rule in CHAINED:
                    self._give_chained(stream, self._chain(stream, rule), message)
                elif message.kind is Kind.TRADE:
                    self._trades(stream).give(message.tail())

    def _trades(self, stream: str) -> TradeWatch:
        return self.trades.setdefault(stream, TradeWatch(self._who, stream, self._fail))

    def _give_chained(self, stream: str, chain: ChainWatch, message: Message) -> None:
        match message.kind:
            case Kind.GAP:
                gap = decode(message)
                assert isinstance(gap, Gap)
                self.on_gap(stream, gap)
                chain.give_gap(gap)
            case Kind.RESYNCED:
                chain.resynced()
            case Kind.SNAPSHOT | Kind.DELTA | Kind.TRADE:
                chain.give(message.kind, message.flags, message.id_prev, message.id_last)


def stream_name(message: Message) -> str:
    """Give the name of a message's stream."""
    return f"{message.instrument}/{message.channel.name.lower()}"
