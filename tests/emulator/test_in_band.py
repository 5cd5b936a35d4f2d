"""Venues that send their snapshot in band: plain clients must hold the truth at the end."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from raytrade.emulator import Emulator, EmulatorSettings
from tests.emulator.clients import (
    Frame,
    Sides,
    apply_pairs,
    assert_book,
    finish,
    levels_of,
    open_reader,
    until,
)

Rebuild = Callable[[list[str], str], Sides]


def rebuild_hitbtc(texts: list[str], symbol: str) -> Sides:
    sides: Sides = ({}, {})
    last = None
    for frame in map(json.loads, texts):
        params = frame.get("params", {})
        if not str(frame.get("method")).endswith("Orderbook") or params["symbol"] != symbol:
            continue
        if frame["method"] == "snapshotOrderbook":
            sides = ({}, {})
        else:
            assert params["sequence"] == (last or 0) + 1
        last = params["sequence"]
        apply_pairs(sides[0], levels_of(params["bid"], "price", "size"))
        apply_pairs(sides[1], levels_of(params["ask"], "price", "size"))
    return sides


def rebuild_bybit(texts: list[str], symbol: str) -> Sides:
    sides: Sides = ({}, {})
    last = 0
    for frame in map(json.loads, texts):
        if frame.get("topic") != f"orderbook.50.{symbol}":
            continue
        if frame["type"] == "snapshot":
            sides = ({}, {})
        else:
            assert frame["data"]["u"] == last + 1
        last = frame["data"]["u"]
        apply_pairs(sides[0], frame["data"]["b"])
        apply_pairs(sides[1], frame["data"]["a"])
        assert max(map(len, sides)) <= 50
    return sides


def rebuild_gemini(texts: list[str], symbol: str) -> Sides:
    sides: Sides = ({}, {})
    last = None
    for frame in map(json.loads, texts):
        if frame.get("e") != "depthUpdate" or frame["s"] != symbol:
            continue
        if frame["U"] == frame["u"]:
            sides = ({}, {})
        else:
            assert frame["U"] == last
        last = frame["u"]
        apply_pairs(sides[0], frame["b"])
        apply_pairs(sides[1], frame["a"])
    return sides


def rebuild_gemini_v2(texts: list[str], symbol: str) -> Sides:
    sides: Sides = ({}, {})
    for frame in map(json.loads, texts):
        if frame.get("type") != "l2_updates" or frame["symbol"] != symbol:
            continue
        if "trades" in frame:
            sides = ({}, {})
        for side, price, size in frame["changes"]:
            apply_pairs(sides[0 if side == "buy" else 1], [[price, size]])
    return sides


def rebuild_coinbase(texts: list[str], symbol: str) -> Sides:
    sides: Sides = ({}, {})
    frames = [json.loads(text) for text in texts]
    assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))
    for event in (event for f in frames if f["channel"] == "l2_data" for event in f["events"]):
        if event["product_id"] != symbol:
            continue
        if event["type"] == "snapshot":
            sides = ({}, {})
        for level in event["updates"]:
            side = sides[0 if level["side"] == "bid" else 1]
            apply_pairs(side, [[level["price_level"], level["new_quantity"]]])
    return sides


def kraken_digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


def rebuild_kraken(texts: list[str], symbol: str) -> Sides:
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for text in texts:
        frame = json.loads(text, parse_float=str)
        if frame.get("channel") != "book" or frame["data"][0]["symbol"] != symbol:
            continue
        data = frame["data"][0]
        if frame["type"] == "snapshot":
            bids, asks = {}, {}
        for side, levels in ((bids, data["bids"]), (asks, data["asks"])):
            for level in levels:
                if float(level["qty"]) == 0:
                    side.pop(level["price"], None)
                else:
                    side[level["price"]] = level["qty"]
        bids = dict(sorted(bids.items(), key=lambda level: -float(level[0]))[:10])
        asks = dict(sorted(asks.items(), key=lambda level: float(level[0]))[:10])
        best = [*asks.items(), *bids.items()]
        digits = "".join(kraken_digits(price) + kraken_digits(size) for price, size in best)
        assert zlib.crc32(digits.encode()) == data["checksum"]
    sides: Sides = ({}, {})
    apply_pairs(sides[0], [list(level) for level in bids.items()])
    apply_pairs(sides[1], [list(level) for level in asks.items()])
    return sides


class Case:
    """How to subscribe to a venue and what depth its book has."""

    def __init__(self, target: str, symbols: tuple[str, ...], depth: int | None, rebuild: Rebuild) -> None:
        self.target = target
        self.symbols = symbols
        self.depth = depth
        self.rebuild = rebuild


CASES = {
    "hitbtc-v2": Case("/api/2/ws/public", ("ETHBTC", "XRPBTC"), None, rebuild_hitbtc),
    "bybit-v5": Case("/v5/public/linear", ("BTCUSDT", "ETHUSDT"), 50, rebuild_bybit),
    "gemini": Case("/?snapshot=-1", ("btcusd", "ethusd"), None, rebuild_gemini),
    "gemini-v2": Case("/v2/marketdata", ("BTCUSD", "ETHUSD"), None, rebuild_gemini_v2),
    "coinbase-advanced": Case("/", ("BTC-USD", "ETH-USD"), None, rebuild_coinbase),
    "kraken-v2": Case("/v2", ("BTC/USD", "ETH/USD"), 10, rebuild_kraken),
}


def requests_for(venue: str, symbols: tuple[str, ...], verb: str = "subscribe") -> list[Any]:
    """Build the venue's requests for the books of some symbols."""
    names = list(symbols)
    if venue == "hitbtc-v2":
        method = f"{verb}Orderbook"
        return [{"method": method, "params": {"symbol": s}, "id": 1} for s in names]
    if venue == "bybit-v5":
        return [{"op": verb, "req_id": "r", "args": [f"orderbook.50.{s}" for s in names]}]
    if venue == "gemini":
        return [{"id": 1, "method": verb.upper(), "params": [f"{s}@depth@100ms" for s in names]}]
    if venue == "gemini-v2":
        return [{"type": verb, "subscriptions": [{"name": "l2", "symbols": names}]}]
    if venue == "coinbase-advanced":
        return [{"type": verb, "product_ids": names, "channel": "level2"}]
    return [{"method": verb, "params": {"channel": "book", "symbol": names, "depth": 10}}]


REFUSALS = {
    "hitbtc-v2": '"code":2001',
    "bybit-v5": '"success":false',
    "gemini": '"status":400',
    "gemini-v2": "NoValidTradingPairs",
    "coinbase-advanced": '"type":"error"',
    "kraken-v2": '"success":false',
}


def settings(venue: str, **changes: Any) -> EmulatorSettings:
    options: dict[str, Any] = {"symbols": CASES[venue].symbols, "rate": 800.0, "updates": 800}
    return EmulatorSettings(venue=venue, **{**options, **changes})


@pytest.mark.parametrize("venue", sorted(CASES))
def test_two_lines_rebuild_the_true_books(venue: str) -> None:
    asyncio.run(check_rebuild(venue))


async def check_rebuild(venue: str) -> None:
    case = CASES[venue]
    emulator = Emulator(settings(venue, clients=1))
    await emulator.start()
    requests = requests_for(venue, case.symbols)
    first = await open_reader(emulator, case.target, *requests)
    await until(lambda: len(first.raw) > 100)
    late = await open_reader(emulator, case.target, *requests)
    await finish(emulator, first, late)
    for reader in (first, late):
        for symbol in case.symbols:
            texts = [str(text) for text in reader.raw]
            assert_book(emulator, symbol, case.rebuild(texts, symbol), case.depth)


@pytest.mark.parametrize("venue", sorted(CASES))
def test_a_new_subscription_opens_with_a_fresh_snapshot(venue: str) -> None:
    asyncio.run(check_resubscribe(venue))


async def check_resubscribe(venue: str) -> None:
    case = CASES[venue]
    symbols = case.symbols[:1]
    emulator = Emulator(settings(venue, updates=1600))
    await emulator.start()
    reader = await open_reader(emulator, case.target, *requests_for(venue, symbols))
    for count in (100, 200):
        await until(lambda count=count: len(reader.raw) > count)  # type: ignore[misc]
        for request in requests_for(venue, symbols, "unsubscribe"):
            await reader.send(request)
        seen = len(emulator.truth().ids[symbols[0]])
        await until(lambda seen=seen: len(emulator.truth().ids[symbols[0]]) > seen + 5)  # type: ignore[misc]
        for request in requests_for(venue, symbols):
            await reader.send(request)
    await finish(emulator, reader)
    texts = [str(text) for text in reader.raw]
    assert_book(emulator, symbols[0], case.rebuild(texts, symbols[0]), case.depth)
    assert len(emulator.truth().delivered[1][symbols[0]]) < 800


@pytest.mark.parametrize("venue", sorted(CASES))
def test_unknown_symbols_are_refused(venue: str) -> None:
    asyncio.run(check_refusal(venue))


async def check_refusal(venue: str) -> None:
    emulator = Emulator(settings(venue, clients=0))
    await emulator.start()
    reader = await open_reader(emulator, CASES[venue].target, *requests_for(venue, ("NOSUCH",)))
    await until(lambda: any(REFUSALS[venue] in str(text) for text in reader.raw))
    assert not emulator.truth().delivered[1]
    await emulator.stop()


def test_heartbeats_count_in_the_numbers_of_coinbase() -> None:
    asyncio.run(check_heartbeats())


async def check_heartbeats() -> None:
    emulator = Emulator(settings("coinbase-advanced", rate=50.0, updates=0))
    await emulator.start()
    beats = {"type": "subscribe", "channel": "heartbeats"}
    requests = requests_for("coinbase-advanced", ("BTC-USD",))
    trades = {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "market_trades"}
    reader = await open_reader(emulator, "/", beats, trades, *requests)
    await until(lambda: any('"heartbeat_counter"' in str(text) for text in reader.raw))
    frames: list[Frame] = reader.frames
    assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))
    await emulator.stop()


def test_an_idle_kraken_line_shows_signs_of_life() -> None:
    asyncio.run(check_idle())


async def check_idle() -> None:
    emulator = Emulator(settings("kraken-v2", updates=1))
    await emulator.start()
    reader = await open_reader(emulator, "/v2", *requests_for("kraken-v2", ("BTC/USD",)))
    await until(lambda: {"channel": "heartbeat"} in reader.frames)
    assert reader.frames[0]["channel"] == "status"
    await emulator.stop()
