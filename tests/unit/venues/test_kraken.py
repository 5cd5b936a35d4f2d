"""Kraken spot v2: checksums, the cut to the subscribed depth, breaks."""

from __future__ import annotations

import json
from zlib import crc32

import msgspec
import pytest

from raytrade.core.book import L2Book
from raytrade.core.checksum import kraken
from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, GapKind, Side, Trade
from raytrade.errors import DecodeError
from raytrade.venues.kraken import display_id, number_text
from raytrade.venues.protocol import Reconnect, Refused, SendFrame, VenueMachine
from tests.unit.core.test_checksum import ASKS, BIDS, KRAKEN_VECTOR, pairs
from tests.unit.venues.lines import OPENED_NS, feed, ids, line, only, sent

SYMBOL = "BTC/USD"
TIME = "2026-08-02T03:35:51.660084Z"
TIME_NS = 1785641751660084000


def side(rows: list[tuple[str, str]]) -> str:
    return "[" + ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in rows) + "]"


def frame(kind: str, bids: str, asks: str, checksum: int, symbol: str = SYMBOL) -> str:
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":{side(pairs(bids))},'
        f'"asks":{side(pairs(asks))},"checksum":{checksum},"timestamp":"{TIME}"}}]}}'
    )


def crc(asks: str, bids: str) -> int:
    """Checksum of texts in book order, by the vendor's rule and not by ours."""
    numbers = [text for row in pairs(asks)[:10] + pairs(bids)[:10] for text in row]
    return crc32("".join(text.replace(".", "").lstrip("0") for text in numbers).encode())


def acknowledge(depth: int) -> str:
    result = {"channel": "book", "depth": depth, "snapshot": True, "symbol": SYMBOL}
    return json.dumps({"method": "subscribe", "result": result, "success": True})


def live(depth: int = 10) -> VenueMachine:
    machine = line("kraken-v2", SYMBOL)
    feed(machine, acknowledge(depth), frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR))
    return machine


def test_subscribes_books_and_trades() -> None:
    machine = line("kraken-v2", SYMBOL, "ETH/USD", is_open=False)
    machine.receive_open(OPENED_NS)
    book, trade = (json.loads(text) for text in sent(machine.commands()))
    assert book == {
        "method": "subscribe",
        "params": {"channel": "book", "symbol": [SYMBOL, "ETH/USD"], "depth": 1000, "snapshot": True},
    }
    assert trade["params"] == {"channel": "trade", "symbol": [SYMBOL, "ETH/USD"], "snapshot": True}


def test_the_vendors_snapshot_verifies() -> None:
    machine = line("kraken-v2", SYMBOL)
    (event,) = feed(machine, acknowledge(25), frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR))
    assert isinstance(event, BookSnapshot)
    assert (event.instrument, event.id_last, event.epoch, event.depth) == (
        "kraken-v2:BTC/USD",
        1,
        OPENED_NS,
        25,
    )
    assert (event.price_scale, event.size_scale, event.bids[:2]) == (1, 8, (452835, 10000000))
    assert (event.state_hash, event.flags) == (KRAKEN_VECTOR, Flag.CHECKED)
    assert event.ts_venue_ns == TIME_NS
    assert machine.statistics().instruments[SYMBOL].checksums_ok == 1


def test_levels_that_fall_out_are_deleted_in_the_delta() -> None:
    machine = live(depth=10)
    bids = "45284.0 1.00000000, " + BIDS
    (event,) = feed(machine, frame("update", "45284.0 1.00000000", "", crc(ASKS, bids)))
    assert isinstance(event, BookDelta)
    assert event.bids == (452840, 100000000, 452766, 0)
    assert (event.id_prev, event.id_last) == (1, 2)
    counts = machine.statistics().instruments[SYMBOL]
    assert (counts.checksums_ok, counts.checksums_failed, counts.updates) == (2, 0, 1)


def test_a_plain_book_behind_the_machine_equals_the_cut_book() -> None:
    machine = line("kraken-v2", SYMBOL)
    events = feed(machine, acknowledge(10), frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR))
    asks = ASKS
    for step in range(12):
        ask = f"452{84 - step}.9 0.{step + 1:08d}"
        asks = f"{ask}, {asks}"
        events += feed(machine, frame("update", "", ask, crc(asks, BIDS)))
    book = L2Book("kraken-v2:BTC/USD")
    for event in only(BookSnapshot, events) + only(BookDelta, events):
        book.apply(event)
    assert len(book.levels(Side.SELL)) == len(book.levels(Side.BUY)) == 10
    assert kraken(book) == crc(asks, BIDS)


def test_a_wrong_checksum_is_one_gap_before_the_delta_and_one_request() -> None:
    machine = live()
    events = feed(machine, frame("update", "45283.5 9.00000000", "", 1), frame("update", "45283.5 8.00000000", "", 2))
    gap, first, second = events
    assert isinstance(gap, Gap) and isinstance(first, BookDelta) and isinstance(second, BookDelta)
    assert (gap.kind, gap.id_prev, gap.id_last, gap.cause) == (GapKind.VENUE, 1, 0, "checksum")
    assert (gap.epoch, first.flags, first.state_hash) == (OPENED_NS, Flag.CHECKED, 1)
    assert ids(events) == [(1, 2), (2, 3)]
    assert [json.loads(text)["method"] for text in sent(machine.commands())] == ["unsubscribe", "subscribe"]
    assert machine.statistics().instruments[SYMBOL].gaps == 1
    assert machine.statistics().instruments[SYMBOL].checksums_failed == 1


def test_the_next_snapshot_makes_it_whole() -> None:
    machine = live()
    feed(machine, frame("update", "45283.5 9.00000000", "", 1))
    events = feed(machine, frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR), frame("update", "45000.0 1.00000000", "", 3))
    assert ids(events) == [(-1, 3), (3, 4)]
    assert len(only(Gap, events)) == 1


def test_a_snapshot_that_fails_is_not_passed_on() -> None:
    machine = line("kraken-v2", SYMBOL)
    assert feed(machine, frame("snapshot", BIDS, ASKS, 1)) == []
    assert len(sent(machine.commands())) == 2


def test_asks_again_with_growing_pauses_until_a_book_comes() -> None:
    machine = live()
    feed(machine, frame("update", "45283.5 9.00000000", "", 1))
    machine.commands()
    asked = []
    start = now_ns = OPENED_NS + 1
    while now_ns < start + 300 * SECOND:
        machine.receive_frame('{"channel":"heartbeat"}', now_ns)
        machine.receive_timeout(now_ns)
        if any("unsubscribe" in text for text in sent(machine.commands())):
            asked.append((now_ns - start) // SECOND)
        now_ns += SECOND
    assert asked == [5, 15, 35, 75, 135, 195, 255]
    feed(machine, frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR), ts_recv_ns=now_ns)
    machine.receive_timeout(now_ns + SECOND)
    assert not any("unsubscribe" in text for text in sent(machine.commands()))


def test_a_second_request_within_the_pause_is_put_off() -> None:
    machine = live()
    machine.request_snapshot(SYMBOL, OPENED_NS + 1)
    machine.request_snapshot(SYMBOL, OPENED_NS + 2 * SECOND)
    assert len(sent(machine.commands())) == 2
    machine.receive_timeout(OPENED_NS + 1 + 5 * SECOND)
    assert len(sent(machine.commands())) == 2


def test_an_undecodable_frame_breaks_every_book_and_the_line() -> None:
    machine = line("kraken-v2", SYMBOL, "ETH/USD")
    feed(machine, frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR))
    feed(machine, frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR, "ETH/USD"))
    events = feed(machine, frame("update", "-1.0 9.00000000", "", 1))
    assert {gap.instrument for gap in only(Gap, events)} == {"kraken-v2:BTC/USD", "kraken-v2:ETH/USD"}
    assert {gap.cause for gap in only(Gap, events)} == {"undecodable frame"}
    assert [type(command) for command in machine.commands()] == [Reconnect]
    assert machine.statistics().undecodable == 1


def test_a_frame_half_good_changes_nothing() -> None:
    machine = live()
    bad = json.loads(frame("update", "1.0 1.00000000", "", 1))
    good = json.loads(frame("update", "45283.5 9.00000000", "", 1))["data"][0]
    bad["data"][0]["checksum"] = -1
    bad["data"].insert(0, good)
    events = feed(machine, bad)
    assert [event.cause for event in only(Gap, events)] == ["undecodable frame"]


def test_scales_follow_the_market_at_the_next_snapshot() -> None:
    machine = line("kraken-v2", SYMBOL)
    finer = "45283.50 0.1000000000"
    feed(machine, frame("snapshot", finer, "", crc("", finer)), frame("snapshot", BIDS, ASKS, KRAKEN_VECTOR))
    assert machine.statistics().instruments[SYMBOL].checksums_ok == 2


def test_trades_and_their_history() -> None:
    machine = live()
    row = (
        '{"symbol":"BTC/USD","side":"sell","price":63388.75,"qty":1e-05,"ord_type":"limit",'
        f'"trade_id":4665906,"timestamp":"{TIME}"}}'
    )
    text = '{{"channel":"trade","type":"{}","data":[{}]}}'
    old, new = feed(machine, text.format("snapshot", row), text.format("update", row))
    assert isinstance(old, Trade) and isinstance(new, Trade)
    assert (old.flags, new.flags) == (Flag.HISTORY, 0)
    assert (new.trade_id, new.sequence, new.aggressor) == ("4665906", 4665906, Side.SELL)
    assert (new.price, new.price_scale, new.size, new.size_scale) == (6338875, 2, 1, 5)
    counts = machine.statistics().instruments[SYMBOL]
    assert (counts.trades, counts.trades_history) == (1, 1)
    again = feed(machine, frame("update", "45000.0 1.00000000", "", KRAKEN_VECTOR))
    assert only(Gap, again) == []  # finer trades leave the book's scale alone


def test_refusal() -> None:
    machine = line("kraken-v2", "NO/PAIR")
    reply = {
        "method": "subscribe",
        "success": False,
        "error": "Currency pair not supported",
        "symbol": "NO/PAIR",
    }
    feed(machine, reply)
    assert machine.commands() == [Refused("NO/PAIR", "Currency pair not supported")]


def test_pings_and_gives_up_a_silent_line() -> None:
    machine = live()
    machine.receive_timeout(OPENED_NS + 30 * SECOND)
    assert machine.commands()[:2] == [SendFrame('{"method":"ping"}'), Reconnect("silent for 10 s")]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("63381.0", "63381.0"),
        ("7.548E+4", "75480"),
        ("1e-05", "0.00001"),
        ("5.10E-5", "0.0000510"),
        ("0E-8", "0.00000000"),
    ],
)
def test_numbers_keep_their_digits(text: str, plain: str) -> None:
    assert number_text(msgspec.json.decode(text.encode(), type=msgspec.Raw)) == plain


@pytest.mark.parametrize("text", ["1e999999999", "-1e5", "1e-41", '"e"', "true", "1" * 50 + "e1"])
def test_absurd_numbers_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        number_text(msgspec.json.decode(text.encode(), type=msgspec.Raw))


def test_display_id() -> None:
    assert display_id(7, TIME_NS) == TIME
