"""Whatever a venue sends: no exception leaves a machine, and every event can be written and read again."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Trade
from raytrade.core.message import decode, encode, parse
from raytrade.venues import VENUES
from raytrade.venues.protocol import VenueMachine
from tests.unit.venues.lines import OPENED_NS, line

TIME = "2026-08-02T03:35:51.660084Z"
KRAKEN_BOOK = {
    "symbol": "A",
    "bids": [{"price": 1.5, "qty": 2.0}],
    "asks": [{"price": 2.5, "qty": 1e-05}],
    "checksum": 7,
    "timestamp": TIME,
}
KRAKEN_TRADE = {"symbol": "A", "side": "buy", "price": 1.5, "qty": 2, "trade_id": 5, "timestamp": TIME}
COINBASE_UPDATE = {"side": "bid", "event_time": TIME, "price_level": "1.5", "new_quantity": "2"}
COINBASE_TRADE = {"product_id": "A", "trade_id": "7", "price": "1", "size": "2", "time": TIME, "side": "BUY"}
BINANCE_DEPTH = {
    "e": "depthUpdate",
    "E": 1,
    "T": 1,
    "s": "A",
    "U": 5,
    "u": 6,
    "pu": 4,
    "b": [["1", "2"]],
    "a": [],
}
BINANCE_TRADE = {"e": "trade", "E": 1, "T": 1, "s": "A", "t": 3, "a": 4, "p": "1.5", "q": "2", "m": True}
BYBIT_TRADE = {"T": 5, "s": "A", "S": "Buy", "v": "1", "p": "2", "i": "x"}
GEMINI_TRADE = {
    "symbol": "A",
    "event_id": 5,
    "tid": 6,
    "timestamp": 7,
    "price": "1",
    "quantity": "2",
    "side": "buy",
}
OKX_BOOK = {"asks": [["2", "1", "0", "1"]], "bids": [], "ts": "5", "checksum": -7, "seqId": 9, "prevSeqId": 8}
OKX_TRADE = {"instId": "A", "tradeId": "5", "px": "1", "sz": "2", "side": "buy", "ts": "6"}
V3 = {"instrument_id": "A", "timestamp": TIME}
V3_BOOK = {**V3, "asks": [["2", "1", "0", "1"]], "bids": [], "checksum": -7}
V3_TRADE = {**V3, "trade_id": "5", "price": "1", "size": "2", "side": "buy"}
HITBTC_LEVELS = {"ask": [{"price": "1", "size": "2"}], "bid": [{"price": "1", "size": "2"}]}
HITBTC_TRADE = {"id": 5, "price": "1", "quantity": "2", "side": "buy", "timestamp": TIME}

BINANCE: list[dict[str, Any]] = [
    BINANCE_DEPTH,
    {"stream": "a@depth", "data": BINANCE_DEPTH},
    BINANCE_TRADE,
    {**BINANCE_TRADE, "e": "aggTrade"},
    {"error": {"code": 2}, "id": 1},
    {"result": None, "id": 1},
]
HITBTC: list[dict[str, Any]] = [
    *(
        {"method": method, "params": {**HITBTC_LEVELS, "symbol": "A", "sequence": 5, "timestamp": TIME}}
        for method in ("snapshotOrderbook", "updateOrderbook")
    ),
    {"method": "updateTrades", "params": {"symbol": "A", "data": [HITBTC_TRADE]}},
    {"id": "subscribeOrderbook/A", "error": {"code": 1}},
]
OKX: list[dict[str, Any]] = [
    *(
        {"arg": {"channel": "books", "instId": "A"}, "action": action, "data": [OKX_BOOK]}
        for action in ("snapshot", "update")
    ),
    {"arg": {"channel": "trades", "instId": "A"}, "data": [OKX_TRADE]},
    {"event": "error", "code": "1", "msg": "instId:A"},
]
FRAMES: dict[str, list[dict[str, Any]]] = {
    "binance-spot": BINANCE,
    "binance-us": BINANCE,
    "binance-usdm": BINANCE,
    "binance-coinm": BINANCE,
    "hitbtc-v2": HITBTC,
    "bitcoincom": HITBTC,
    "bequant": HITBTC,
    "kraken-v2": [
        {"method": "subscribe", "success": True, "result": {"channel": "book", "symbol": "A", "depth": 10}},
        {"channel": "book", "type": "snapshot", "data": [KRAKEN_BOOK]},
        {"channel": "book", "type": "update", "data": [KRAKEN_BOOK]},
        {"channel": "trade", "type": "update", "data": [KRAKEN_TRADE]},
        {"method": "subscribe", "success": False, "error": "x", "symbol": "A"},
    ],
    "coinbase-advanced": [
        *(
            {
                "channel": "l2_data",
                "timestamp": TIME,
                "sequence_num": 1,
                "events": [{"type": kind, "product_id": "A", "updates": [COINBASE_UPDATE]}],
            }
            for kind in ("snapshot", "update")
        ),
        {
            "channel": "market_trades",
            "sequence_num": 2,
            "events": [{"type": "update", "trades": [COINBASE_TRADE]}],
        },
        {"type": "error", "message": "x"},
    ],
    "bybit-v5": [
        *(
            {
                "topic": "orderbook.50.A",
                "type": kind,
                "ts": 5,
                "data": {"s": "A", "b": [["1", "2"]], "a": [], "u": 7},
            }
            for kind in ("snapshot", "delta")
        ),
        {"topic": "publicTrade.A", "type": "snapshot", "ts": 5, "data": [BYBIT_TRADE]},
        {"success": False, "ret_msg": "x", "req_id": "spot:A", "op": "subscribe"},
    ],
    "gemini": [
        {"e": "depthUpdate", "E": 5, "s": "A", "U": 5, "u": 5, "b": [["1", "2"]], "a": []},
        {"e": "depthUpdate", "E": 5, "s": "A", "U": 5, "u": 7, "b": [["1", "0"]], "a": []},
        {"E": 5, "s": "A", "t": 5, "p": "1", "q": "2", "m": True},
        {"id": 2, "status": 200},
        {"id": 1, "status": 400, "error": {"code": 1}},
    ],
    "gemini-v2": [
        {"type": "l2_updates", "symbol": "A", "changes": [["buy", "1", "2"]], "trades": [GEMINI_TRADE]},
        {"type": "l2_updates", "symbol": "A", "changes": [["sell", "1", "0"]]},
        {"type": "trade", **GEMINI_TRADE},
        {"result": "error", "reason": "x"},
    ],
    "okx-v5": OKX,
    "okcoin-v5": OKX,
    "okcoin-v3": [
        {"table": "spot/depth_l2_tbt", "action": "partial", "data": [V3_BOOK]},
        {"table": "spot/depth_l2_tbt", "action": "update", "data": [V3_BOOK]},
        {"table": "spot/trade", "data": [V3_TRADE]},
        {"event": "error", "message": "A"},
    ],
}
SYMBOLS = {"bybit-v5": "spot:A"}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=12),
    st.sampled_from(["", "0", "-1", "NaN", "1e9", "9" * 40, "1" * 20 + "." + "9" * 18, "A", "buy", TIME]),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2021-01-01T00:00:00"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
    st.just([[["1", "2"]] * 2] * 2),
    st.dictionaries(st.sampled_from(["price", "qty", "s", "id"]), st.integers(), max_size=2),
)


def open_line(venue: str) -> VenueMachine:
    return line(venue, SYMBOLS.get(venue, "A"))


def check(machine: VenueMachine, frame: bytes | str, now_ns: int) -> None:
    """Hand the frame over and use all that comes of it."""
    machine.receive_frame(frame, now_ns)
    for event in machine.events():
        read = decode(parse(encode(event, "line")))
        if isinstance(read, BookSnapshot | BookDelta | Trade):
            read = msgspec.structs.replace(read, flags=read.flags & ~Flag.WIDE)
        assert read == event
    machine.commands()
    machine.receive_timeout(now_ns)
    machine.deadline_ns()


def places(value: object) -> list[tuple[Any, Any]]:
    """Give every (container, key) below."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [(value, key) for key, _ in items] + [place for _, below in items for place in places(below)]


@st.composite
def mutated(draw: st.DrawFn, venue: str) -> list[str]:
    """Give a few frames of the venue, most with one or two values replaced, left out or doubled."""
    texts = []
    for frame in draw(st.lists(st.sampled_from(FRAMES[venue]), min_size=1, max_size=5)):
        copy = json.loads(json.dumps(frame))
        for _ in range(draw(st.integers(0, 2))):
            targets = places(copy)
            if not targets:
                break
            container, key = draw(st.sampled_from(targets))
            odd = json.loads(json.dumps(draw(ODD)))
            if isinstance(container, dict) and key in container and draw(st.booleans()):
                del container[key]
            elif isinstance(container, list) and draw(st.booleans()):
                container.insert(0, odd)
            else:
                container[key] = odd
        texts.append(json.dumps(copy))
    return texts


def test_every_venue_is_fuzzed() -> None:
    assert set(FRAMES) == set(VENUES)


@pytest.mark.parametrize("venue", sorted(FRAMES))
def test_the_seeds_are_good_frames(venue: str) -> None:
    machine = open_line(venue)
    for frame in FRAMES[venue]:
        check(machine, json.dumps(frame), OPENED_NS + 1)
    assert machine.statistics().undecodable == 0
    counts = machine.statistics().instruments[SYMBOLS.get(venue, "A")]
    assert counts.updates >= 1 and counts.trades >= 1


@pytest.mark.parametrize("venue", sorted(FRAMES))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_frames(venue: str, data: st.DataObject) -> None:
    machine = open_line(venue)
    for step, text in enumerate(data.draw(mutated(venue))):
        check(machine, text, OPENED_NS + step * SECOND)


@pytest.mark.parametrize("venue", sorted(FRAMES))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=st.one_of(st.binary(max_size=200), st.text(max_size=100)))
def test_bytes(venue: str, frame: bytes | str) -> None:
    check(open_line(venue), frame, OPENED_NS + 1)


@pytest.mark.parametrize("venue", sorted(FRAMES))
def test_cut_frames(venue: str) -> None:
    machine = open_line(venue)
    for frame in FRAMES[venue]:
        text = json.dumps(frame).encode()
        for end in range(0, len(text), 7):
            check(machine, text[:end], OPENED_NS + 1)
            check(machine, zlib.compress(text)[2:-4][:end], OPENED_NS + 1)


@pytest.mark.parametrize("venue", sorted(FRAMES))
@pytest.mark.parametrize("frame", ["[" * 100_000, '{"data":' * 100_000, '"\ud800"', b"\xff\xfe"])
def test_frames_against_the_parser(venue: str, frame: bytes | str) -> None:
    machine = open_line(venue)
    check(machine, frame, OPENED_NS + 1)
    assert machine.statistics().undecodable == 1
