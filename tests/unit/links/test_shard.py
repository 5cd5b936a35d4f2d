"""A replica of a shard, as its host drives it: links that come and go, silence, books, images, requests."""

from __future__ import annotations

import pytest

from raytrade.arbitration import Arbiter, ArbiterSettings, Rule, SnapshotWanted, StreamRule
from raytrade.arbitration.crossing import CROSSED_NS
from raytrade.arbitration.silence import REVIEW_NS
from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, LineDown, LineUp
from raytrade.core.incidents import Incident
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.links.shard import UNBOOKED_MAX, UNBOOKED_NS, Shard

BTC = "binance-spot:BTCUSDT"
ANY = SnapshotWanted(BTC, "gap")
START_NS = 1_700_000_000 * SECOND


def rules(_instrument: str, _channel: Channel) -> StreamRule:
    return StreamRule(Rule.STRICT, contiguous=True)


@pytest.fixture
def shard() -> Shard:
    return Shard("d0", Arbiter("d0", rules, ArbiterSettings(guard=True)), rules)


def of(line: str, *events: Event) -> list[Message]:
    return [parse(encode(event, line)) for event in events]


def snapshot(number: int) -> BookSnapshot:
    fields = {"price_scale": 0, "size_scale": 0, "ts_venue_ns": START_NS, "ts_recv_ns": START_NS}
    return BookSnapshot(instrument=BTC, id_last=number, bids=(99, 1), asks=(101, 1), **fields)


def delta(number: int, *bids: int) -> BookDelta:
    fields = {"price_scale": 0, "size_scale": 0, "ts_venue_ns": START_NS, "ts_recv_ns": START_NS}
    return BookDelta(instrument=BTC, id_prev=number - 1, id_last=number, bids=bids or (98, number), asks=(), **fields)


def up() -> LineUp:
    return LineUp(venue="binance-spot", ts_recv_ns=START_NS)


def kinds(messages: list[Message]) -> list[Kind]:
    return [message.kind for message in messages]


def test_the_lines_of_a_lost_link_are_down_until_one_is_heard_of(shard: Shard) -> None:
    shard.receive("c0", of("a", up()) + of("b", up()), START_NS)
    assert sorted(shard.lines()) == ["a", "b"]
    words = shard.lose("c0", START_NS + 1)
    assert kinds(words) == [Kind.LINE_DOWN] * 2
    cause = decode(words[0])
    assert isinstance(cause, LineDown) and cause.cause == "no link to c0"
    assert shard.lines() == []
    shard.receive("c0", of("a", snapshot(1)), START_NS + 2)
    assert shard.lines() == ["a"]
    out = [(message.kind, message.line) for message in shard.output()]
    assert out[-2:] == [(Kind.LINE_UP, "a"), (Kind.SNAPSHOT, "a")]


def test_a_link_that_goes_on_where_it_was_brings_all_its_lines_back(shard: Shard) -> None:
    shard.receive("c0", of("a", up()) + of("b", up()), START_NS)
    shard.lose("c0", START_NS + 1)
    shard.resume(list, START_NS + 2)
    assert shard.lines() == []
    shard.resume(lambda: ["c0"], START_NS + 3)
    assert sorted(shard.lines()) == ["a", "b"]


def test_who_has_lost_nothing_is_not_asked_what_was_resumed(shard: Shard) -> None:
    def resumed() -> list[str]:
        raise AssertionError("nothing to resume")

    shard.resume(resumed, START_NS)


def test_a_line_that_falls_silent_is_told_to_consumers_and_not_to_the_arbiter(shard: Shard) -> None:
    shard.receive("c0", of("a", up(), snapshot(1)), START_NS)
    shard.receive("c1", of("b", up(), snapshot(1)), START_NS)
    now_ns = START_NS
    for number in range(2, 120):
        now_ns += REVIEW_NS
        shard.receive("c0", of("a", delta(number)), now_ns)
        if number < 60:
            shard.receive("c1", of("b", delta(number)), now_ns)
        shard.advance(now_ns)
    down = [message for message in shard.output() if message.kind is Kind.LINE_DOWN]
    assert [message.line for message in down] == ["b"]
    word = decode(down[0])
    assert isinstance(word, LineDown) and "while other lines flow" in word.cause
    assert shard.silent() == ["b"] and sorted(shard.lines()) == ["a", "b"]
    shard.keep_books()
    assert list(shard.up) == ["a"]


def test_books_are_kept_when_much_has_gone_out_or_time_has_passed(shard: Shard) -> None:
    shard.settle(START_NS)
    shard.receive("c0", of("a", snapshot(1)), START_NS)
    shard.output()
    shard.settle(START_NS + 1)
    assert shard.books == {}
    shard.settle(START_NS + UNBOOKED_NS)
    assert shard.books[BTC].id_last == 1
    shard.receive("c0", of("a", *(delta(number) for number in range(2, UNBOOKED_MAX + 2))), START_NS)
    shard.output()
    shard.settle(START_NS + UNBOOKED_NS + 1)
    assert shard.books[BTC].id_last == UNBOOKED_MAX + 1


def test_a_clock_that_goes_back_holds_nothing_up(shard: Shard) -> None:
    shard.settle(START_NS)
    shard.receive("c0", of("a", snapshot(1)), START_NS)
    shard.output()
    shard.settle(START_NS - 60 * SECOND)
    assert shard.books[BTC].id_last == 1


def test_images_are_of_what_has_gone_out_and_was_wished_for(shard: Shard) -> None:
    shard.receive("c0", of("a", up(), snapshot(1), delta(2)), START_NS)
    shard.output()
    images = shard.images(Filter(BTC))
    assert kinds(images) == [Kind.LINE_UP, Kind.SNAPSHOT]
    assert images[1].flags & Flag.IMAGE and images[1].id_last == 2 and images[1].line == "d0"
    assert kinds(shard.images(Filter("kraken-v2:*"))) == [Kind.LINE_UP]
    assert shard.live() == [BTC]


def test_a_hole_is_noted_and_ends_the_book_until_it_is_proved_again(shard: Shard) -> None:
    shard.receive("c0", of("a", up(), snapshot(1), delta(2), delta(4)), START_NS)
    now_ns = START_NS + 10 * SECOND
    shard.advance(now_ns)
    shard.output()
    assert shard.live() == []
    (note,) = [note for note in shard.notes() if note.incident is Incident.GAP]
    assert (note.fields["id_prev"], note.fields["id_last"]) == (2, 3)
    shard.receive("c0", of("a", snapshot(4)), now_ns)
    shard.output()
    assert shard.live() == [BTC]
    assert [note.incident for note in shard.notes()] == [Incident.RESYNCED]


def test_a_book_that_stays_crossed_is_blamed_and_noted(shard: Shard) -> None:
    shard.receive("c0", of("a", up(), snapshot(1), delta(2, 105, 1)), START_NS)
    shard.output()
    shard.keep_books()
    shard.advance(START_NS)
    shard.advance(START_NS + CROSSED_NS)
    shard.output()
    assert Incident.BOOK_CROSSED in [note.incident for note in shard.notes()]
    assert shard.live() == []


def test_every_replica_asks_the_same_collector_and_another_one_at_the_next_attempt(shard: Shard) -> None:
    other = Shard("d1", Arbiter("d1", rules), rules)
    asked = [shard.whom_to_ask(ANY, ["c0", "c1", "c2"]) for _ in range(4)]
    assert asked == [other.whom_to_ask(ANY, ["c2", "c1", "c0"]) for _ in range(4)]
    assert {names[0] for names in asked[:3]} == {"c0", "c1", "c2"} and asked[3] == asked[0]
    assert all(sorted(names) == ["c0", "c1", "c2"] for names in asked)
    assert shard.whom_to_ask(ANY, []) == []


def test_a_lines_own_book_is_asked_for_where_the_line_is(shard: Shard) -> None:
    shard.receive("c0", of("a", up()), START_NS)
    shard.receive("c1", of("b", up()), START_NS)
    wanted = SnapshotWanted(BTC, "its own book is wrong", "b")
    assert shard.whom_to_ask(wanted, ["c0", "c1"]) == ["c1"]
    assert shard.whom_to_ask(wanted, ["c0"]) == []
