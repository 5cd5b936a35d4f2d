"""A recording served as the venue's own websocket: raytrade's own client has the same books and trades of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import raytrade
from raytrade import BookDelta, BookSnapshot, Event, Gap, L2Book, LineUp, Side, Trade
from raytrade.cli.replay_server import Served, prepared
from raytrade.core.clock import SECOND
from raytrade.emulator import EmulatorThread, run_in_thread
from raytrade.errors import ConfigError
from raytrade.storage.recording import open_recording
from tests.cli.commands import Commands
from tests.unit.backtest.markets import market
from tests.unit.storage.recordings import BTC, ETH, KRAKEN, gap, record, snapshot

DEADLINE_S = 40.0
REST_NS = 6 * SECOND
TWICE = Served(2.0, "127.0.0.1", 0, 1000, ())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(capsys, monkeypatch)


def quiet(events: list[Any]) -> list[Any]:
    """Give the events with a rest of seconds early on: a client has its first book before the market goes on."""
    return [replace(e, ts_recv_ns=e.ts_recv_ns + (REST_NS if at >= 60 else 0)) for at, e in enumerate(events)]


def served(directory: Path, how: Served = TWICE) -> EmulatorThread:
    return run_in_thread(*prepared(open_recording(directory), (None, None), ["*"], how))


def taken(exchange: EmulatorThread, last_id: int) -> list[Event]:
    """Give what two connections bring, up to an id of the book."""
    urls = {"binance-spot": (exchange.url, exchange.url.replace("ws://", "http://"))}
    events: list[Event] = []

    async def course() -> None:
        async with asyncio.timeout(DEADLINE_S), raytrade.stream(BTC, connections=2, urls=urls) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, LineUp) and sum(isinstance(one, LineUp) for one in events) == 2:
                    exchange.begin()
                if getattr(event, "id_last", 0) >= last_id and isinstance(event, BookDelta | BookSnapshot):
                    return

    asyncio.run(course())
    return events


def test_a_client_has_the_books_and_trades_of_the_recording(tmp_path: Path) -> None:
    recorded = quiet(market(3, 250))
    record(tmp_path, recorded)
    with served(tmp_path) as exchange:
        events = taken(exchange, 250)
    assert not [event for event in events if isinstance(event, Gap)]
    book, truth = L2Book(BTC), L2Book(BTC)
    for events_of, one in ((events, book), (recorded, truth)):
        for event in events_of:
            if isinstance(event, BookDelta | BookSnapshot):
                one.apply(event)
    assert book.id_last == truth.id_last == 250
    assert [book.texts(side) for side in (Side.BUY, Side.SELL)] == [truth.texts(side) for side in (Side.BUY, Side.SELL)]
    applied = [event.id_last for event in events if isinstance(event, BookDelta) and not event.flags]
    assert applied == list(range(applied[0], 251)) and len(applied) > 100
    trades = [(trade.trade_id, trade.aggressor) for trade in events if isinstance(trade, Trade)]
    wanted = [(trade.trade_id.strip("t"), trade.aggressor) for trade in recorded if isinstance(trade, Trade)]
    assert trades == wanted[-len(trades) :] and len(trades) > 50


def test_what_was_lost_is_lost_again(tmp_path: Path) -> None:
    recorded = quiet([event for event in market(4, 200) if not isinstance(event, Trade)])
    truth = L2Book(BTC)
    for event in recorded[:120]:
        truth.apply(event)
    at_ns = recorded[119].ts_recv_ns
    whole = replace(truth.snapshot(flags=0), ts_recv_ns=at_ns)
    record(tmp_path, [*recorded[:100], gap(100, 120, at_ns - 1), whole, *recorded[120:]])
    with served(tmp_path) as exchange:
        events = taken(exchange, 200)
    (lost,) = [event for event in events if isinstance(event, Gap)]
    assert lost.id_prev == 100 and lost.id_last == 120
    book = L2Book(BTC)
    for event in events:
        if isinstance(event, BookDelta | BookSnapshot):
            book.apply(event)
    for event in recorded[120:]:
        truth.apply(event)
    assert book.state_hash(0) == truth.state_hash(0)


def test_what_cannot_be_served_is_refused(tmp_path: Path, run: Commands) -> None:
    record(tmp_path / "a", [snapshot(1, 5, name=KRAKEN)])
    with pytest.raises(ConfigError, match="one venue at a time"):
        served(tmp_path / "a")
    record(tmp_path / "b", [snapshot(1, 5), snapshot(1, 5, name=ETH, price_scale=9)])
    with pytest.raises(ConfigError, match="finer than the venue prints"):
        served(tmp_path / "b")
    assert "not together with --serve" in run("replay", tmp_path / "b", "--serve", "--hash").problem
    assert "unknown kind" in run("replay", tmp_path / "b", "--serve", "--instruments", BTC, "--fault", "what").problem
