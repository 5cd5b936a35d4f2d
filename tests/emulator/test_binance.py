"""Binance markets: a plain client follows the documented procedure and must hold the truth."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raytrade.emulator import Emulator, EmulatorSettings
from tests.emulator.clients import (
    Frame,
    Sides,
    apply_pairs,
    assert_book,
    fetch,
    finish,
    open_reader,
    until,
)

REST = {
    "binance-spot": "/api/v3/depth",
    "binance-us": "/api/v3/depth",
    "binance-usdm": "/fapi/v1/depth",
    "binance-coinm": "/dapi/v1/depth",
}


def settings(venue: str, **changes: Any) -> EmulatorSettings:
    options: dict[str, Any] = {"symbols": ("BTCUSDT", "ETHUSDT"), "rate": 500.0, "updates": 600}
    return EmulatorSettings(venue=venue, **{**options, **changes})


def rebuild(venue: str, snapshot: Frame, deltas: list[Frame]) -> Sides:
    """Apply the venue's documented procedure; any break of the chain is an error."""
    sides: Sides = ({}, {})
    apply_pairs(sides[0], snapshot["bids"])
    apply_pairs(sides[1], snapshot["asks"])
    last = snapshot["lastUpdateId"]
    is_spot = venue in ("binance-spot", "binance-us")
    is_first = True
    for delta in deltas:
        if delta["u"] <= last if is_spot else delta["u"] < last:
            continue
        previous = delta["U"] - 1 if is_spot else delta["pu"]
        assert previous == last or (is_first and previous <= last <= delta["u"])
        is_first = False
        apply_pairs(sides[0], delta["b"])
        apply_pairs(sides[1], delta["a"])
        last = delta["u"]
    return sides


@pytest.mark.parametrize("venue", sorted(REST))
@pytest.mark.parametrize("skew_windows", [1, 4])
def test_two_lines_rebuild_the_true_book(venue: str, skew_windows: int) -> None:
    asyncio.run(check_rebuild(venue, skew_windows))


async def check_rebuild(venue: str, skew_windows: int) -> None:
    emulator = Emulator(settings(venue, clients=2, skew_windows=skew_windows))
    await emulator.start()
    first = await open_reader(emulator, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade")
    request = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 7}
    second = await open_reader(emulator, "/stream", request)
    await until(lambda: len(first.raw) > 50)
    status, snapshot = await fetch(emulator, f"{REST[venue]}?symbol=BTCUSDT&limit=1000")
    assert status == 200
    await finish(emulator, first, second)
    assert second.frames[0] == {"result": None, "id": 7}
    windows = []
    for number, reader in ((1, first), (2, second)):
        deltas = [f["data"] for f in reader.frames if "depth" in f.get("stream", "")]
        assert_book(emulator, "BTCUSDT", rebuild(venue, snapshot, deltas))
        windows.append([(delta["U"], delta["u"]) for delta in deltas])
        assert emulator.truth().delivered[number]["BTCUSDT"] == [d["u"] for d in deltas]
    assert (windows[0] == windows[1]) == (skew_windows == 1)
    trades = [f["data"]["t"] for f in first.frames if "trade" in f.get("stream", "")]
    assert trades == emulator.truth().trades["BTCUSDT"]


def test_every_snapshot_taken_under_load_is_a_state_of_the_stream() -> None:
    asyncio.run(check_snapshots())


async def check_snapshots() -> None:
    emulator = Emulator(settings("binance-spot", rate=3000.0, updates=4000, clients=1))
    await emulator.start()
    reader = await open_reader(emulator, "/ws/btcusdt@depth")
    snapshots = []
    while not emulator.is_finished:
        snapshots.append((await fetch(emulator, "/api/v3/depth?symbol=BTCUSDT&limit=5000"))[1])
    await finish(emulator, reader)
    assert len({snapshot["lastUpdateId"] for snapshot in snapshots}) > 2
    deltas = reader.frames
    for snapshot in snapshots[1 :: len(snapshots) // 10 or 1]:
        before = [d for d in deltas if d["u"] <= snapshot["lastUpdateId"]]
        sides = rebuild("binance-spot", snapshots[0], before)
        taken: Sides = ({}, {})
        apply_pairs(taken[0], snapshot["bids"])
        apply_pairs(taken[1], snapshot["asks"])
        assert sides == taken


def test_burst_is_complete_and_its_subscribers_agree() -> None:
    asyncio.run(check_burst())


async def check_burst() -> None:
    options = settings("binance-spot", symbols=("BTCUSDT",), updates=6000, burst="5900@0.05s")
    emulator = Emulator(options)
    await emulator.start()
    reader = await open_reader(emulator, "/ws/btcusdt@depth@100ms")
    snapshot = (await fetch(emulator, "/api/v3/depth?symbol=BTCUSDT"))[1]
    await finish(emulator, reader)
    assert len(reader.raw) == 6000
    assert_book(emulator, "BTCUSDT", rebuild("binance-spot", snapshot, reader.frames))


def test_unknown_symbols_are_refused() -> None:
    asyncio.run(check_refusal())


async def check_refusal() -> None:
    emulator = Emulator(settings("binance-usdm", clients=0))
    await emulator.start()
    wrong = {"method": "SUBSCRIBE", "params": ["nosuch@depth"], "id": 3}
    reader = await open_reader(emulator, "/ws", wrong, {"method": "LIST_SUBSCRIPTIONS", "id": 4})
    await until(lambda: len(reader.raw) == 2)
    assert reader.frames[0] == {"error": {"code": -1121, "msg": "Invalid symbol."}, "id": 3}
    status, body = await fetch(emulator, "/fapi/v1/depth?symbol=NOSUCH&limit=5")
    assert (status, body["code"]) == (400, -1121)
    assert (await fetch(emulator, "/nothing"))[0] == 404
    listed = (await fetch(emulator, "/fapi/v1/exchangeInfo"))[1]["symbols"]
    assert [entry["symbol"] for entry in listed] == ["BTCUSDT", "ETHUSDT"]
    await emulator.stop()


def test_unsubscribed_streams_fall_silent() -> None:
    asyncio.run(check_unsubscribe())


async def check_unsubscribe() -> None:
    emulator = Emulator(settings("binance-spot", updates=0))
    await emulator.start()
    names = ["btcusdt@depth", "ethusdt@depth"]
    reader = await open_reader(emulator, "/ws", {"method": "SUBSCRIBE", "params": names, "id": 1})
    await until(lambda: len(reader.raw) > 20)
    await reader.send({"method": "UNSUBSCRIBE", "params": names[:1], "id": 2})
    await until(lambda: '{"result":null,"id":2}' in reader.raw)
    cut = reader.raw.index('{"result":null,"id":2}')
    await until(lambda: len(reader.raw) > cut + 20)
    assert {frame["s"] for frame in reader.frames[cut + 1 :]} == {"ETHUSDT"}
    await emulator.stop()
