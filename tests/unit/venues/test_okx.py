"""OKX v5, OKCoin v5 and v3: checksums of old recordings, ids of today."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, GapKind, Side, Trade
from raytrade.errors import DecodeError
from raytrade.venues.okx import display_milliseconds, display_text, inflate
from raytrade.venues.protocol import Reconnect, Refused, SendFrame, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, ids, line, only, sent

SYMBOL = "BTC-USDT"
Rows = list[tuple[str, str]]


def signed(text: str) -> int:
    checksum = zlib.crc32(text.encode())
    return checksum - 2**32 if checksum >= 2**31 else checksum


def book(action: str, bids: Rows, asks: Rows, **more: Any) -> dict[str, Any]:
    rows = {"bids": [[*row, "0", "1"] for row in bids], "asks": [[*row, "0", "1"] for row in asks]}
    data = {**rows, "ts": "1652459225464", **more}
    return {"arg": {"channel": "books", "instId": SYMBOL}, "action": action, "data": [data]}


def live_checked() -> VenueMachine:
    machine = line("okx-v5", SYMBOL)
    feed(machine, book("snapshot", [("10.5", "1")], [("11", "2")], checksum=signed("10.5:1:11:2")))
    return machine


def live_chained() -> VenueMachine:
    machine = line("okx-v5", SYMBOL)
    feed(machine, book("snapshot", [("10.5", "1")], [("11", "2")], checksum=0, prevSeqId=-1, seqId=50))
    return machine


def test_subscribes() -> None:
    machine = line("okx-v5", SYMBOL, is_open=False)
    machine.receive_open(OPENED_NS)
    (request,) = (json.loads(text) for text in sent(machine.commands()))
    arguments = [{"channel": channel, "instId": SYMBOL} for channel in ("books", "trades")]
    assert request == {"op": "subscribe", "args": arguments}


def test_many_symbols_take_several_requests() -> None:
    machine = line("okx-v5", *(f"S{number}-USDT" for number in range(120)), is_open=False)
    machine.receive_open(OPENED_NS)
    requests = [json.loads(text)["args"] for text in sent(machine.commands())]
    assert [len(request) for request in requests] == [100, 100, 40]


def test_recorded_form_is_counted_and_verified() -> None:
    machine = line("okx-v5", SYMBOL)
    first, second = signed("10.5:1:11:2"), signed("10.5:3:11:2")
    snapshot, delta = feed(
        machine,
        book("snapshot", [("10.5", "1")], [("11", "2")], checksum=first),
        book("update", [("10.5", "3"), ("9", "0")], [], checksum=second),
    )
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta)
    assert (snapshot.id_last, snapshot.epoch, snapshot.depth) == (1, OPENED_NS, 400)
    assert (delta.id_prev, delta.id_last, delta.flags) == (1, 2, Flag.CHECKED)
    assert delta.state_hash == second & 0xFFFFFFFF
    assert machine.statistics().instruments[SYMBOL].checksums_ok == 2


def test_0_is_the_checksum_of_an_empty_book_where_there_are_no_ids() -> None:
    machine = line("okx-v5", SYMBOL)
    feed(machine, book("snapshot", [], [], checksum=0), book("update", [], [], checksum=0))
    assert machine.statistics().instruments[SYMBOL].checksums_ok == 2


def test_a_wrong_checksum_is_a_gap_and_a_new_subscription() -> None:
    machine = live_checked()
    gap, delta = feed(machine, book("update", [("10.5", "3")], [], checksum=77))
    assert isinstance(gap, Gap) and isinstance(delta, BookDelta)
    assert (gap.id_prev, gap.id_last, gap.cause) == (1, 0, "checksum")
    assert [json.loads(text)["op"] for text in sent(machine.commands())] == ["unsubscribe", "subscribe"]


def test_todays_form_is_chained_by_the_venues_ids() -> None:
    machine = live_chained()
    (delta,) = feed(machine, book("update", [("10.5", "3")], [], checksum=0, prevSeqId=50, seqId=53))
    assert isinstance(delta, BookDelta)
    assert (delta.id_prev, delta.id_last, delta.epoch, delta.flags, delta.state_hash) == (50, 53, 0, 0, 0)
    counts = machine.statistics().instruments[SYMBOL]
    assert (counts.checksums_ok, counts.checksums_failed) == (0, 0)


def test_a_keep_alive_is_no_event() -> None:
    machine = live_chained()
    assert feed(machine, book("update", [], [], checksum=0, prevSeqId=50, seqId=50)) == []


def test_a_broken_chain_is_a_gap() -> None:
    machine = live_chained()
    events = feed(machine, book("update", [("10.5", "3")], [], checksum=0, prevSeqId=52, seqId=53))
    (gap,) = only(Gap, events)
    assert (gap.id_prev, gap.id_last, gap.cause, gap.kind) == (50, 52, "prevSeqId", GapKind.VENUE)
    assert ids(events) == [(52, 53)]


def test_a_keep_alive_after_a_hole_is_a_gap() -> None:
    machine = live_chained()
    (gap,) = feed(machine, book("update", [], [], checksum=0, prevSeqId=52, seqId=52))
    assert isinstance(gap, Gap) and gap.id_last == 52


def test_lower_ids_after_maintenance_are_a_reset() -> None:
    machine = live_chained()
    (gap,) = feed(machine, book("update", [("10.5", "3")], [], checksum=0, prevSeqId=50, seqId=7))
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.id_prev) == (GapKind.RESET, 50)


def test_trades() -> None:
    row = {
        "instId": SYMBOL,
        "tradeId": "3435655",
        "px": "0.454",
        "sz": "11.8",
        "side": "sell",
        "ts": "1626995753055",
    }
    (event,) = feed(live_checked(), {"arg": {"channel": "trades", "instId": SYMBOL}, "data": [row]})
    assert isinstance(event, Trade)
    assert (event.trade_id, event.sequence, event.aggressor) == ("3435655", 3435655, Side.SELL)
    assert event.ts_venue_ns == 1626995753055_000_000


def test_refusal_finds_the_symbol_in_the_text() -> None:
    machine = line("okx-v5", "BTC-USD", "BTC-USD-SWAP")
    reason = "Wrong URL or channel:books,instId:BTC-USD-SWAP doesn't exist."
    feed(machine, {"event": "error", "code": "60018", "msg": reason})
    assert machine.commands() == [Refused("BTC-USD-SWAP", reason)]
    feed(machine, {"event": "error", "code": "60012", "msg": "Invalid request"})
    assert machine.commands() == [Refused("BTC-USD", "Invalid request")]


def test_pings_in_text_and_takes_the_answer() -> None:
    machine = live_checked()
    machine.receive_timeout(OPENED_NS + 25_000_000_000)
    assert machine.commands() == [SendFrame("ping")]
    assert feed(machine, "pong", b"pong") == []
    assert machine.statistics().undecodable == 0


def test_the_notice_of_an_upgrade_moves_the_line() -> None:
    machine = live_checked()
    feed(machine, {"event": "notice", "code": "64008", "msg": "upgrade"})
    assert [type(command) for command in machine.commands()] == [Reconnect]


# v3


def deflate(value: object) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    text = value if isinstance(value, str) else json.dumps(value)
    return stream.compress(text.encode()) + stream.flush()


def book_v3(action: str, bids: Rows, asks: Rows, checksum: int) -> bytes:
    rows = {"bids": [[*row, "0", "1"] for row in bids], "asks": [[*row, "0", "1"] for row in asks]}
    data = {"instrument_id": SYMBOL, **rows, "timestamp": "2021-04-05T18:10:56.439Z", "checksum": checksum}
    return deflate({"table": "spot/depth_l2_tbt", "action": action, "data": [data]})


def test_v3_subscribes() -> None:
    machine = line("okcoin-v3", SYMBOL, is_open=False)
    machine.receive_open(OPENED_NS)
    (request,) = (json.loads(text) for text in sent(machine.commands()))
    assert request == {"op": "subscribe", "args": ["spot/depth_l2_tbt:BTC-USDT", "spot/trade:BTC-USDT"]}


def test_v3_books_and_trades() -> None:
    machine = line("okcoin-v3", SYMBOL)
    row = {"instrument_id": SYMBOL, "trade_id": "15035", "price": "1", "size": "2", "side": "buy"}
    trades = {"table": "spot/trade", "data": [{**row, "timestamp": "2021-04-05T16:34:00.347Z"}]}
    snapshot, delta, trade = feed(
        machine,
        book_v3("partial", [("10.5", "1")], [("11", "2")], signed("10.5:1:11:2")),
        book_v3("update", [("10.5", "0")], [], signed("11:2")),
        deflate(trades),
        deflate("pong"),
    )
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta) and isinstance(trade, Trade)
    assert display_text(snapshot.id_last, snapshot.ts_venue_ns) == "2021-04-05T18:10:56.439Z"
    assert display_milliseconds(snapshot.id_last, snapshot.ts_venue_ns) == "1617646256439"
    assert (trade.trade_id, trade.aggressor) == ("15035", Side.BUY)
    counts = machine.statistics().instruments[SYMBOL]
    assert (counts.checksums_ok, counts.checksums_failed) == (2, 0)


def test_v3_refusal() -> None:
    machine = line("okcoin-v3", SYMBOL)
    reason = "Channel spot/depth_l2_tbt:BTC-USDT doesn't exist"
    feed(machine, deflate({"event": "error", "message": reason, "errorCode": 30040}))
    assert machine.commands() == [Refused(SYMBOL, reason)]


@pytest.mark.parametrize("frame", [b"", b"{}", deflate({"a": 1})[:-3]])
def test_v3_a_frame_that_does_not_inflate_is_counted(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        inflate(frame)
    machine = line("okcoin-v3", SYMBOL)
    assert feed(machine, frame) == []
    assert machine.statistics().undecodable == 1


def test_v3_a_frame_may_not_grow_without_bound() -> None:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = stream.compress(b" " * 40 * 1024 * 1024) + stream.flush()
    with pytest.raises(DecodeError):
        inflate(bomb)
