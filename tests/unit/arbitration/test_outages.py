"""Sequences of lines that go and come back while something is open: a hole, a dispute, a book that waits."""

from __future__ import annotations

import pytest

from raytrade.arbitration import Arbiter, ArbiterSettings, Rule, SnapshotWanted, StreamRule
from raytrade.arbitration.guarded_chain import REFUSED_BYTES_MAX, GuardedChain
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import BookDelta, Event, Flag, LineDown, LineUp
from raytrade.core.message import Kind
from tests.property.lines import NAME, START_NS, STREAM, Consumer, Truth, message
from tests.unit.arbitration.test_guard import lie_of

REST = StreamRule(Rule.LOOSE, contiguous=True)
STRICT = StreamRule(Rule.STRICT, contiguous=True, in_band=True)


class Place:
    """An arbiter whose time is moved by hand, and the consumer behind it."""

    def __init__(self, rule: StreamRule, *, guard: bool = True) -> None:
        self.arbiter = Arbiter("d", lambda _instrument, _channel: rule, ArbiterSettings(guard=guard))
        self.consumer = Consumer()
        self.now_ns: Nanos = START_NS
        self.wanted: list[tuple[Nanos, SnapshotWanted]] = []
        self.kinds: list[Kind] = []

    def settle(self) -> None:
        messages = self.arbiter.output()
        self.consumer.take(messages)
        self.kinds += [each.kind for each in messages]
        self.wanted += [(self.now_ns, command) for command in self.arbiter.commands()]
        self.arbiter.validate()

    def give(self, line: str, *events: Event) -> None:
        for event in events:
            self.arbiter.receive(line, message(event, line), self.now_ns)
            self.settle()

    def up(self, lines: str) -> None:
        for line in lines:
            self.give(line, LineUp(venue="sim", ts_recv_ns=self.now_ns))

    def down(self, lines: str) -> None:
        for line in lines:
            self.give(line, LineDown(venue="sim", cause="cut", ts_recv_ns=self.now_ns))

    def wait(self, span_ns: Nanos) -> None:
        end_ns = self.now_ns + span_ns
        while (due_ns := self.arbiter.deadline_ns()) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.arbiter.receive_timeout(self.now_ns)
            self.settle()
        self.now_ns = end_ns

    @property
    def stream(self) -> GuardedChain:
        stream = self.arbiter._streams[STREAM]
        assert isinstance(stream, GuardedChain)
        return stream

    def is_live(self) -> bool:
        return self.consumer.book.top() is not None


@pytest.mark.parametrize("rule", [STRICT, REST])
def test_a_book_that_waits_is_not_used_once_its_line_is_gone_too(rule: StreamRule) -> None:
    truth, place = Truth(1, 100), Place(rule)
    place.up("a")
    place.give("a", truth.snapshot(1000), truth.delta(1000, 1001))
    place.down("a")
    place.now_ns += SECOND
    place.up("a")
    place.give("a", truth.snapshot(1010))
    place.now_ns += 20 * MILLISECOND
    place.down("a")
    place.wait(10 * SECOND)
    assert not place.is_live()
    place.up("a")
    place.give("a", truth.delta(1010, 1011), truth.snapshot(1011))
    place.wait(SECOND)
    assert place.is_live() and place.consumer.book.id_last == 1011


def test_a_book_that_waits_inside_a_gap_is_not_used_without_any_line() -> None:
    truth, place = Truth(2, 100), Place(STRICT)
    place.up("a")
    place.give("a", truth.snapshot(1000), truth.delta(1002, 1003))
    place.wait(3 * SECOND)
    assert Kind.GAP in place.kinds and not place.is_live()
    place.give("a", truth.snapshot(1006))
    place.down("a")
    place.wait(10 * SECOND)
    assert not place.is_live()


def test_a_hole_from_before_an_outage_is_filled_by_the_line_that_comes_back_second() -> None:
    truth, place = Truth(3, 100), Place(STRICT, guard=False)
    place.up("ab")
    for line in "ab":
        place.give(line, truth.snapshot(1000), truth.delta(1000, 1001))
    place.wait(5 * SECOND)
    place.give("a", truth.delta(1002, 1003))
    place.down("ab")
    place.wait(300 * MILLISECOND)
    place.up("a")
    place.give("a", truth.snapshot(1010, flags=Flag.IMAGE))
    place.wait(20 * MILLISECOND)
    place.up("b")
    place.give("b", *(truth.delta(at - 1, at) for at in range(1002, 1012)))
    place.wait(SECOND)
    assert Kind.GAP not in place.kinds
    assert place.is_live() and place.consumer.book.id_last == 1011


def disputed(truth: Truth, rule: StreamRule) -> Place:
    """Three lines, of which `a` contradicts `b` at 1010, and `c` has not said anything yet."""
    place = Place(rule)
    place.up("abc")
    place.give("a", truth.snapshot(1000))
    for at in range(1001, 1010):
        for line in "abc":
            place.give(line, truth.delta(at - 1, at))
        place.now_ns += MILLISECOND
    lie = lie_of(truth, 1009, 1010)
    assert isinstance(lie, BookDelta)
    place.give("a", lie)
    place.give("b", truth.delta(1009, 1010))
    return place


@pytest.mark.parametrize("rule", [STRICT, REST])
def test_the_only_line_that_comes_back_is_believed_though_it_was_suspect(rule: StreamRule) -> None:
    truth = Truth(4, 400)
    place = disputed(truth, rule)
    place.down("abc")
    place.now_ns += SECOND
    place.up("b")
    for at in range(1011, 1101):
        place.give("b", truth.delta(at - 1, at))
        if place.wanted and place.wanted[-1][0] > place.now_ns - 100 * MILLISECOND:
            place.give("b", truth.snapshot(at))
        place.wait(100 * MILLISECOND)
    assert place.is_live() and place.consumer.book.id_last == 1100
    assert "b" not in place.stream._guard.demoted  # type: ignore[union-attr]


def test_who_is_blamed_for_a_crossed_book_is_followed_when_no_other_is_left() -> None:
    truth, place = Truth(5, 2000), Place(REST)
    place.up("ab")
    place.give("a", truth.delta(1000, 1002), truth.snapshot(1000))
    place.give("b", truth.delta(1000, 1001))
    for at in range(1002, 1058, 2):
        place.give("a", truth.delta(at, at + 2))
        place.give("b", truth.delta(at - 1, at + 1))
    place.arbiter.blame(message(truth.delta(1056, 1058), "a"), "crossed for 1 s", place.now_ns)
    place.settle()
    assert "a demoted" in place.arbiter.alarms(place.now_ns)[NAME]
    place.down("b")
    for at in range(1058, 1400, 2):
        place.give("a", truth.delta(at, at + 2))
        place.wait(100 * MILLISECOND)
        if at % 40 == 0:
            place.give("a", truth.snapshot(at + 2))
    assert place.is_live() and place.consumer.book.id_last == 1400


def test_what_suspects_say_is_kept_within_bounds_and_not_over_a_reset() -> None:
    truth = Truth(6, 3000)
    place = disputed(truth, REST)
    place.wait(2 * SECOND)
    suspects = place.stream._guard.suspects()  # type: ignore[union-attr]
    assert suspects
    for at in range(1011, 3001):
        place.give(suspects[0], truth.delta(at - 1, at, bids=tuple(range(1, 201))))
        assert place.stream._refused_bytes <= REFUSED_BYTES_MAX
    assert place.stream._refused
    place.stream._reset(place.now_ns)
    assert not place.stream._refused and place.stream._refused_bytes == 0


def test_a_clock_that_goes_back_does_not_keep_a_hole_open() -> None:
    truth, place = Truth(7, 100), Place(STRICT, guard=False)
    place.up("ab")
    for line in "ab":
        place.give(line, truth.snapshot(1000))
    place.give("a", truth.delta(1000, 1001), truth.delta(1002, 1003))
    place.now_ns -= 3600 * SECOND
    for at in range(1004, 1050):
        for line in "ab":
            place.give(line, truth.delta(at - 1, at))
        place.wait(100 * MILLISECOND)
    assert Kind.GAP in place.kinds


@pytest.mark.parametrize("rule", [STRICT, REST])
def test_a_clock_that_goes_back_does_not_end_requests(rule: StreamRule) -> None:
    truth, place = Truth(9, 200), Place(rule, guard=False)
    place.up("a")
    place.give("a", truth.delta(1000, 1001))
    place.wait(10 * SECOND)
    place.now_ns -= 3600 * SECOND
    place.wanted.clear()
    for at in range(1002, 1100):
        place.give("a", truth.delta(at - 1, at))
        place.wait(SECOND)
    assert place.wanted


def test_a_line_that_is_believed_again_still_has_its_own_book_mended() -> None:
    truth, place = Truth(8, 3000), Place(STRICT)
    place.up("abc")
    for line in "abc":
        place.give(line, truth.snapshot(1000))
    for at in range(1001, 2500):
        for line in "abc":
            is_lie = line == "c" and at in (1010, 1017)
            event = lie_of(truth, at - 1, at) if is_lie else truth.delta(at - 1, at)
            assert isinstance(event, BookDelta)
            place.give(line, event)
        if at == 1012:
            place.give("c", truth.snapshot(at))
        place.wait(10 * MILLISECOND)
    assert "c" not in place.stream._guard.demoted  # type: ignore[union-attr]
    asked = [round((at_ns - START_NS) / SECOND) for at_ns, command in place.wanted if command.line == "c"]
    assert len(asked) >= 3 and asked == sorted(set(asked))
