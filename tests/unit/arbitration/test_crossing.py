"""Books that stay crossed: left alone for a while, then proved anew, less and less often, and never for ever."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from raytrade.arbitration import Arbiter, ArbiterSettings, Rule, StreamRule
from raytrade.arbitration.crossing import CALM_NS, CROSSED_NS, DOUBLINGS_MAX, Crossed, CrossWatch
from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Event, Flag, Gap, GapKind, LineUp
from raytrade.core.message import Kind, Message, decode
from tests.property.lines import NAME, START_NS, STREAM, message

LOOSE = StreamRule(Rule.LOOSE, contiguous=True)
LEAD = StreamRule(Rule.LEAD, in_band=True)
CHECKED = StreamRule(Rule.LEAD, in_band=True, checksum="kraken")
STEP_NS = 100 * MILLISECOND


def snapshot(number: int, bid: int = 99, flags: int = 0) -> BookSnapshot:
    ts_ns = START_NS + number
    fields = {"price_scale": 0, "size_scale": 0, "flags": flags, "ts_venue_ns": ts_ns, "ts_recv_ns": ts_ns}
    return BookSnapshot(instrument=NAME, id_last=number, bids=(bid, 1), asks=(101, 1), **fields)


def delta(number: int, *bids: int) -> BookDelta:
    ts_ns = START_NS + number
    fields = {"price_scale": 0, "size_scale": 0, "ts_venue_ns": ts_ns, "ts_recv_ns": ts_ns}
    return BookDelta(instrument=NAME, id_prev=number - 1, id_last=number, bids=bids, asks=(), **fields)


class Place:
    """A dedup in small: an arbiter, its book, the watch over it, and a venue that answers with its own book."""

    def __init__(self, rule: StreamRule, book_of: Callable[[int], BookSnapshot] = snapshot) -> None:
        self.arbiter = Arbiter("d", lambda _instrument, _channel: rule, ArbiterSettings(guard=True))
        self.watch = CrossWatch()
        self.books = {NAME: L2Book(NAME)}
        self.now_ns = START_NS
        self.number = 1
        self.found: list[tuple[int, Crossed]] = []
        self.out: list[Message] = []
        self.asked_ns: list[int] = []
        self._book_of = book_of

    def give(self, line: str, *events: Event) -> None:
        for event in events:
            self.arbiter.receive(line, message(event, line), self.now_ns)
        self.settle()

    def settle(self) -> None:
        book = self.books[NAME]
        for each in self.arbiter.output():
            self.out.append(each)
            if each.kind in (Kind.DELTA, Kind.SNAPSHOT):
                event = decode(each)
                assert isinstance(event, BookDelta | BookSnapshot)
                book.apply(event)
                self.watch.follow(book, each)
            elif each.kind is Kind.GAP:
                book.invalidate()
        for crossed in self.watch.review(self.books, self.now_ns):
            self.found.append((self.now_ns, crossed))
            self.arbiter.blame(crossed.message, crossed.cause, self.now_ns)
            self.settle()
        if self.arbiter.commands():
            self.asked_ns.append(self.now_ns)

    def pass_time(self, until_ns: int, line: str | None = None, bid: int = 0) -> None:
        """Let time pass; on `line` come updates (each crossing the book, with `bid`) and the books asked for."""
        while self.now_ns < until_ns:
            self.now_ns += STEP_NS
            due_ns = self.arbiter.deadline_ns()
            if due_ns is not None and self.now_ns >= due_ns:
                self.arbiter.receive_timeout(self.now_ns)
            if line is not None:
                self.number += 1
                if self.asked_ns and self.asked_ns[-1] == self.now_ns - STEP_NS:
                    self.give(line, self._book_of(self.number - 1))
                self.give(line, delta(self.number, *((bid, 1) if bid else (50, self.number))))
            self.settle()

    def doubts(self) -> list[Gap]:
        gaps = [decode(each) for each in self.out if each.kind is Kind.GAP]
        return [gap for gap in gaps if isinstance(gap, Gap) and gap.kind is GapKind.DOUBT]


def test_a_book_that_is_crossed_for_a_moment_is_left_alone() -> None:
    place = Place(LOOSE)
    place.give("a", snapshot(1), delta(2, 102, 1))
    place.pass_time(START_NS + CROSSED_NS - STEP_NS)
    place.give("a", delta(3, 102, 0))
    place.pass_time(START_NS + 5 * CROSSED_NS)
    assert place.found == [] and place.doubts() == []


def test_a_book_that_stays_crossed_is_doubted_and_its_line_demoted() -> None:
    place = Place(LOOSE)
    place.give("b", LineUp(venue="sim"))
    place.give("a", snapshot(1), delta(2, 98, 1))
    place.give("b", delta(2, 98, 1), delta(3, 102, 1))
    place.pass_time(START_NS + CROSSED_NS + 2 * STEP_NS)
    assert [(crossed.message.line, crossed.cause) for _, crossed in place.found] == [("b", "crossed for 1 s")]
    assert [gap.id_prev for gap in place.doubts()] == [3]
    assert place.asked_ns
    assert "b demoted: crossed for 1 s" in place.arbiter.alarms(place.now_ns)[NAME]
    place.give("a", snapshot(4))
    place.pass_time(place.now_ns + 3 * SECOND)
    assert place.books[NAME].top() is not None and not place.books[NAME].is_crossed()
    assert place.out[-1].kind is Kind.RESYNCED


def test_what_two_lines_say_demotes_neither() -> None:
    place = Place(LOOSE)
    place.give("a", snapshot(1), delta(2, 102, 1))
    place.give("b", delta(2, 102, 1))
    place.pass_time(START_NS + CROSSED_NS + 2 * STEP_NS)
    assert len(place.doubts()) == 1
    assert place.arbiter.statistics()[STREAM].in_force == ""


def test_after_a_crossing_that_all_lines_said_only_the_venues_own_book_counts() -> None:
    place = Place(StreamRule(Rule.STRICT, contiguous=True, in_band=True))
    place.give("a", snapshot(1), delta(2, 102, 1))
    place.give("b", snapshot(1), delta(2, 102, 1))
    place.pass_time(START_NS + CROSSED_NS + 2 * STEP_NS)
    assert len(place.doubts()) == 1
    place.give("b", snapshot(2, 102, Flag.IMAGE))
    place.give("a", snapshot(2, 102, Flag.IMAGE))
    assert place.books[NAME].top() is None
    place.give("a", snapshot(2))
    assert place.books[NAME].top() is not None and not place.books[NAME].is_crossed()


def test_a_book_that_the_venue_itself_sends_crossed_is_its_market() -> None:
    place = Place(LOOSE, lambda number: snapshot(number, 103))
    place.give("a", snapshot(1))
    place.pass_time(START_NS + 600 * SECOND, "a", 102)
    assert len(place.doubts()) == 1
    assert place.watch.alarms(place.now_ns)[NAME] == "the book that the venue sends is crossed itself"


def test_a_line_that_crosses_every_book_is_told_ever_less_often_and_there_is_an_alarm() -> None:
    place = Place(LOOSE)
    place.give("a", snapshot(1))
    place.pass_time(START_NS + 400 * SECOND, "a", 102)
    times = [at_ns for at_ns, _ in place.found]
    waits = [round((later - earlier) / SECOND) for earlier, later in pairwise(times)]
    assert len(times) <= 12
    assert waits == sorted(waits) and waits[:3] == [2, 4, 8] and max(waits) >= 2**DOUBLINGS_MAX
    assert len(place.asked_ns) <= 2 * len(times)
    assert place.watch.alarms(place.now_ns)[NAME].startswith("the book was crossed for too long,")
    place.pass_time(place.now_ns + 1, "a")
    assert place.watch.alarms(place.now_ns + CALM_NS) == {}


def test_a_lead_whose_book_stays_crossed_is_left_for_a_standby() -> None:
    place = Place(LEAD)
    place.give("a", snapshot(1), delta(2, 102, 1))
    place.give("b", snapshot(3))
    place.pass_time(START_NS + CROSSED_NS + 2 * STEP_NS)
    assert [crossed.message.line for _, crossed in place.found] == ["a"]
    assert place.out[-1].flags & Flag.SPLICE
    assert not place.books[NAME].is_crossed() and place.books[NAME].top() is not None
    assert place.arbiter.statistics()[STREAM].lines["a"].disagreements == 1
    place.pass_time(START_NS + 10 * SECOND)
    assert len(place.found) == 1


def test_without_a_good_standby_the_lead_ends_in_a_gap_and_a_request() -> None:
    place = Place(LEAD)
    place.give("a", snapshot(1), delta(2, 102, 1))
    place.give("b", snapshot(3, 103))
    place.pass_time(START_NS + CROSSED_NS + 2 * STEP_NS)
    assert place.books[NAME].top() is None
    assert place.asked_ns
    place.give("b", snapshot(4))
    assert place.books[NAME].top() is not None


def test_it_may_be_turned_off() -> None:
    watch, book = CrossWatch(0), L2Book(NAME)
    book.apply(snapshot(1, 103))
    watch.follow(book, message(snapshot(1, 103, Flag.IMAGE)))
    assert watch.review({NAME: book}, START_NS) == watch.review({NAME: book}, START_NS + CALM_NS) == []


@pytest.mark.parametrize("rule", [CHECKED, StreamRule(Rule.NEWEST, in_band=True)])
def test_where_each_message_proves_itself_nothing_is_doubted(rule: StreamRule) -> None:
    arbiter = Arbiter("d", lambda _instrument, _channel: rule, ArbiterSettings(guard=True))
    book = L2Book(NAME)
    book.apply(snapshot(1, 103))
    proof = CHECKSUMS["kraken"](book)
    first = message(msgspec.structs.replace(snapshot(1, 103, Flag.CHECKED), state_hash=proof), "a")
    arbiter.receive("a", first, START_NS)
    assert arbiter.output() == [first]
    arbiter.blame(first, "crossed", START_NS + SECOND)
    assert arbiter.output() == []
