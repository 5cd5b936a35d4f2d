"""What seeds found, each as the smallest case that shows it."""

from __future__ import annotations

import msgspec

from raytrade.arbitration import Arbiter, Rule, StreamRule
from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, GapKind, LineDown, LineUp, Side
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, decode
from raytrade.links.line_books import LineBooks
from tests.property.lines import NAME, START_NS, Arrival, Consumer, Truth, message, run

LOOSE = StreamRule(Rule.LOOSE, contiguous=True)
STRICT = StreamRule(Rule.STRICT, contiguous=True, in_band=True)
PROVED = StreamRule(Rule.LEAD, in_band=True, checksum="kraken")
LEAD = StreamRule(Rule.LEAD, in_band=True)
OLD = 3 * SECOND
"""Past this time all lines of a stream count as known."""


def delta(truth: Truth, start: int, end: int, now_ns: int, line: str = "a") -> Arrival:
    return Arrival(now_ns, line, message(truth.delta(start, end), line))


def book(truth: Truth, number: int, now_ns: int, line: str = "a") -> Arrival:
    return Arrival(now_ns, line, message(truth.snapshot(number), line))


def gaps_of(consumer: Consumer) -> list[tuple[int, int]]:
    return [(gap.id_prev, gap.id_last) for gap in consumer.gaps]


def given(consumer: Consumer) -> list[tuple[str, int]]:
    kinds = (Kind.DELTA, Kind.SNAPSHOT, Kind.GAP)
    return [(each.kind.name, each.id_last) for each in consumer.log if each.kind in kinds]


def beginning(truth: Truth) -> list[Arrival]:
    start = truth.id_start
    return [
        delta(truth, start, start + 1, START_NS),
        book(truth, start + 1, START_NS + 1),
        delta(truth, start + 1, start + 2, START_NS + OLD),
    ]


def test_every_hole_before_the_snapshot_after_a_gap_is_told() -> None:
    """Seeds 40, 41, 67: only the first was."""
    truth = Truth(1, 20)
    start, now_ns = truth.id_start, START_NS + OLD + MILLISECOND
    arrivals = [
        *beginning(truth),
        delta(truth, start + 3, start + 4, now_ns),
        delta(truth, start + 5, start + 6, now_ns + 1),
        book(truth, start + 6, now_ns + SECOND),
    ]
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer)
    assert gaps_of(consumer) == [(start + 2, start + 3), (start + 4, start + 5)]
    assert given(consumer)[-5:] == [
        ("GAP", start + 3),
        ("DELTA", start + 4),
        ("GAP", start + 5),
        ("DELTA", start + 6),
        ("SNAPSHOT", start + 6),
    ]
    assert consumer.usable


def test_what_lies_between_the_last_delta_and_the_snapshot_after_a_gap_is_told() -> None:
    """Seed 27: a snapshot ahead of the lines hid what none of them delivered."""
    truth = Truth(1, 20)
    start, now_ns = truth.id_start, START_NS + OLD + MILLISECOND
    arrivals = [
        *beginning(truth),
        delta(truth, start + 3, start + 4, now_ns),
        book(truth, start + 7, now_ns + SECOND),
        delta(truth, start + 7, start + 8, now_ns + SECOND + 20 * MILLISECOND),
    ]
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer)
    assert gaps_of(consumer) == [(start + 2, start + 3), (start + 4, start + 7)]
    assert consumer.usable
    assert consumer.book.id_last == start + 8


def test_a_snapshot_that_is_ahead_after_a_gap_waits_for_what_is_under_way() -> None:
    truth = Truth(1, 20)
    start, now_ns = truth.id_start, START_NS + OLD + MILLISECOND
    late_ns = now_ns + SECOND + 30 * MILLISECOND
    arrivals = [
        *beginning(truth),
        delta(truth, start + 3, start + 4, now_ns),
        book(truth, start + 7, now_ns + SECOND),
        *[delta(truth, number - 1, number, late_ns) for number in range(start + 5, start + 8)],
    ]
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer, tail_ns=40 * MILLISECOND)
    assert gaps_of(consumer) == [(start + 2, start + 3)]
    assert consumer.usable
    assert consumer.book.id_last == start + 7


def test_a_window_over_the_snapshot_after_a_gap_is_no_hole() -> None:
    """Seed 52: what the window covers was given out with it."""
    truth = Truth(1, 20)
    start, now_ns = truth.id_start, START_NS + OLD + MILLISECOND
    arrivals = [
        *beginning(truth),
        delta(truth, start + 3, start + 4, now_ns),
        delta(truth, start + 4, start + 9, now_ns + 1),
        book(truth, start + 7, now_ns + SECOND),
    ]
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer)
    assert gaps_of(consumer) == [(start + 2, start + 3)]
    assert consumer.book.id_last == start + 9


def test_a_gap_after_an_outage_ends_where_held_messages_begin() -> None:
    """Seeds 27, 79: it reached over messages that came out after it."""
    truth = Truth(1, 20)
    start, now_ns = truth.id_start, START_NS + OLD + MILLISECOND
    down, up = LineDown(venue="sim", cause="cut"), LineUp(venue="sim")
    arrivals = [
        *beginning(truth),
        delta(truth, start + 3, start + 5, now_ns),
        Arrival(now_ns + 1, "a", message(down, "a")),
        Arrival(now_ns + 2, "a", message(up, "a")),
        book(truth, start + 8, now_ns + 3),
        delta(truth, start + 8, start + 9, now_ns + 4),
    ]
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer)
    assert gaps_of(consumer) == [(start + 2, start + 3), (start + 5, start + 8)]
    assert consumer.usable


def test_a_book_in_band_that_does_not_come_is_asked_for() -> None:
    """Seed 0: a replica that starts when every line's book has a hole would wait for ever."""
    truth = Truth(1, 20)
    start = truth.id_start
    asked: list[int] = []
    consumer = Consumer(truth)

    def answer(_: object, now_ns: int) -> list[Arrival]:
        asked.append(now_ns)
        return [book(truth, start + 2, now_ns + 1)]

    arrivals = [delta(truth, start, start + 1, START_NS), delta(truth, start + 1, start + 2, START_NS + 1)]
    run(arrivals, STRICT, consumer, answer=answer)
    assert len(asked) == 1
    assert consumer.usable


def checked(event: BookSnapshot | BookDelta, book: L2Book) -> Message:
    book.apply(event)
    return message(msgspec.structs.replace(event, state_hash=CHECKSUMS["kraken"](book), flags=Flag.CHECKED))


def test_a_checked_book_that_only_the_link_lost_is_asked_for() -> None:
    """Seed 520: the link came back where it was, without an image, and the consumer waited for one for ever."""
    truth, venue = Truth(1, 20), L2Book(NAME)
    start = truth.id_start
    arbiter = Arbiter("out", lambda _instrument, _channel: PROVED)
    arbiter.receive("a", checked(truth.snapshot(start), venue), START_NS)
    arbiter.receive_line_down("a", START_NS + SECOND)
    arbiter.receive_line_up("a", START_NS + 2 * SECOND)
    arbiter.receive("a", checked(truth.delta(start, start + 1), venue), START_NS + 2 * SECOND)
    due_ns = arbiter.deadline_ns()
    assert due_ns is not None
    arbiter.receive_timeout(due_ns)
    assert [wanted.instrument for wanted in arbiter.commands()] == [NAME]


def test_a_lead_book_that_no_line_has_is_asked_for() -> None:
    truth = Truth(1, 20)
    arbiter = Arbiter("out", lambda _instrument, _channel: LEAD)
    arbiter.receive("a", message(truth.delta(truth.id_start, truth.id_start + 1)), START_NS)
    due_ns = arbiter.deadline_ns()
    assert due_ns is not None
    arbiter.receive_timeout(due_ns)
    assert [wanted.instrument for wanted in arbiter.commands()] == [NAME]


# The books that a collector opens links with (seed 0).


def in_band(_instrument: str, _channel: Channel) -> StreamRule:
    return STRICT


def followed(truth: Truth, *events: Event) -> list[Message]:
    books = LineBooks(in_band)
    for event in events:
        books.follow("a", event, message(event, "a"))
    return books.images(Filter())


def test_a_line_book_with_a_hole_opens_no_link() -> None:
    truth = Truth(1, 20)
    start = truth.id_start
    holed = (truth.snapshot(start), truth.delta(start + 1, start + 2, net=True))
    assert followed(truth, *holed) == []
    (image,) = followed(truth, *holed, truth.snapshot(start + 5))
    assert image.id_last == start + 5


def test_a_line_book_passes_over_what_comes_twice() -> None:
    truth = Truth(1, 20)
    start = truth.id_start
    first, second = truth.delta(start, start + 1, net=True), truth.delta(start + 1, start + 2, net=True)
    (image,) = followed(truth, truth.snapshot(start), first, second, first)
    event = decode(image)
    assert isinstance(event, BookSnapshot)
    assert event.id_last == start + 2
    assert event.flags & Flag.IMAGE
    assert sorted(zip(event.bids[::2], event.bids[1::2], strict=True)) == sorted(
        zip(truth.levels(start + 2, Side.BUY)[::2], truth.levels(start + 2, Side.BUY)[1::2], strict=True)
    )


def test_line_books_follow_word_of_lines() -> None:
    truth = Truth(1, 20)
    up, down = LineUp(venue="sim"), LineDown(venue="sim", cause="cut")
    images = followed(truth, up, truth.snapshot(truth.id_start))
    assert [image.kind for image in images] == [Kind.LINE_UP, Kind.SNAPSHOT]
    assert followed(truth, up, truth.snapshot(truth.id_start), down) == []


def test_a_gap_of_the_line_ends_its_book() -> None:
    truth = Truth(1, 20)
    gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=0, id_last=0, cause="checksum")
    assert followed(truth, truth.snapshot(truth.id_start), gap) == []


def test_unapplied_deltas_do_not_move_a_line_book() -> None:
    truth = Truth(1, 20)
    start = truth.id_start
    unapplied: BookDelta = truth.delta(start, start + 1, net=True, flags=Flag.UNAPPLIED)
    (image,) = followed(truth, truth.snapshot(start), unapplied)
    assert image.id_last == start
