"""Bybit v5: categories, the chain of ``u``, snapshots at any time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Gap, GapKind, Side, Trade
from raytrade.errors import ConfigError
from raytrade.venues.bybit import BYBIT, BybitMachine
from raytrade.venues.protocol import Endpoint, Refused, SendFrame, Subscription, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, ids, line, only, sent

SYMBOL = "linear:BTCUSDT"


def frame(kind: str, update: int, bids: list[list[str]], asks: list[list[str]], **more: Any) -> dict[str, Any]:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": update, "seq": 5}
    return {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": 1786310816618, "data": data, **more}


def live() -> VenueMachine:
    machine = line("bybit-v5", SYMBOL)
    feed(machine, frame("snapshot", 100, [["10", "1"]], [["11", "2"]]))
    return machine


def test_a_socket_per_category() -> None:
    wanted = tuple(Subscription(symbol) for symbol in ("linear:BTCUSDT", "spot:BTCUSDT", "linear:ETHUSDT"))
    linear, spot = BybitMachine.endpoints(BYBIT.ws_url, "", wanted)
    assert (linear.url, linear.part) == ("wss://stream.bybit.com/v5/public/linear", "linear")
    assert [subscription.symbol for subscription in linear.subscriptions] == [
        "linear:BTCUSDT",
        "linear:ETHUSDT",
    ]
    assert (spot.url, spot.part) == ("wss://stream.bybit.com/v5/public/spot", "spot")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "moon:BTCUSDT", "spot:"])
def test_a_symbol_without_category_is_a_mistake_of_the_user(symbol: str) -> None:
    with pytest.raises(ConfigError):
        BybitMachine.endpoints(BYBIT.ws_url, "", (Subscription(symbol),))


def test_the_category_is_read_from_the_address_where_no_part_is_given() -> None:
    endpoint = Endpoint(url="wss://stream.bybit.com/v5/public/inverse", subscriptions=())
    assert BybitMachine("bybit-v5", endpoint).category == "inverse"


def test_subscribes_by_symbol() -> None:
    machine = line("bybit-v5", SYMBOL, "linear:ETHUSDT", is_open=False)
    machine.receive_open(OPENED_NS)
    first, _ = (json.loads(text) for text in sent(machine.commands()))
    topics = ["orderbook.200.BTCUSDT", "publicTrade.BTCUSDT"]
    assert first == {"req_id": SYMBOL, "op": "subscribe", "args": topics}


def test_snapshot_and_delta() -> None:
    machine = line("bybit-v5", SYMBOL)
    snapshot, delta = feed(
        machine,
        frame("snapshot", 100, [["10.5", "1"]], [["11", "2"]]),
        frame("delta", 101, [["10.5", "0"]], [], cts=1786310816585),
    )
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta)
    assert snapshot.instrument == "bybit-v5:linear:BTCUSDT"
    assert (snapshot.id_last, snapshot.depth, snapshot.epoch) == (100, 200, OPENED_NS)
    assert snapshot.ts_venue_ns == 1786310816618_000_000
    assert (delta.id_prev, delta.id_last, delta.bids, delta.ts_venue_ns) == (
        100,
        101,
        (105, 0),
        1786310816585_000_000,
    )


def test_a_jump_is_a_gap_before_the_delta() -> None:
    machine = live()
    events = feed(machine, frame("delta", 103, [["10", "2"]], []), frame("delta", 107, [["10", "3"]], []))
    gap = events[0]
    assert isinstance(gap, Gap) and len(only(Gap, events)) == 1
    assert (gap.id_prev, gap.id_last, gap.cause, gap.kind) == (100, 102, "u", GapKind.VENUE)
    assert ids(events) == [(102, 103), (106, 107)]
    requests = [json.loads(text) for text in sent(machine.commands())]
    assert [(request["op"], request["args"]) for request in requests] == [
        ("unsubscribe", ["orderbook.200.BTCUSDT"]),
        ("subscribe", ["orderbook.200.BTCUSDT"]),
    ]


def test_a_repeated_delta_is_dropped_and_a_lower_one_is_a_reset() -> None:
    machine = live()
    assert feed(machine, frame("delta", 100, [["10", "2"]], [])) == []
    events = feed(machine, frame("delta", 3, [["10", "2"]], []))
    assert [gap.kind for gap in only(Gap, events)] == [GapKind.RESET]


def test_a_snapshot_at_any_time_replaces_the_book() -> None:
    machine = live()
    events = feed(machine, frame("snapshot", 1, [["9", "1"]], []), frame("delta", 2, [["9", "2"]], []))
    assert ids(events) == [(-1, 1), (1, 2)]
    assert machine.commands() == []


def test_a_delta_without_a_snapshot_asks_for_one() -> None:
    machine = line("bybit-v5", SYMBOL)
    events = feed(machine, frame("delta", 7, [["9", "2"]], []), frame("delta", 8, [["9", "3"]], []))
    assert ids(events) == [(6, 7), (7, 8)]
    assert len(sent(machine.commands())) == 2


def test_a_new_connection_forgets_the_old_chain() -> None:
    machine = live()
    machine.receive_close(OPENED_NS + 5)
    machine.receive_open(OPENED_NS + 9)
    events = feed(machine, frame("snapshot", 7, [["9", "1"]], []), frame("delta", 8, [["9", "2"]], []))
    assert ids(events) == [(-1, 7), (7, 8)]
    assert only(Gap, events) == []
    assert {event.epoch for event in only(BookDelta, events)} == {OPENED_NS + 9}


def test_trades_have_the_takers_side() -> None:
    row = {"T": 1786310819680, "s": "BTCUSDT", "S": "Sell", "v": "0.004", "p": "65114.20", "i": "a918-8a0a"}
    trades = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1786310819681, "data": [row]}
    (event,) = feed(live(), trades)
    assert isinstance(event, Trade)
    assert (event.trade_id, event.sequence, event.aggressor, event.flags) == ("a918-8a0a", 0, Side.SELL, 0)
    assert event.instrument == "bybit-v5:linear:BTCUSDT"


def test_refusal_names_the_symbol_of_the_request() -> None:
    machine = line("bybit-v5", SYMBOL)
    reason = "error:handler not found,topic:orderbook.200.BTCUSDT"
    feed(machine, {"success": False, "ret_msg": reason, "req_id": SYMBOL, "op": "subscribe"})
    assert machine.commands() == [Refused(SYMBOL, reason)]


def test_pings_every_20_s() -> None:
    machine = live()
    assert machine.deadline_ns() == OPENED_NS + 20_000_000_000
    machine.receive_timeout(OPENED_NS + 20_000_000_000)
    assert machine.commands() == [SendFrame('{"op":"ping"}')]
    assert feed(machine, {"success": True, "ret_msg": "pong", "op": "ping"}) == []


def test_an_undecodable_frame_is_survived() -> None:
    machine = live()
    assert feed(machine, "{", frame("delta", -1, [], []), frame("other", 101, [], [])) == []
    assert (machine.statistics().undecodable, machine.commands()) == (3, [])
    assert ids(feed(machine, frame("delta", 101, [], []))) == [(100, 101)]
