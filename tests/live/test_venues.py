"""One line to each venue, live: `RAYTRADE_LIVE=1 python -m pytest tests/live`. Left out of every other run."""

from __future__ import annotations

import asyncio
import os

import pytest

from raytrade.core.book import BookState, L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Event, Gap
from raytrade.transport.clock import SystemClock
from raytrade.transport.egress import Egress
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription

SYMBOLS = {
    "binance-spot": "BTCUSDT",
    "binance-usdm": "BTCUSDT",
    "bybit-linear": "BTCUSDT",
    "coinbase-advanced": "BTC-USD",
    "gemini-v2": "BTCUSD",
    "hitbtc-v2": "BTCUSD",
    "kraken-v2": "BTC/USD",
    "okx": "BTC-USDT",
}
LIVE_S = 20.0
CLOCK_S_MAX = 5.0
PROXY = os.environ.get("RAYTRADE_LIVE_PROXY", "")


class Watched:
    """A book kept from one line."""

    def __init__(self, venue: str) -> None:
        self.book = L2Book(f"{venue}:{SYMBOLS[venue]}")
        self.deltas = 0
        self.gaps: list[Gap] = []
        self.off_s: list[float] = []

    def take(self, events: list[Event]) -> None:
        """Apply what came."""
        for event in events:
            if isinstance(event, BookSnapshot | BookDelta):
                self.book.apply(event)
                self.deltas += isinstance(event, BookDelta)
                if event.ts_venue_ns:
                    self.off_s.append((event.ts_recv_ns - event.ts_venue_ns) / 1e9)
            elif isinstance(event, Gap):
                self.gaps.append(event)


async def watch(venue: str) -> tuple[Line, Watched]:
    """Follow one symbol for a while."""
    spec = find_venue(venue)
    endpoint = spec.machine.endpoints(spec.ws_url, spec.rest_url, (Subscription(SYMBOLS[venue]),))[0]
    budget = WeightBudget(spec.limits.weight_per_minute_max)
    egress = Egress(proxy="env:RAYTRADE_LIVE_PROXY") if PROXY else Egress()
    line = Line("live", spec.machine(venue, endpoint), SystemClock(), budget, 0, egress)
    watched = Watched(venue)
    task = asyncio.create_task(line.run(lambda _, events: watched.take(events)))
    await asyncio.sleep(3.0)
    line.request_snapshot(SYMBOLS[venue], lambda _, events: watched.take(events))
    await asyncio.sleep(LIVE_S)
    task.cancel()
    line.close()
    return line, watched


@pytest.mark.timeout(90)
@pytest.mark.parametrize("venue", sorted(SYMBOLS))
def test_a_line_gives_a_whole_book(venue: str) -> None:
    line, watched = asyncio.run(watch(venue))
    assert line.status.refused == {}, "the venue refused the subscription"
    assert watched.deltas > 0, f"no updates; last reason: {line.status.last_reason or 'none'}"
    assert line.machine.statistics().undecodable == 0, "frames of a shape that the machine does not know"
    assert watched.book.state is BookState.LIVE
    top = watched.book.top()
    assert top is not None and top.spread > 0
    assert watched.gaps == []
    off_s = sorted(watched.off_s)
    assert not off_s or abs(off_s[len(off_s) // 2]) < CLOCK_S_MAX, "this host's clock is off"
