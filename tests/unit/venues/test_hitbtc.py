"""HitBTC v2 and its two relatives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Flag, Side, Trade
from raytrade.venues.protocol import Refused, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, line, sent

SYMBOL = "ETHBTC"
TIME = "2021-04-05T17:24:14.531Z"
TIME_NS = 1617643454531_000_000


def book(method: str, sequence: object, **more: Any) -> dict[str, Any]:
    params = {
        "ask": [{"price": "0.050", "size": "0"}],
        "bid": [{"price": "0.04", "size": "1.5"}],
        "symbol": SYMBOL,
        "sequence": sequence,
        "timestamp": TIME,
    }
    return {"jsonrpc": "2.0", "method": method, "params": {**params, **more}}


def trades(method: str, *numbers: int, **more: Any) -> dict[str, Any]:
    row = {"price": "0.054656", "quantity": "0.057", "side": "sell", "timestamp": TIME}
    rows = [{"id": number, **row, **more} for number in numbers]
    return {"jsonrpc": "2.0", "method": method, "params": {"data": rows, "symbol": SYMBOL}}


@pytest.fixture
def machine() -> VenueMachine:
    return line("hitbtc-v2", SYMBOL)


@pytest.mark.parametrize("venue", ["hitbtc-v2", "bitcoincom", "bequant"])
def test_subscribes(venue: str) -> None:
    machine = line(venue, SYMBOL, is_open=False)
    machine.receive_open(OPENED_NS)
    first, second = (json.loads(text) for text in sent(machine.commands()))
    assert (first["method"], first["params"]) == ("subscribeOrderbook", {"symbol": SYMBOL})
    assert (second["method"], second["params"]) == ("subscribeTrades", {"symbol": SYMBOL})


def test_snapshot_and_delta(machine: VenueMachine) -> None:
    snapshot, delta = feed(machine, book("snapshotOrderbook", 8), book("updateOrderbook", 9))
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta)
    assert (snapshot.id_last, snapshot.epoch, snapshot.ts_venue_ns) == (8, 0, TIME_NS)
    assert (delta.id_prev, delta.id_last, delta.bids, delta.asks) == (8, 9, (40, 15), (50, 0))


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2021-04-05T17:24:14.531Z", TIME_NS),
        ("2021-04-05T17:24:14Z", TIME_NS - 531_000_000),
        ("2021-04-05T17:24:14.5Z", TIME_NS - 31_000_000),
        ("2021-04-05T17:24:14.531123Z", TIME_NS + 123_000),
        ("2021-04-05T19:24:14.531+02:00", TIME_NS),
    ],
)
def test_times(machine: VenueMachine, text: str, nanos: int) -> None:
    (delta,) = feed(machine, book("updateOrderbook", 9, timestamp=text))
    assert isinstance(delta, BookDelta) and delta.ts_venue_ns == nanos


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "0001-01-01T00:00:00Z"},
        {"timestamp": "9999-12-31T23:59:59Z"},
        {"timestamp": "2021-04-05T17:24:14.531"},
        {"timestamp": 5},
        {"sequence": -1},
        {"sequence": None},
        {"sequence": 2**64},
        {"symbol": ""},
        {"symbol": "\n"},
        {"ask": "0.05"},
        {"bid": [{"price": "1"}]},
        {"bid": [{"price": "-1", "size": "1"}]},
        {"bid": None},
    ],
)
def test_a_bad_frame_is_counted(machine: VenueMachine, change: dict[str, Any]) -> None:
    frame = book("updateOrderbook", 9)
    frame["params"].update(change)
    assert feed(machine, frame) == []
    assert machine.statistics().undecodable == 1


def test_trades_and_their_history(machine: VenueMachine) -> None:
    events = feed(machine, trades("snapshotTrades", 1, 2), trades("updateTrades", 3, side="buy"))
    assert all(isinstance(event, Trade) for event in events)
    told = [(t.trade_id, t.sequence, t.flags, t.aggressor) for t in events if isinstance(t, Trade)]
    assert told == [
        ("1", 1, Flag.HISTORY, Side.SELL),
        ("2", 2, Flag.HISTORY, Side.SELL),
        ("3", 3, 0, Side.BUY),
    ]
    counts = machine.statistics().instruments[SYMBOL]
    assert (counts.trades, counts.trades_history) == (1, 2)


def test_a_trade_half_good_leaves_no_event(machine: VenueMachine) -> None:
    bad = trades("updateTrades", 1, 2)
    bad["params"]["data"][1]["price"] = "x"
    assert feed(machine, bad) == []
    assert machine.statistics().undecodable == 1


def test_asks_for_a_fresh_book_by_subscribing_anew(machine: VenueMachine) -> None:
    machine.request_snapshot(SYMBOL, OPENED_NS)
    methods = [json.loads(text)["method"] for text in sent(machine.commands())]
    assert methods == ["unsubscribeOrderbook", "subscribeOrderbook"]


def test_refusal(machine: VenueMachine) -> None:
    reply = {"jsonrpc": "2.0", "error": {"code": 2001, "message": "Symbol not found"}}
    feed(machine, {**reply, "id": "subscribeOrderbook/ETHBTC"})
    (command,) = machine.commands()
    assert isinstance(command, Refused) and command.symbol == SYMBOL
    feed(machine, {**reply, "id": "unsubscribeOrderbook/ETHBTC"}, {"jsonrpc": "2.0", "result": True, "id": "x"})
    assert machine.commands() == []


def test_a_null_error_is_none(machine: VenueMachine) -> None:
    feed(machine, {"jsonrpc": "2.0", "error": None, "result": True, "id": "subscribeOrderbook/ETHBTC"})
    assert machine.commands() == []


def test_tickers_pass_by(machine: VenueMachine) -> None:
    ticker = {"ask": "0.05", "bid": "0.049", "symbol": SYMBOL, "timestamp": TIME}
    assert feed(machine, {"jsonrpc": "2.0", "method": "ticker", "params": ticker}) == []
    assert machine.statistics().undecodable == 0
