"""Gemini: the current API and the archived v2 feed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, Side, Trade
from raytrade.venues.gemini import GEMINI, GEMINI_V2, GeminiMachine
from raytrade.venues.protocol import Reconnect, Refused, SendFrame, Subscription, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, ids, line, only, sent

BTC, ETH = "btcusd", "ethusd"
TIME_NS = 1789456742337187316


def depth(symbol: str, first: int, last: int, bids: list[list[str]] | None = None) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": TIME_NS, "s": symbol, "U": first, "u": last, "b": bids or [], "a": []}


def live() -> VenueMachine:
    machine = line("gemini", BTC, ETH)
    feed(machine, depth(BTC, 100, 100, [["7.1", "0.50"]]))
    return machine


def test_asks_for_snapshots_in_the_address_and_subscribes_by_symbol() -> None:
    (endpoint,) = GeminiMachine.endpoints(GEMINI.ws_url, GEMINI.rest_url, (Subscription(BTC),))
    assert endpoint.url == "wss://ws.gemini.com/?snapshot=-1"
    machine = line("gemini", BTC, ETH, is_open=False)
    machine.receive_open(OPENED_NS)
    requests = [json.loads(text) for text in sent(machine.commands())]
    assert requests[0] == {"id": 1, "method": "SUBSCRIBE", "params": ["btcusd@depth@100ms", "btcusd@trade"]}
    assert requests[1]["id"] == 3


def test_the_first_message_is_the_snapshot_then_ranges_overlap() -> None:
    machine = line("gemini", BTC)
    snapshot, delta = feed(machine, depth(BTC, 100, 100, [["7.1", "0.50"]]), depth(BTC, 100, 140, [["7.1", "0.0000"]]))
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta)
    assert (snapshot.id_last, snapshot.epoch, snapshot.ts_venue_ns) == (100, 0, TIME_NS)
    assert (delta.id_prev, delta.id_last, delta.bids[1]) == (100, 140, 0)


def test_a_hole_is_a_gap_and_a_new_subscription_after_the_reply() -> None:
    machine = live()
    events = feed(machine, depth(BTC, 120, 140), depth(BTC, 140, 150))
    (gap,) = only(Gap, events)
    assert (gap.id_prev, gap.id_last, gap.cause, gap.epoch) == (100, 120, "U", 0)
    assert ids(events) == [(120, 140), (140, 150)]
    unsubscribe = {"id": 2, "method": "UNSUBSCRIBE", "params": ["btcusd@depth@100ms"]}
    assert [json.loads(text) for text in sent(machine.commands())] == [unsubscribe]
    assert ids(feed(machine, depth(BTC, 150, 160), {"id": 2, "status": 200})) == [(150, 160)]
    subscribe = {"id": 1, "method": "SUBSCRIBE", "params": ["btcusd@depth@100ms"]}
    assert [json.loads(text) for text in sent(machine.commands())] == [subscribe]
    events = feed(machine, depth(BTC, 170, 170, [["7", "1"]]), {"id": 1, "status": 200}, depth(BTC, 170, 171))
    assert ids(events) == [(-1, 170), (170, 171)]
    assert only(Gap, events) == []


def test_a_refused_stream_is_one_symbol() -> None:
    machine = line("gemini", BTC, ETH)
    feed(machine, {"id": 3, "status": 400, "error": {"code": -1013, "msg": "bad"}})
    assert machine.commands() == [Refused(ETH, '{"code": -1013, "msg": "bad"}')]
    feed(machine, {"id": 99, "status": 400}, {"id": 0, "status": 200}, {"id": -5, "status": 400})
    assert machine.commands() == []


@pytest.mark.parametrize(("is_maker", "aggressor"), [(True, Side.SELL), (False, Side.BUY), (None, Side.NONE)])
def test_trades(is_maker: bool | None, aggressor: Side) -> None:
    (event,) = feed(live(), {"E": TIME_NS, "s": BTC, "t": 123, "p": "7.25", "q": "2", "m": is_maker})
    assert isinstance(event, Trade)
    assert (event.trade_id, event.sequence, event.aggressor) == ("123", 123, aggressor)


def test_pings_every_20_s() -> None:
    machine = live()
    machine.receive_timeout(OPENED_NS + 20 * SECOND)
    assert machine.commands() == [SendFrame('{"id":0,"method":"ping"}')]


def test_ids_that_run_backwards_are_refused() -> None:
    machine = live()
    assert feed(machine, depth(BTC, 150, 120)) == []
    assert machine.statistics().undecodable == 1


# v2

SNAPSHOT_V2 = {
    "type": "l2_updates",
    "symbol": "BTCUSD",
    "changes": [["buy", "10.5", "1.0"], ["sell", "11", "2"]],
    "trades": [],
    "auction_events": [],
}
DELTA_V2 = {
    "type": "l2_updates",
    "symbol": "BTCUSD",
    "changes": [["buy", "10.5", "0.0"], ["buy", "10.4", "3"]],
}


def trade_v2(event: int, timestamp: int, **more: Any) -> dict[str, Any]:
    row = {"type": "trade", "symbol": "BTCUSD", "event_id": event, "timestamp": timestamp}
    return {**row, "price": "10.5", "quantity": "1", "side": "buy", **more}


def test_v2_subscribes_all_at_once() -> None:
    machine = line("gemini-v2", "BTCUSD", "ETHUSD", is_open=False)
    machine.receive_open(OPENED_NS)
    (request,) = (json.loads(text) for text in sent(machine.commands()))
    assert request == {
        "type": "subscribe",
        "subscriptions": [{"name": "l2", "symbols": ["BTCUSD", "ETHUSD"]}],
    }


def test_v2_counts_the_messages() -> None:
    machine = line("gemini-v2", "BTCUSD")
    events = feed(machine, SNAPSHOT_V2, DELTA_V2, {"type": "heartbeat", "timestamp": 1}, DELTA_V2, SNAPSHOT_V2)
    assert ids(events) == [(-1, 1), (1, 2), (2, 3), (-1, 4)]
    assert {event.epoch for event in only(BookDelta, events)} == {OPENED_NS}
    assert only(BookDelta, events)[0].bids == (105, 0, 104, 30)


def test_v2_history_comes_out_in_the_order_of_time() -> None:
    machine = line("gemini-v2", "BTCUSD")
    rows = [trade_v2(9, 3000), trade_v2(7, 2000, tid=71), trade_v2(7, 2000, tid=70)]
    events = feed(machine, {**SNAPSHOT_V2, "trades": rows}, trade_v2(10, 4000))
    trades = only(Trade, events)
    assert [trade.trade_id for trade in trades] == ["70", "71", "9", "10"]
    assert [trade.flags for trade in trades] == [Flag.HISTORY] * 3 + [0]
    assert (trades[0].aggressor, trades[0].ts_venue_ns) == (Side.BUY, 2 * SECOND)


def test_v2_an_undecodable_frame_is_a_gap_and_a_new_connection() -> None:
    machine = line("gemini-v2", "BTCUSD")
    feed(machine, SNAPSHOT_V2)
    (gap,) = feed(machine, {**DELTA_V2, "changes": [["buy", "1e5", "2"]]})
    assert isinstance(gap, Gap)
    assert (gap.id_prev, gap.cause) == (1, "undecodable frame")
    assert [type(command) for command in machine.commands()] == [Reconnect]


def test_v2_refusal_and_display_id() -> None:
    machine = line("gemini-v2", "BTCUSD")
    feed(machine, {"result": "error", "reason": "NoValidTradingPairs"})
    assert machine.commands() == [Refused("BTCUSD", "NoValidTradingPairs")]
    assert GEMINI_V2.display_id is not None and GEMINI_V2.display_id(3, 4) is None
    assert GEMINI.display_id is not None and GEMINI.display_id(3, 4) == 3
