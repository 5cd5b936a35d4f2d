"""Binance spot: depth diffs with global ids, REST books, trades."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Side, Trade
from raytrade.venues.protocol import BAD_FRAMES_MAX, FetchSnapshot, Reconnect, Refused, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, line, sent

SYMBOL = "NKNUSDT"
DEPTH = {
    "e": "depthUpdate",
    "E": 1633998512068,
    "s": SYMBOL,
    "U": 749,
    "u": 752,
    "b": [["0.3513", "6195.0"]],
    "a": [["0.3520", "0.00"]],
}
TRADE = {
    "e": "trade",
    "E": 1633998512100,
    "T": 1633998512099,
    "s": SYMBOL,
    "t": 12,
    "p": "0.35",
    "q": "3",
    "m": True,
}


@pytest.fixture
def machine() -> VenueMachine:
    return line("binance-spot", SYMBOL)


def test_subscribes_in_frames_of_200_streams() -> None:
    machine = line("binance-spot", *(f"S{number}USDT" for number in range(150)), is_open=False)
    assert machine.endpoint.url == "wss://stream.binance.com:9443/stream"
    machine.receive_open(OPENED_NS)
    requests = [json.loads(text) for text in sent(machine.commands())]
    assert [len(request["params"]) for request in requests] == [200, 100]
    assert requests[0]["params"][0] == "s0usdt@depth@100ms"
    assert requests[1]["params"][-1] == "s149usdt@trade"
    assert len({request["id"] for request in requests}) == 2


@pytest.mark.parametrize("frame", [DEPTH, {"stream": "nknusdt@depth@100ms", "data": DEPTH}])
def test_depth(machine: VenueMachine, frame: dict[str, Any]) -> None:
    (delta,) = feed(machine, frame)
    assert isinstance(delta, BookDelta)
    assert (delta.instrument, delta.id_prev, delta.id_last, delta.epoch) == (
        "binance-spot:NKNUSDT",
        748,
        752,
        0,
    )
    assert (delta.bids, delta.asks, delta.price_scale, delta.size_scale) == ((3513, 619500), (3520, 0), 4, 2)
    assert delta.ts_venue_ns == 1633998512068_000_000


def test_trade(machine: VenueMachine) -> None:
    (trade,) = feed(machine, TRADE)
    assert isinstance(trade, Trade)
    assert (trade.trade_id, trade.sequence, trade.aggressor, trade.price, trade.size) == (
        "12",
        12,
        Side.SELL,
        35,
        3,
    )
    assert trade.ts_venue_ns == 1633998512099_000_000


def test_aggregate_trade(machine: VenueMachine) -> None:
    (trade,) = feed(machine, {**TRADE, "e": "aggTrade", "a": 7, "m": False})
    assert isinstance(trade, Trade)
    assert (trade.sequence, trade.aggressor) == (7, Side.BUY)


def test_rest_book(machine: VenueMachine) -> None:
    machine.request_snapshot(SYMBOL, OPENED_NS)
    (command,) = machine.commands()
    url = "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=5000"
    assert command == FetchSnapshot(SYMBOL, url, 250)
    body = b'{"lastUpdateId":750,"bids":[["0.35","1"]],"asks":[["0.36","2"],["0.37","3"]]}'
    assert machine.receive_snapshot(SYMBOL, body, OPENED_NS + 5)
    (book,) = machine.events()
    assert isinstance(book, BookSnapshot)
    assert (book.id_last, book.depth, book.ts_recv_ns) == (750, 2, OPENED_NS + 5)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"lastUpdateId":-1,"bids":[],"asks":[]}', b'{"code":-1121}'])
def test_rest_body_that_is_no_book(machine: VenueMachine, body: bytes) -> None:
    assert not machine.receive_snapshot(SYMBOL, body, OPENED_NS)
    assert machine.statistics().undecodable == 1
    assert machine.events() == []


@pytest.mark.parametrize(
    "change",
    [
        {"u": 3},
        {"U": -1},
        {"u": 2**63},
        {"s": ""},
        {"s": "X" * 65},
        {"s": "A B"},
        {"E": 2**62},
        {"b": "0.1"},
        {"b": [["-1", "1"]]},
        {"b": [["1", "NaN"]]},
        {"b": [["1", "1e5"]]},
        {"b": [["1"]]},
        {"b": [["1", "1" * 21]]},
        {"a": None},
    ],
)
def test_a_bad_frame_is_counted_and_survived(machine: VenueMachine, change: dict[str, Any]) -> None:
    assert feed(machine, {**DEPTH, **change}) == []
    assert (machine.statistics().undecodable, machine.commands()) == (1, [])
    assert len(feed(machine, DEPTH)) == 1


def test_many_bad_frames_in_a_row_end_the_line(machine: VenueMachine) -> None:
    feed(machine, *["{"] * (BAD_FRAMES_MAX - 1), DEPTH, *["{"] * BAD_FRAMES_MAX)
    assert [type(command) for command in machine.commands()] == [Reconnect]


@pytest.mark.parametrize(
    "reply",
    [
        {"error": {"code": 2, "msg": "Invalid request"}, "id": 1},
        {"code": 2, "msg": "Invalid request"},
    ],
)
def test_an_error_refuses(machine: VenueMachine, reply: dict[str, Any]) -> None:
    feed(machine, reply)
    (command,) = machine.commands()
    assert isinstance(command, Refused)
    assert (command.symbol, "Invalid request" in command.reason) == (SYMBOL, True)


def test_an_error_refuses_the_symbols_of_its_request() -> None:
    machine = line("binance-spot", *(f"S{number}USDT" for number in range(250)))
    feed(machine, {"error": {"code": 2, "msg": "Invalid request"}, "id": 201})
    refused = [command.symbol for command in machine.commands() if isinstance(command, Refused)]
    assert len(refused) == 200  # books of the last 50, trades of the first 150
    assert "S249USDT" in refused and "S199USDT" not in refused


def test_an_acknowledgement_is_quiet(machine: VenueMachine) -> None:
    assert feed(machine, {"result": None, "id": 1}, {"result": None, "error": None, "id": 1}) == []
    assert machine.commands() == []


def test_acknowledged_and_never_served_counts_as_refused(machine: VenueMachine) -> None:
    machine.receive_timeout(OPENED_NS + 30 * SECOND)
    assert machine.commands() == [Refused(SYMBOL, "subscribed but not served")]


def test_the_venues_shutdown_moves_the_line(machine: VenueMachine) -> None:
    feed(machine, {"e": "serverShutdown", "E": 1})
    assert [type(command) for command in machine.commands()] == [Reconnect]


@pytest.mark.parametrize(
    "frame",
    [
        {"u": 400900217, "s": SYMBOL, "b": "25.35", "B": "31.21", "a": "25.36", "A": "40.66"},
        {"e": "kline", "E": 123, "s": SYMBOL, "k": {"t": 1, "T": 2, "q": "1"}},
        {"e": "24hrTicker", "E": 1, "s": SYMBOL, "p": "1", "b": "0.1", "a": "0.2", "q": "18", "F": 0, "L": 1},
    ],
)
def test_other_streams_pass_by(machine: VenueMachine, frame: dict[str, Any]) -> None:
    assert feed(machine, frame) == []
    assert machine.statistics().undecodable == 0
