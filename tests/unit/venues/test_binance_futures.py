"""Binance futures: two sockets, ids chained by ``pu``."""

from __future__ import annotations

import json

import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Channel, Trade
from raytrade.venues import find_venue
from raytrade.venues.protocol import FetchSnapshot, Refused, Subscription
from tests.unit.venues.lines import OPENED_NS, feed, line, sent

SYMBOL = "BTCUSDT"
DEPTH = {
    "e": "depthUpdate",
    "E": 1633998512068,
    "T": 1633998512060,
    "s": SYMBOL,
    "U": 749,
    "u": 752,
    "pu": 740,
    "b": [["10.10", "1"]],
    "a": [],
}


def test_books_and_trades_need_a_socket_each() -> None:
    spec = find_venue("binance-usdm")
    wanted = (Subscription(SYMBOL), Subscription("ETHUSDT", (Channel.TRADES,)))
    books, trades = spec.machine.endpoints(spec.ws_url, spec.rest_url, wanted)
    assert (books.part, books.url) == ("public", "wss://fstream.binance.com/public/stream")
    assert (trades.part, trades.url) == ("market", "wss://fstream.binance.com/market/stream")
    assert books.subscriptions == (Subscription(SYMBOL, (Channel.BOOK,)),)
    assert len(trades.subscriptions) == 2
    machine = spec.machine(spec.name, trades)
    machine.receive_open(OPENED_NS)
    (request,) = (json.loads(text) for text in sent(machine.commands()))
    assert request["params"] == ["btcusdt@aggTrade", "ethusdt@aggTrade"]


def test_a_delta_starts_from_pu() -> None:
    (delta,) = feed(line("binance-usdm", SYMBOL), DEPTH)
    assert isinstance(delta, BookDelta)
    assert (delta.id_prev, delta.id_last, delta.ts_venue_ns) == (740, 752, 1633998512060_000_000)


@pytest.mark.parametrize("pu", [None, -1, 753])
def test_a_delta_without_a_usable_pu_is_refused(pu: int | None) -> None:
    machine = line("binance-usdm", SYMBOL)
    assert feed(machine, {**DEPTH, "pu": pu}) == []
    assert machine.statistics().undecodable == 1


def test_an_error_on_the_socket_of_trades_is_told_too() -> None:
    spec = find_venue("binance-usdm")
    _, endpoint = spec.machine.endpoints(spec.ws_url, spec.rest_url, (Subscription(SYMBOL),))
    machine = spec.machine(spec.name, endpoint)
    feed(machine, {"error": {"code": 2, "msg": "Invalid request"}, "id": 1})
    assert machine.commands() == [Refused(SYMBOL, '{"code": 2, "msg": "Invalid request"}')]


def test_aggregate_trades() -> None:
    frame = {"e": "aggTrade", "E": 2, "T": 1, "s": SYMBOL, "a": 5, "p": "10.5", "q": "2", "m": True}
    (trade,) = feed(line("binance-usdm", SYMBOL), frame)
    assert isinstance(trade, Trade) and trade.sequence == 5


@pytest.mark.parametrize(
    ("venue", "url"),
    [
        ("binance-usdm", "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"),
        ("binance-coinm", "https://dapi.binance.com/dapi/v1/depth?symbol=BTCUSDT&limit=1000"),
    ],
)
def test_rest_book(venue: str, url: str) -> None:
    machine = line(venue, SYMBOL)
    machine.request_snapshot(SYMBOL, OPENED_NS)
    assert machine.commands() == [FetchSnapshot(SYMBOL, url, 20)]
    body = b'{"lastUpdateId":750,"E":2,"T":1,"bids":[["1","1"]],"asks":[]}'
    assert machine.receive_snapshot(SYMBOL, body, OPENED_NS)
    (book,) = machine.events()
    assert isinstance(book, BookSnapshot) and book.ts_venue_ns == 1_000_000
