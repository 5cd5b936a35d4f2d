"""What becomes of a reader that does not keep up, by its policy."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import Flag, Stalled
from raytrade.core.instrument import Filter
from raytrade.core.message import SCHEMA_VERSION, Kind, Message, decode
from raytrade.core.ring import MessageRing
from raytrade.links.batch import decode_batch
from raytrade.links.conflating import ConflatingWriter
from raytrade.links.opening import NOWHERE, OpenLink
from raytrade.links.policy import Policy
from raytrade.links.publisher import EPISODE_NS, Publisher, Sent
from raytrade.links.reader import LinkReader
from raytrade.links.writer import LinkSettings
from tests.unit.links.streams import STEP_NS, delta, ids, image, images_of, line_up, ring_of, trade
from tests.unit.links.test_publisher import FakeLane, Owner

SETTINGS = LinkSettings(conflate_items=5, conflate_ns=3 * STEP_NS, batch_bytes_max=400, in_flight_max=2)


class Board:
    """A link that wants the latest only, whose lane has room when it is told so."""

    def __init__(self, ring: MessageRing, *images: Message, settings: LinkSettings = SETTINGS, **wish: Any) -> None:
        self.images = list(images)
        self.now_ns = 1_000 * STEP_NS
        self.next_index = 0
        self.under_way = 0
        opening = OpenLink(link=7, reader="board", policy=Policy.CONFLATE, **wish)
        self.writer = ConflatingWriter(opening, ring, 42, settings, settings.spacing_ns)
        self.writer.open(self.give, self.now_ns)

    def give(self, wanted: Filter) -> list[Message]:
        return images_of(*self.images)(wanted)

    def cut(self) -> list[Message]:
        self.now_ns += STEP_NS
        data = self.writer.cut(self.give, self.now_ns)
        if data is None:
            return []
        self.under_way += 1
        header, messages = decode_batch(data)
        self.next_index = header.next_index
        return messages

    def take(self) -> None:
        while self.under_way:
            self.under_way -= 1
            self.writer.sent_done()

    def drain(self) -> list[list[Message]]:
        batches = []
        self.take()
        while not self.writer.is_drained():
            batches.append(self.cut())
            self.take()
        return batches


def block(board: Board) -> None:
    """Fill the lane."""
    while board.under_way < SETTINGS.in_flight_max:
        board.cut()


def flat(batches: list[list[Message]]) -> list[Message]:
    return [message for batch in batches for message in batch]


def conflated(messages: list[Message]) -> list[tuple[str, int]]:
    return ids([each for each in messages if each.flags & Flag.CONFLATED])


def test_a_reader_that_keeps_up_gets_every_message() -> None:
    ring = ring_of()
    board = Board(ring, image("A", 1))
    board.drain()
    for number in range(2, 40):
        ring.append(delta("A", number))
        assert ids(flat(board.drain())) == [("A", number)]
    assert board.writer.counts.conflated == 0


def test_one_that_is_behind_gets_the_newest_book_and_trade_of_each_instrument_and_no_gap() -> None:
    ring = ring_of()
    board = Board(ring, line_up(), image("A", 1), image("B", 1))
    board.drain()
    block(board)
    for number in range(2, 30):
        ring.append(delta("A", number))
        ring.append(delta("B", number))
        ring.append(trade("T", number))
    assert board.cut() == []
    board.images = [line_up(), image("A", 29), image("B", 29)]
    received = flat(board.drain())
    assert sorted(conflated(received)) == [("=A", 29), ("=B", 29), ("T", 29)]
    assert all(each.kind is not Kind.GAP for each in received)
    assert len(received) == 3
    ring.append(delta("A", 30))
    assert ids(flat(board.drain())) == [("A", 30)]
    assert board.next_index == ring.end


def test_an_instrument_has_one_image_in_a_batch_made_when_the_batch_is_cut() -> None:
    ring = ring_of()
    symbols = [f"S{number}" for number in range(40)]
    board = Board(ring)
    block(board)
    for number in range(1, 4):
        for symbol in symbols:
            ring.append(delta(symbol, number))
    board.images = [image(symbol, 3) for symbol in symbols]
    board.cut()
    board.take()
    first = board.cut()
    board.take()
    assert 0 < len(first) < len(symbols)
    assert board.next_index == NOWHERE
    for symbol in symbols:
        ring.append(delta(symbol, 4))
    board.images = [image(symbol, 4) for symbol in symbols]
    batches = [first, *board.drain()]
    for batch in batches:
        names = [each.instrument for each in batch if each.kind is Kind.SNAPSHOT]
        assert len(names) == len(set(names))
    last = {each.instrument: each.id_last for each in flat(batches)}
    assert last == {f"v:{symbol}": 4 for symbol in symbols}
    late = {each.instrument for each in flat(batches[1:]) if each.kind is Kind.SNAPSHOT}
    assert all(each.id_last == 4 for each in flat(batches[1:]) if each.instrument in late)


def test_a_reader_that_stands_still_costs_no_more_than_its_set_of_streams() -> None:
    ring = ring_of(items_max=50)
    board = Board(ring, image("A", 1))
    block(board)
    for number in range(2, 5_000):
        ring.append(delta("A", number))
        board.cut()
    board.images = [image("A", 4_999)]
    assert ids(flat(board.drain())) == [("=A", 4_999)]
    assert board.writer.counts.conflated > 4_900


def test_a_book_that_cannot_be_used_is_stalled_until_it_can() -> None:
    ring = ring_of()
    board = Board(ring, image("A", 1))
    board.drain()
    block(board)
    for number in range(2, 10):
        ring.append(delta("A", number, flags=Flag.UNAPPLIED))
    board.cut()
    board.images = []
    (stalled,) = flat(board.drain())
    assert isinstance(decode(stalled), Stalled)
    assert board.next_index == NOWHERE
    ring.append(delta("A", 10, flags=Flag.UNAPPLIED))
    assert flat(board.drain()) == []
    ring.append(image("A", 11))
    board.images = [image("A", 11)]
    assert conflated(flat(board.drain())) == [("=A", 11)]
    assert board.next_index == ring.end


def test_lines_that_went_down_meanwhile_are_told() -> None:
    ring = ring_of(line_up("c1/v-1"), line_up("c2/v-1"))
    board = Board(ring, line_up("c1/v-1"), line_up("c2/v-1"))
    board.drain()
    block(board)
    for number in range(1, 10):
        ring.append(line_up("c2/v-1") if number == 1 else delta("A", number))
    board.cut()
    board.images = [line_up("c2/v-1"), image("A", 9)]
    assert sorted(ids(flat(board.drain()))) == [("+v", 0), ("-v", 0), ("=A", 9)]


# The end of a link.


def test_a_link_that_may_not_fail_ends_with_its_reason() -> None:
    owner = Owner(image("A", 1))
    owner.publisher.ring.items_max = 4
    reader = LinkReader("w", 100)
    wish = reader.wish("strict", OpenLink(link=0, reader="", policy=Policy.FAIL), owner.now_ns)
    lane = FakeLane(Sent.FULL)
    owner.publisher.open(wish, lane, owner.now_ns)
    owner.pump(*range(2, 20))
    lane.answer, lane.data = Sent.TAKEN, []
    owner.pump()
    owner.pump()
    for data in lane.data:
        reader.receive(data, owner.now_ns)
    assert lane.is_closed
    assert "strict: " in reader.closed
    assert "policy fail" in reader.closed
    assert not reader.is_up
    assert not reader.must_open(owner.now_ns + 100 * SECOND)
    assert owner.publisher.is_drained()
    assert owner.publisher.notes() == [reader.closed]


def test_one_that_comes_back_too_late_is_told_the_same() -> None:
    owner = Owner()
    owner.publisher.ring.items_max = 4
    owner.pump(*range(1, 20))
    lane = FakeLane()
    wish = OpenLink(link=3, reader="strict", writer=42, next_index=2, policy=Policy.FAIL)
    owner.publisher.open(wish, lane, owner.now_ns)
    owner.pump()
    assert [decode_batch(data)[0].closing != "" for data in lane.data] == [True]
    assert lane.is_closed


# What is reported.


@pytest.mark.parametrize("policy", [Policy.SKIP, Policy.CONFLATE, Policy.SPILL])
def test_a_reader_that_is_too_slow_is_reported_once(policy: Policy) -> None:
    settings = LinkSettings(ring_items_max=10, in_flight_max=1)
    publisher = Publisher(42, settings, images_of(), lambda link, problem: None)
    lane, now_ns = FakeLane(Sent.PENDING), 1_000 * STEP_NS
    wish = OpenLink(link=1, reader="slow", policy=policy, schema=SCHEMA_VERSION)
    publisher.open(wish, lane, now_ns)
    number, told = 0, []
    for _ in range(200):
        number += 1
        publisher.append([delta("A", number)])
        now_ns += STEP_NS
        publisher.pump(now_ns)
        if number % 30 == 0:
            publisher.sent(1, None)
        told += publisher.notes()
    assert len(told) == 1
    assert told[0].startswith("slow fell behind by ")
    assert publisher.episodes == {"slow": 1}
    now_ns += 2 * EPISODE_NS
    publisher.append([delta("A", number + each) for each in range(1, 30)])
    publisher.sent(1, None)
    publisher.pump(now_ns)
    publisher.sent(1, None)
    publisher.pump(now_ns + SECOND)
    assert publisher.episodes == {"slow": 2}


def test_a_slow_reader_delays_nobody() -> None:
    owner = Owner(image("A", 1))
    stuck, fast = FakeLane(Sent.FULL), FakeLane()
    owner.publisher.open(OpenLink(link=1, reader="stuck", policy=Policy.CONFLATE), stuck, owner.now_ns)
    owner.open(2, "fast", fast)
    for number in range(2, 50):
        owner.pump(number)
    assert ids(fast.messages()) == [("=A", 1), *(("A", number) for number in range(2, 50))]
