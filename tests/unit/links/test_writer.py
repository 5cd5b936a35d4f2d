from __future__ import annotations

import pytest

from raytrade.core.clock import MILLISECOND
from raytrade.core.events import Gap, GapKind, LineDown, LineUp
from raytrade.core.message import Kind, decode
from raytrade.links import writer
from raytrade.links.batch import decode_batch
from raytrade.links.opening import NOWHERE
from raytrade.links.writer import LinkSettings, shard_of
from tests.unit.links.streams import (
    STEP_NS,
    Link,
    delta,
    ids,
    image,
    images_of,
    line_up,
    message_of,
    ring_of,
    trade,
)


def test_an_opening_gives_images_and_then_what_comes() -> None:
    ring = ring_of(delta("A", 1), delta("A", 2))
    link = Link(ring, images_of(line_up(), image("A", 2)))
    ring.append(delta("A", 3))
    assert ids(link.drain()) == [("+v", 0), ("=A", 2), ("A", 3)]
    assert [header.index for header in link.headers] == [0, 1]


def test_a_reader_that_is_known_goes_on_where_it_was() -> None:
    ring = ring_of(*(delta("A", number) for number in range(1, 9)))
    link = Link(ring, images_of(image("A", 8)), writer=42, next_index=5)
    assert ids(link.drain()) == [("A", 6), ("A", 7), ("A", 8)]
    assert link.headers[-1].next_index == ring.end


@pytest.mark.parametrize(("known", "index"), [(41, 5), (42, 9), (42, NOWHERE), (0, 0)])
def test_any_other_reader_gets_images(known: int, index: int) -> None:
    ring = ring_of(*(delta("A", number) for number in range(1, 9)), items_max=4)
    link = Link(ring, images_of(image("A", 8)), writer=known, next_index=index)
    assert ids(link.drain()) == [("=A", 8)]


def test_a_reader_whose_place_is_lost_gets_gaps_and_images() -> None:
    ring = ring_of(*(trade("B", 1), delta("A", 7), delta("A", 8)), items_max=2)
    received = Link(ring, images_of(image("A", 8)), writer=42, next_index=0).drain()
    assert ids(received) == [("!A", 8), ("=A", 8)]


def test_images_that_are_asked_for_come_at_their_place() -> None:
    ring = ring_of(delta("A", 1), delta("B", 1), delta("A", 2), delta("A", 3))
    link = Link(ring, images_of(image("A", 3), image("B", 1)), writer=42, next_index=2, fresh=("v:A",))
    ring.append(delta("A", 4))
    assert ids(link.drain()) == [("A", 2), ("A", 3), ("=A", 3), ("A", 4)]


def test_a_replay_gives_the_last_seconds_of_what_has_no_image() -> None:
    since = 1_000 * STEP_NS - 50
    stamps = [since - 1, since, since + 1, since + 2]
    ring = ring_of(
        *(delta(symbol, number, ts_recv_ns=stamps[number - 1]) for number in (1, 2, 3, 4) for symbol in "AB")
    )
    link = Link(ring, images_of(image("B", 4)), LinkSettings(replay_ns=50), replay=True)
    assert ids(link.drain()) == [("=B", 4), ("A", 2), ("A", 3), ("A", 4)]


def test_until_the_images_are_passed_there_is_no_index_to_go_on_from() -> None:
    ring = ring_of(*(delta(symbol, number) for number in range(1, 9) for symbol in "AB"))
    settings = LinkSettings(batch_bytes_max=1, opening_bytes_max=1)
    link = Link(ring, images_of(image("B", 8), line_up()), settings, replay=True)
    link.drain()
    indices = [header.next_index for header in link.headers]
    assert indices == [NOWHERE] * (len(indices) - 1) + [ring.end]


# By ids.


BOOK = "v:A/book"
TRADES = "v:A/trades"


def test_what_the_ring_holds_is_sent_from_the_readers_id_on() -> None:
    ring = ring_of(*(each for number in range(1, 7) for each in (delta("A", number), trade("A", 10 + number))))
    link = Link(ring, images_of(image("A", 6)), positions={BOOK: 4, TRADES: 15})
    assert ids(link.drain()) == [("A", 5), ("A", 6), ("A", 16)]


def test_a_reader_that_has_everything_gets_what_comes() -> None:
    ring = ring_of(delta("A", 1), delta("A", 2), trade("A", 1))
    link = Link(ring, images_of(image("A", 2)), positions={BOOK: 2, TRADES: 1})
    ring.append(delta("A", 3))
    assert ids(link.drain()) == [("A", 3)]


def test_a_window_over_the_readers_id_is_sent_whole() -> None:
    ring = ring_of(delta("A", 3, id_prev=0), delta("A", 6, id_prev=3))
    assert ids(Link(ring, images_of(image("A", 6)), positions={BOOK: 5}).drain()) == [("A", 6)]


def test_what_the_ring_has_lost_is_a_gap_and_an_image() -> None:
    ring = ring_of(*(delta("A", number) for number in range(1, 10)), items_max=3)
    received = Link(ring, images_of(image("A", 9)), positions={BOOK: 4}).drain()
    gap = decode(received[0])
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.id_prev, gap.id_last) == (GapKind.SLOW_CONSUMER, 4, 9)
    assert ids(received[1:]) == [("=A", 9)]


def test_trades_that_the_ring_has_lost_are_a_gap_and_the_rest_is_sent() -> None:
    ring = ring_of(*(trade("A", number) for number in range(1, 10)), items_max=3)
    received = Link(ring, positions={TRADES: 4}).drain()
    gap = decode(received[0])
    assert isinstance(gap, Gap)
    assert (gap.id_prev, gap.id_last) == (4, 6)
    assert ids(received[1:]) == [("A", 7), ("A", 8), ("A", 9)]


def test_the_oldest_held_message_may_just_follow_on() -> None:
    ring = ring_of(*(delta("A", number) for number in range(1, 10)), items_max=3)
    assert ids(Link(ring, images_of(image("A", 9)), positions={BOOK: 6}).drain()) == [("A", 7), ("A", 8), ("A", 9)]


def test_a_reader_that_is_ahead_gets_the_image() -> None:
    ring = ring_of(delta("A", 1), delta("A", 2), trade("A", 5))
    received = Link(ring, images_of(image("A", 2)), positions={BOOK: 4, TRADES: 7}).drain()
    assert ids(received) == [("=A", 2)]


def test_a_hole_inside_the_ring_is_told_by_what_the_ring_says_of_it() -> None:
    note = message_of(decode(Link(ring_of(), positions={TRADES: 4}).drain()[0]))
    ring = ring_of(delta("A", 3), note, image("A", 9), delta("A", 10))
    received = Link(ring, images_of(image("A", 10)), positions={BOOK: 5}).drain()
    assert [each.kind for each in received] == [Kind.GAP, Kind.SNAPSHOT, Kind.DELTA]


def test_streams_without_a_position_are_sent_whole() -> None:
    ring = ring_of(delta("A", 1), trade("B", 1), delta("B", 3), trade("C", 0))
    link = Link(ring, images_of(image("B", 3)), positions={BOOK: 1, "v:C/trades": 0, "v:gone/bbo": 5})
    assert ids(link.drain()) == [("=B", 3), ("B", 1), ("C", 0)]


# What is wanted.


def test_filters_choose_streams_and_notes_on_lines_always_come() -> None:
    ring = ring_of()
    link = Link(ring, images_of(image("A", 1), image("B", 1)), filters=("v:A/book", "v:B/trades"))
    for each in (line_up(), delta("A", 2), trade("A", 1), delta("B", 2), trade("B", 1)):
        ring.append(each)
    assert ids(link.drain()) == [("=A", 1), ("+v", 0), ("A", 2), ("B", 1)]


def test_shards_part_the_instruments() -> None:
    ring = ring_of()
    links = [Link(ring, shard=(number, 3)) for number in range(3)]
    symbols = [f"S{number}" for number in range(30)]
    for symbol in symbols:
        ring.append(delta(symbol, 1))
        ring.append(trade(symbol, 1))
    parts = [ids(link.drain()) for link in links]
    assert all(parts)
    assert sorted(row for part in parts for row in part) == sorted((symbol, 1) for symbol in symbols for _ in range(2))
    assert all(shard_of(f"v:{row[0]}", 3) == number for number, part in enumerate(parts) for row in part)


# Pace and bounds.


def test_an_idle_link_sends_heartbeats() -> None:
    settings = LinkSettings(heartbeat_ns=3 * STEP_NS)
    link = Link(ring_of(delta("A", 1)), settings=settings)
    taken = [link.cut() for _ in range(10)]
    assert taken == [[], None, None, [], None, None, [], None, None, []]
    assert {header.next_index for header in link.headers} == {1}


def test_batches_keep_their_distance_and_a_new_message_goes_at_once() -> None:
    ring = ring_of()
    settings = LinkSettings(spacing_ns=4 * MILLISECOND)
    link = Link(ring, settings=settings)
    sender = link.writer
    assert sender.cut(link.images, link.now_ns) is not None
    sender.sent_done()
    assert sender.due_ns() == link.now_ns + settings.heartbeat_ns
    ring.append(delta("A", 1))
    assert sender.due_ns() == link.now_ns + settings.spacing_ns
    assert sender.cut(link.images, link.now_ns + settings.spacing_ns - 1) is None
    assert sender.cut(link.images, link.now_ns + settings.spacing_ns) is not None


def test_only_so_many_batches_are_under_way() -> None:
    ring = ring_of()
    link = Link(ring, settings=LinkSettings(in_flight_max=2))
    sent = []
    for number in range(1, 6):
        ring.append(delta("A", number))
        link.now_ns += STEP_NS
        sent.append(link.writer.cut(link.images, link.now_ns) is not None)
    assert sent == [True, True, False, False, False]
    assert link.writer.due_ns() is None
    assert not link.writer.is_drained()
    link.writer.sent_done()
    assert ids(link.cut() or []) == [("A", 3), ("A", 4), ("A", 5)]


def test_a_batch_ends_with_the_message_that_fills_it() -> None:
    each = len(delta("A", 1).raw)
    ring = ring_of()
    link = Link(ring, settings=LinkSettings(batch_bytes_max=2 * each + 1))
    for number in range(1, 8):
        ring.append(delta("A", number))
    link.drain()
    assert [header.count for header in link.headers] == [3, 3, 1]
    assert [header.next_index for header in link.headers] == [3, 6, 7]


def test_images_come_in_bounded_batches_too() -> None:
    each = len(image("A", 1).raw)
    ring = ring_of()
    link = Link(ring, images_of(*(image(symbol, 1) for symbol in "ABCDE")), LinkSettings(opening_bytes_max=2 * each))
    ring.append(delta("A", 2))
    assert ids(link.drain()) == [("=A", 1), ("=B", 1), ("=C", 1), ("=D", 1), ("=E", 1), ("A", 2)]
    assert [header.count for header in link.headers] == [2, 2, 1, 1]


def test_unwanted_messages_do_not_hold_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SCANNED_MAX", 10)
    ring = ring_of()
    link = Link(ring, filters=("v:B",))
    for number in range(1, 36):
        ring.append(delta("A", number))
    ring.append(delta("B", 1))
    assert ids(link.drain()) == [("B", 1)]
    assert [header.count for header in link.headers] == [0, 0, 0, 1]


def test_a_batch_that_was_put_back_is_offered_again() -> None:
    ring = ring_of()
    link = Link(ring, settings=LinkSettings(full_retry_ns=STEP_NS))
    ring.append(delta("A", 1))
    data = link.writer.cut(link.images, link.now_ns)
    assert data is not None
    link.writer.put_back(data, link.now_ns)
    ring.append(delta("A", 2))
    assert not link.writer.is_drained()
    assert link.writer.cut(link.images, link.now_ns + STEP_NS - 1) is None
    assert link.writer.cut(link.images, link.now_ns + STEP_NS) == data
    link.writer.sent_done()
    link.now_ns += 2 * STEP_NS
    assert ids(link.drain()) == [("A", 2)]


# A reader that is too slow.


def test_a_slow_reader_gets_gaps_then_images_then_what_comes() -> None:
    ring = ring_of(items_max=4)
    link = Link(ring, images_of(line_up("c1/v-2"), image("A", 20), image("B", 7)))
    for each in (line_up(), line_up("c1/v-2"), delta("A", 3), trade("A", 1)):
        ring.append(each)
    link.drain()
    for number in range(4, 21):
        ring.append(delta("A", number))
    received = link.drain()
    events = [decode(each) for each in received]
    gaps = {(event.instrument, event.channel.name): event for event in events if isinstance(event, Gap)}
    assert {key: (gap.id_prev, gap.id_last) for key, gap in gaps.items()} == {
        ("v:A", "BOOK"): (3, 20),
    }
    assert {gap.kind for gap in gaps.values()} == {GapKind.SLOW_CONSUMER}
    assert [each.line for each, event in zip(received, events, strict=True) if isinstance(event, LineDown)] == [
        "c1/v-1"
    ]
    assert [event for event in events if isinstance(event, LineUp)] == [LineUp(venue="v")]
    assert ids(received[-2:]) == [("=A", 20), ("=B", 7)]
    assert link.writer.counts.overruns == 1
    ring.append(delta("A", 21))
    assert ids(link.drain()) == [("A", 21)]


def test_each_line_has_its_own_gap() -> None:
    ring = ring_of(items_max=2)
    link = Link(ring)
    ring.append(delta("A", 5, "one"))
    ring.append(delta("A", 9, "two"))
    link.drain()
    for number in range(10, 13):
        ring.append(delta("A", number, "two"))
    received = link.drain()
    assert [(each.kind, each.line, each.id_prev) for each in received] == [(Kind.GAP, "one", 5), (Kind.GAP, "two", 9)]


def test_a_slow_reader_of_one_stream_hears_nothing_of_the_others() -> None:
    ring = ring_of(items_max=2)
    link = Link(ring, images_of(image("A", 1), image("B", 9)), filters=("v:A",))
    link.drain()
    for number in range(10):
        ring.append(delta("B", number))
    assert {each.instrument for each in link.drain()} == {"v:A"}


def test_counts() -> None:
    ring = ring_of()
    link = Link(ring)
    for number in range(1, 4):
        ring.append(delta("A", number))
    assert link.writer.statistics().behind == 3
    data = link.writer.cut(link.images, link.now_ns)
    assert data is not None
    counts = link.writer.statistics()
    assert counts.behind == 0
    assert (counts.batches, counts.messages, counts.bytes_sent, counts.behind_max) == (1, 3, len(data), 3)
    assert decode_batch(data)[0].ts_sent_ns == link.now_ns
