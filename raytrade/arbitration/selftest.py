"""`SelfTest`: two or more sockets to the same channel side by side decide how their copies may be merged.

What is compared (per instrument, where all sockets overlap): whether messages have the same ids and the same content,
whether the books are equal wherever the ids are (best 25 levels a side), and whether messages list levels that did
not change, which shows that a window lists every level it touched. Pure.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from raytrade.arbitration.arbiter import Arbiter
from raytrade.arbitration.stream import Rule, RuleBook, SnapshotWanted
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Levels, Side
from raytrade.core.message import Kind, decode, encode, parse

STATES_MIN = 20
"""Equal ids at which books must have been compared before there is a verdict."""
ALIGNED_MIN = 0.9
"""Share of messages with the same ids on all sockets from which windows count as aligned."""
REMEMBERED_MAX = 200_000
_BOLDNESS = (Rule.LEAD, Rule.STRICT, Rule.LOOSE)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one instrument; shares are over the messages between the first and the last common id."""

    sockets: int
    messages: int
    pairs_shared: float
    contents_equal: float
    ends_shared: float
    no_ops: int
    states_compared: int
    states_equal: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How copies of an instrument's book may be merged; `found` is empty where too little was seen."""

    instrument: str
    declared: str
    found: str
    reason: str
    evidence: Evidence

    @property
    def is_bold(self) -> bool:
        """Tell whether the declared class promises more than was found."""
        classes = [rule.value for rule in _BOLDNESS]
        both = self.declared in classes and self.found in classes
        return both and classes.index(self.declared) > classes.index(self.found)


class _Copy:
    """One socket's copy of one instrument's book."""

    def __init__(self, instrument: str, rules: RuleBook) -> None:
        self.arbiter = Arbiter("selftest", rules)
        self._in_band = rules(instrument, Channel.BOOK).in_band
        self.book = L2Book(instrument)
        self.contents: dict[tuple[int, int], int] = {}
        self.states: dict[int, int] = {}
        self.no_ops = 0
        self.is_windowed = False
        self.has_epochs = False

    def receive(self, event: BookDelta | BookSnapshot, now_ns: Nanos) -> None:
        """Take what the socket delivered."""
        self.has_epochs = self.has_epochs or event.epoch != 0
        if isinstance(event, BookDelta) and len(self.contents) < REMEMBERED_MAX:
            levels = (sorted(_pairs(event.bids)), sorted(_pairs(event.asks)), event.price_scale, event.size_scale)
            self.contents[event.id_prev, event.id_last] = crc32(repr(levels).encode())
        self.arbiter.receive("socket", parse(encode(event, "socket")), now_ns)
        self.advance()

    def advance(self) -> None:
        """Move the book by what follows on."""
        for message in self.arbiter.output():
            if message.kind in (Kind.GAP, Kind.STALLED):
                self.book.invalidate()
            elif message.kind is Kind.RESYNCED:
                self.book.revalidate()
            if message.kind not in (Kind.DELTA, Kind.SNAPSHOT) or message.flags & Flag.UNAPPLIED:
                continue
            event = decode(message)
            assert isinstance(event, BookDelta | BookSnapshot)
            if isinstance(event, BookDelta):
                self.no_ops += self._no_ops(event)
            else:
                self.is_windowed = self.is_windowed or (self._in_band and event.depth > 0)
            self.book.apply(event)
            if self.book.state is BookState.LIVE and len(self.states) < REMEMBERED_MAX:
                self.states[event.id_last] = self.book.state_hash()

    def _no_ops(self, delta: BookDelta) -> int:
        """Count levels that the book has already with the same size."""
        book = self.book
        if book.state is not BookState.LIVE or (delta.price_scale, delta.size_scale) != (
            book.price_scale,
            book.size_scale,
        ):
            return 0
        sides = ((Side.BUY, delta.bids), (Side.SELL, delta.asks))
        return sum(
            size != 0 and book.size_at(side, price) == size for side, flat in sides for price, size in _pairs(flat)
        )


class SelfTest:
    """Follows the sockets of one venue; the owner feeds events and fetches the books `wanted`."""

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules
        self._copies: dict[str, dict[str, _Copy]] = {}

    def receive(self, socket: str, event: Event, now_ns: Nanos) -> None:
        """Take what a socket delivered."""
        if isinstance(event, BookDelta | BookSnapshot):
            copies = self._copies.setdefault(event.instrument, {})
            if socket not in copies:
                copies[socket] = _Copy(event.instrument, self._rules)
            copies[socket].receive(event, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Let what waits for too long be given up."""
        for copies in self._copies.values():
            for copy in copies.values():
                copy.arbiter.receive_timeout(now_ns)
                copy.advance()

    def wanted(self) -> list[tuple[str, SnapshotWanted]]:
        """Drain the books that sockets need."""
        return [
            (socket, wanted)
            for copies in self._copies.values()
            for socket, copy in copies.items()
            for wanted in copy.arbiter.commands()
        ]

    def verdicts(self) -> list[Verdict]:
        """Judge every instrument."""
        return [self._judge(instrument, list(copies.values())) for instrument, copies in sorted(self._copies.items())]

    def _judge(self, instrument: str, copies: list[_Copy]) -> Verdict:
        evidence = _compare(copies)
        found, reason = _class_of(copies, evidence)
        declared = self._rules(instrument, Channel.BOOK).rule.value
        return Verdict(instrument=instrument, declared=declared, found=found, reason=reason, evidence=evidence)


def _pairs(flat: Levels) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _compare(copies: list[_Copy]) -> Evidence:
    ends = [{last for _, last in copy.contents} for copy in copies]
    first = max((min(part) for part in ends if part), default=0)
    last = min((max(part) for part in ends if part), default=-1)
    inside = [{pair: hash_ for pair, hash_ in copy.contents.items() if first <= pair[1] <= last} for copy in copies]
    pairs = set.union(*(set(part) for part in inside)) if inside else set()
    shared = [pair for pair in pairs if all(pair in part for part in inside)]
    all_ends = {pair[1] for pair in pairs}
    common = [at for at in all_ends if all(at in part for part in ends)]
    states = set.intersection(*(set(copy.states) for copy in copies)) if copies else set()
    return Evidence(
        sockets=len(copies),
        messages=len(pairs),
        pairs_shared=len(shared) / len(pairs) if pairs else 0.0,
        contents_equal=sum(len({p[pair] for p in inside}) == 1 for pair in shared) / len(shared) if shared else 0.0,
        ends_shared=len(common) / len(all_ends) if all_ends else 0.0,
        no_ops=sum(copy.no_ops for copy in copies),
        states_compared=len(states),
        states_equal=sum(len({copy.states[at] for copy in copies}) == 1 for at in states),
    )


def _class_of(copies: list[_Copy], evidence: Evidence) -> tuple[str, str]:
    """Give the boldest class that the evidence carries, and why."""
    lead = Rule.LEAD.value
    if any(copy.has_epochs for copy in copies):
        return lead, "ids are counted on each connection"
    if evidence.sockets < 2:
        return "", f"{evidence.sockets} socket delivered it"
    if evidence.states_compared < STATES_MIN:
        if evidence.messages >= STATES_MIN and not evidence.states_compared and evidence.ends_shared == 0:
            return lead, "the sockets have no id in common"
        return "", f"only {evidence.states_compared} common ids to compare books at, {STATES_MIN} are needed"
    wrong = evidence.states_compared - evidence.states_equal
    if wrong:
        return lead, f"books differ at {wrong} of {evidence.states_compared} common ids"
    if evidence.no_ops and not any(copy.is_windowed for copy in copies):
        return Rule.LOOSE.value, f"books equal at all common ids, {evidence.no_ops} levels listed that did not change"
    if min(evidence.pairs_shared, evidence.ends_shared) >= ALIGNED_MIN:
        return Rule.STRICT.value, "books equal at all common ids, windows aligned"
    return lead, "windows are not aligned, and nothing shows that they list every level touched in full depth"
