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
async def run_rebuild(venue: str, skew_windows: int) -> None:
    emulator = Emulator(settings(venue, clients=2, skew_windows=skew_windows))
    await emulator.start()
    first = await open_reader(emulator, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade")
    request = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 7}
    second = await open_reader(emulator, "/stream", request)
    await until(lambda: len(first.raw) > 50)
    status, snapshot = await fetch(emulator, f"{REST[venue]}?symbol=BTCUSDT&limit=1000")
    assert status == 200
    await emulator.run_until_finished()
    last = emulator.truth().ids["BTCUSDT"][-1]
    for reader in (first, second):
        await until(lambda reader=reader: str(last) in str(reader.raw[-2:]))  # type: ignore[misc]
    assert second.frames[0] == {"result": None, "id": 7}
    windows = []
    for reader in (first, second):
        deltas = [f["data"] for f in reader.frames if "depth" in f.get("stream", "")]
        assert_book(emulator, "BTCUSDT", rebuild(venue, snapshot, deltas))
        windows.append([(delta["U"], delta["u"]) for delta in deltas])
    assert (windows[0] == windows[1]) == (skew_windows == 1)
    await emulator.stop()
