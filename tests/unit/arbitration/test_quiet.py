"""Streams that fall quiet: nothing that comes later shows what is missing, so it must show by itself."""

from __future__ import annotations

import msgspec
import pytest

from raytrade.arbitration import Arbiter, Rule, StreamRule
from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, GapKind, Resynced, Stalled
from raytrade.core.message import Kind, Message
from tests.property.lines import NAME, START_NS, Arrival, Consumer, Truth, message, run, trade

FUTURES = StreamRule(Rule.STRICT)
SPOT = StreamRule(Rule.LOOSE, contiguous=True)
IN_BAND = StreamRule(Rule.STRICT, contiguous=True, in_band=True)
PROVED = StreamRule(Rule.LEAD, in_band=True, checksum="kraken")
LEAD = StreamRule(Rule.LEAD, in_band=True)
NEWEST = StreamRule(Rule.NEWEST, in_band=True)
LATER = START_NS + 5 * SECOND
LINES = ("a", "b")


def overrun(id_prev: int, id_last: int, channel: Channel = Channel.BOOK) -> Gap:
    return Gap(
        instrument=NAME,
        channel=channel,
        kind=GapKind.SLOW_CONSUMER,
        id_prev=id_prev,
        id_last=id_last,
        cause="c fell behind",
    )


def arrivals(now_ns: int, line: str, *events: Event) -> list[Arrival]:
    return [Arrival(now_ns + at, line, message(event, line)) for at, event in enumerate(events)]


def begun(truth: Truth, count: int = 2) -> list[Arrival]:
    """Both lines deliver a book and the first messages."""
    start = truth.id_start
    events: list[Event] = [truth.snapshot(start, flags=Flag.IMAGE)]
    events += [truth.delta(number, number + 1, net=True) for number in range(start, start + count)]
    return [arrival for line in LINES for arrival in arrivals(START_NS, line, *events)]


def told(consumer: Consumer) -> list[tuple[int, int]]:
    return [(gap.id_prev, gap.id_last) for gap in consumer.gaps]


@pytest.mark.parametrize("rule", [FUTURES, SPOT, IN_BAND])
def test_two_links_that_overran_leave_a_gap_and_the_image(rule: StreamRule) -> None:
    truth = Truth(1, 30)
    at, end = truth.id_start + 2, truth.id_start + 12
    images = [
        arrival
        for line in LINES
        for arrival in arrivals(LATER, line, overrun(at, end), truth.snapshot(end, flags=Flag.IMAGE))
    ]
    consumer = Consumer(truth)
    run([*begun(truth), *images], rule, consumer)
    assert told(consumer) == [(at, end)]
    assert consumer.usable
    assert consumer.book.id_last == end


@pytest.mark.parametrize("rule", [FUTURES, SPOT, IN_BAND])
def test_one_link_that_overran_waits_for_the_other(rule: StreamRule) -> None:
    truth = Truth(1, 30)
    at, end = truth.id_start + 2, truth.id_start + 12
    behind = arrivals(LATER, "a", overrun(at, end), truth.snapshot(end, flags=Flag.IMAGE))
    rest = [truth.delta(number, number + 1, net=True) for number in range(at, end)]
    consumer = Consumer(truth)
    run([*begun(truth), *behind, *arrivals(LATER + 20 * MILLISECOND, "b", *rest)], rule, consumer)
    assert told(consumer) == []
    assert consumer.book.id_last == end


@pytest.mark.parametrize("rule", [FUTURES, SPOT])
def test_without_an_image_the_gap_is_told_and_a_snapshot_asked_for(rule: StreamRule) -> None:
    truth = Truth(1, 30)
    at, end = truth.id_start + 2, truth.id_start + 12
    gaps = [arrival for line in LINES for arrival in arrivals(LATER, line, overrun(at, end))]
    consumer, asked = Consumer(truth), []

    def answer(_: object, now_ns: int) -> list[Arrival]:
        asked.append(now_ns)
        return arrivals(now_ns + 1, "a", truth.snapshot(end))

    run([*begun(truth), *gaps], rule, consumer, answer=answer)
    assert told(consumer) == [(at, end)]
    assert asked
    assert consumer.usable
    assert consumer.book.id_last == end


def test_trades_that_both_links_left_out_are_a_gap() -> None:
    rule = StreamRule(Rule.DENSE, contiguous=True)
    begin = [arrival for line in LINES for arrival in arrivals(START_NS, line, trade(7), trade(8))]
    gaps = [arrival for line in LINES for arrival in arrivals(LATER, line, overrun(8, 11, Channel.TRADES))]
    arbiter, out = run([*begin, *gaps], rule)
    assert [(each.message.id_prev, each.message.id_last) for each in out if each.message.kind is Kind.GAP] == [(8, 11)]
    arbiter.receive("a", message(trade(12)), LATER + SECOND)
    assert [each.id_last for each in arbiter.output()] == [12]


def test_a_link_that_is_whole_further_on_has_left_out_what_lies_between() -> None:
    """A dedup that stalls and is whole again tells no more than that; its link may have overrun in between."""
    truth = Truth(1, 30)
    at, end = truth.id_start + 2, truth.id_start + 12
    stalled = Stalled(instrument=NAME, channel=Channel.BOOK, cause="all lines are down")
    resynced = Resynced(instrument=NAME, channel=Channel.BOOK, id_last=end)
    notes = [arrival for line in LINES for arrival in arrivals(LATER, line, stalled, resynced)]
    consumer = Consumer(truth)
    run(
        [*begun(truth), *notes],
        IN_BAND,
        consumer,
        answer=lambda _, now_ns: arrivals(now_ns + 1, "a", truth.snapshot(end)),
    )
    assert told(consumer) == [(at, end)]
    assert consumer.book.id_last == end
    assert consumer.usable


def test_a_line_that_is_back_takes_a_hole_away() -> None:
    truth = Truth(1, 30)
    at = truth.id_start + 2
    arbiter, _ = run(begun(truth), IN_BAND, tail_ns=0)
    arbiter.receive_line_down("b", LATER)
    arbiter.receive("a", message(overrun(at, at + 5)), LATER)
    assert arbiter.is_holding()
    arbiter.receive_line_up("b", LATER + MILLISECOND)
    arbiter.receive_timeout(LATER + 10 * SECOND)
    assert not arbiter.is_holding()
    arbiter.receive("b", message(truth.delta(at, at + 1, net=True)), LATER + 10 * SECOND)
    kinds = [each.kind for each in arbiter.output()]
    assert kinds == [Kind.DELTA]


# Books that carry checksums.


def checked(event: BookSnapshot | BookDelta, venue: L2Book, **fields: object) -> Message:
    venue.apply(event)
    flags = event.flags | Flag.CHECKED
    return message(msgspec.structs.replace(event, state_hash=CHECKSUMS["kraken"](venue), flags=flags, **fields))


def test_checked_books_that_both_links_left_behind_are_asked_for() -> None:
    truth, venue = Truth(1, 30), L2Book(NAME)
    start = truth.id_start
    arbiter = Arbiter("out", lambda _instrument, _channel: PROVED)
    opening = checked(truth.snapshot(start), venue)
    for line in LINES:
        arbiter.receive(line, opening, START_NS)
    for line in LINES:
        arbiter.receive(line, message(overrun(start, 0)), LATER)
    due_ns = arbiter.deadline_ns()
    assert due_ns is not None
    arbiter.receive_timeout(due_ns)
    assert [each.kind for each in arbiter.output()][-1] is Kind.GAP
    assert [wanted.instrument for wanted in arbiter.commands()] == [NAME]


def test_one_connection_is_ranked_by_its_ids_where_times_are_equal() -> None:
    """What the venue does within one tick of its clock."""
    truth, venue = Truth(3, 30), L2Book(NAME)
    start, at_ns = truth.id_start, truth.at_ns(truth.id_start)
    arbiter = Arbiter("out", lambda _instrument, _channel: PROVED)
    arbiter.receive("a", checked(truth.snapshot(start), venue), START_NS)
    later = checked(truth.snapshot(start + 9), venue, ts_venue_ns=at_ns)
    arbiter.receive("a", later, LATER)
    while (due_ns := arbiter.deadline_ns()) is not None:
        arbiter.receive_timeout(due_ns)
    assert [each.id_last for each in arbiter.output() if each.kind is Kind.SNAPSHOT] == [start, start + 9]


# After a time without any link.


@pytest.mark.parametrize("rule", [SPOT, IN_BAND, PROVED, LEAD, NEWEST], ids=lambda rule: rule.rule.value)
def test_a_link_that_resumes_where_it_was_proves_the_book_again(rule: StreamRule) -> None:
    truth, venue = Truth(1, 30), L2Book(NAME)
    opening = checked(truth.snapshot(truth.id_start, flags=Flag.IMAGE), venue)
    arbiter = Arbiter("out", lambda _instrument, _channel: rule)
    book = L2Book(NAME)

    def settle() -> list[str]:
        consumer.take(arbiter.output())
        return [wanted.instrument for wanted in arbiter.commands()]

    consumer = Consumer(follow_ids=False)
    book = consumer.book
    arbiter.receive("a", opening, START_NS)
    settle()
    arbiter.receive_line_down("a", LATER)
    settle()
    assert book.state.value == "stale"
    arbiter.receive_line_up("a", LATER + SECOND)
    asked = settle()
    while not asked and (due_ns := arbiter.deadline_ns()) is not None and due_ns < LATER + 5 * SECOND:
        arbiter.receive_timeout(due_ns)
        asked = settle()
    assert asked == [NAME]
    arbiter.receive("a", opening, LATER + 5 * SECOND)
    settle()
    assert book.state.value == "live"
    assert arbiter.deadline_ns() is None


# The latest state and no more.


@pytest.mark.parametrize("rule", [FUTURES, SPOT, IN_BAND, NEWEST], ids=lambda rule: rule.rule.value)
def test_a_conflated_image_is_taken_at_once_and_nothing_is_missing(rule: StreamRule) -> None:
    truth = Truth(1, 30)
    at, end = truth.id_start + 2, truth.id_start + 12
    skipped = arrivals(LATER, "a", truth.snapshot(end, flags=Flag.IMAGE | Flag.CONFLATED))
    if rule is NEWEST:
        begin = arrivals(START_NS, "a", truth.snapshot(at))
        older: list[Event] = [truth.snapshot(at + 3)]
    else:
        begin, older = begun(truth), [truth.delta(number, number + 1, net=True) for number in range(at, end)]
    consumer = Consumer(truth, follow_ids=rule is not NEWEST)
    arbiter, _ = run([*begin, *skipped, *arrivals(LATER + MILLISECOND, "b", *older)], rule, consumer)
    assert told(consumer) == []
    assert consumer.book.id_last == end
    assert consumer.usable
    assert not arbiter.is_holding()


def test_a_conflated_image_ends_a_gap_and_a_stall() -> None:
    truth = Truth(1, 30)
    end = truth.id_start + 12
    lost = [Arrival(LATER, "a", message(truth.delta(end - 3, end - 2, net=True)))]
    consumer = Consumer(truth)
    run([*begun(truth), *lost], FUTURES, consumer)
    assert not consumer.usable
    arbiter, _ = run([*begun(truth), *lost], FUTURES, other := Consumer(truth))
    for line in LINES:
        arbiter.receive_line_down(line, LATER + 20 * SECOND)
    image = message(truth.snapshot(end, flags=Flag.IMAGE | Flag.CONFLATED))
    arbiter.receive("a", image, LATER + 21 * SECOND)
    other.take(arbiter.output())
    assert other.usable
    assert other.book.id_last == end


def test_conflated_trades_jump() -> None:
    rule = StreamRule(Rule.DENSE, contiguous=True)
    latest = msgspec.structs.replace(trade(40), flags=Flag.CONFLATED)
    begin = [arrival for line in LINES for arrival in arrivals(START_NS, line, trade(7), trade(8))]
    _, out = run([*begin, *arrivals(LATER, "a", latest), *arrivals(LATER + 1, "b", trade(9), trade(41))], rule)
    assert [(each.message.kind, each.message.id_last) for each in out] == [
        (Kind.TRADE, 7),
        (Kind.TRADE, 8),
        (Kind.TRADE, 40),
        (Kind.TRADE, 41),
    ]


def test_conflated_checked_books_jump() -> None:
    truth, venue = Truth(1, 30), L2Book(NAME)
    start = truth.id_start
    arbiter = Arbiter("out", lambda _instrument, _channel: PROVED)
    arbiter.receive("a", checked(truth.snapshot(start), venue), START_NS)
    arbiter.receive("a", checked(truth.snapshot(start + 9, flags=Flag.IMAGE | Flag.CONFLATED), venue), LATER)
    kinds = [(each.kind, each.id_last) for each in arbiter.output()]
    assert kinds == [(Kind.SNAPSHOT, start), (Kind.SNAPSHOT, start + 9)]
