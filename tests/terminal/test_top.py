"""The screen under its library's own pilot: what it shows, what the keys do, and a picture of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from raytrade.core.clock import SECOND, ManualClock
from raytrade.errors import PipelineError
from raytrade.terminal import screen
from raytrade.terminal.screen import LadderScreen, TopApp
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy

SIZE = (150, 44)
DEADLINE_S = 15.0


class Shown:
    """A pipeline of two instruments; updates of the first come faster."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.looks = 0
        self.problem = ""
        self.closed = False
        self.ladders: list[str] = []

    def status(self) -> dict[str, Any]:
        if self.problem:
            raise PipelineError(self.problem)
        self.looks += 1
        self.clock.advance(SECOND)
        merged = dedup(gaps=1)
        counts = merged["streams"].pop("kraken-v2:BTC/USD/book")
        merged["streams"] = {
            "kraken-v2:BTC/USD/book": {**counts, "updates": 10 * self.looks},
            "kraken-v2:ETH/USD/book": {**counts, "updates": 500 * self.looks, "gaps": 0},
        }
        actors = status(c=collector(), d=merged, r=recorder(), s=strategy())
        return {**actors, "alerts": {"firing": [{"alert": "redundancy_low", "subject": "kraken-v2"}]}}

    def incidents(self, since: int) -> list[dict[str, Any]]:
        record = {"number": 0, "ts_ns": 0, "incident": "line_up", "actor": "c", "fields": {"line": "c/kraken-v2"}}
        return [record] if since == 0 else []

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        self.ladders.append(instrument)
        trade = {"trade_id": "1", "price": "100.5", "size": "2", "aggressor": "buy", "ts_recv_ns": SECOND}
        return {
            "instrument": instrument,
            "state": "live",
            "is_live": True,
            "id_last": 42,
            "bids": [("100.4", "3"), ("100.3", "1")],
            "asks": [("100.6", "2")],
            "trades": [trade],
        }

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "LOOK_S", 0.1)
    monkeypatch.setattr(screen, "LADDER_S", 0.1)


Course = Callable[[Pilot[None], TopApp, Shown], Awaitable[None]]


def show(course: Course) -> Shown:
    clock = ManualClock(SECOND)
    source = Shown(clock)

    async def run() -> None:
        app = TopApp(source, clock)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: rows(app) != [])
            looks = source.looks
            await until(pilot, lambda: source.looks > looks + 1)
            await course(pilot, app, source)

    asyncio.run(run())
    return source


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await pilot.pause(0.05)


def rows(app: TopApp, table: str = "streams") -> list[list[str]]:
    shown = app.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in shown.get_row_at(at)] for at in range(shown.row_count)]


def text(app: TopApp, name: str) -> str:
    return str(app.screen.query_one(f"#{name}", Static).render())


def names(app: TopApp) -> list[str]:
    return [row[0] for row in rows(app)]


def test_streams_lines_alerts_and_events_are_shown() -> None:
    async def course(pilot: Pilot[None], app: TopApp, source: Shown) -> None:
        for part in ("#streams", "#hops", "#recorders", "Footer"):
            region = app.query_one(part).region
            assert region.height > 0, part
            assert region.bottom <= SIZE[1], part
        assert names(app) == ["kraken-v2:BTC/USD", "kraken-v2:ETH/USD"]
        assert rows(app)[0][1:] == ["book", "10.0", "1/1", "", "1", "0"]
        assert rows(app, "lines")[0][:2] == ["c/kraken-v2", "up"]
        assert rows(app, "links")[0][:3] == ["c", "d", "shm"]
        assert "redundancy_low: kraken-v2" in text(app, "problem")
        assert "socket to strategy called" in text(app, "hops")
        assert "recorder" in text(app, "recorders")
        events = str(app.query_one("#events", Static).render())
        assert "line_up" in events

    assert show(course).closed


def test_keys_sort_turn_round_and_filter() -> None:
    async def course(pilot: Pilot[None], app: TopApp, source: Shown) -> None:
        await pilot.press("r")
        assert names(app) == ["kraken-v2:ETH/USD", "kraken-v2:BTC/USD"]
        await pilot.press("r", "s", "s")
        assert "sorted by gaps" in app.sub_title
        assert names(app) == ["kraken-v2:BTC/USD", "kraken-v2:ETH/USD"]
        await pilot.press("slash", "e", "t", "h", "enter")
        assert names(app) == ["kraken-v2:ETH/USD"]
        await pilot.press("slash", "backspace", "backspace", "backspace", "enter")
        assert len(names(app)) == 2

    show(course)


def test_enter_opens_the_ladder_and_escape_closes_it() -> None:
    async def course(pilot: Pilot[None], app: TopApp, source: Shown) -> None:
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, LadderScreen) and source.ladders != [])
        assert set(source.ladders) == {"kraken-v2:ETH/USD"}
        looks = len(source.ladders)
        await until(pilot, lambda: len(source.ladders) > looks)
        await pilot.press("escape")
        assert not isinstance(app.screen, LadderScreen)

    show(course)


def test_a_cluster_that_is_gone_is_said_and_looked_for_again() -> None:
    async def course(pilot: Pilot[None], app: TopApp, source: Shown) -> None:
        source.problem = "no single pipeline is running here"
        await until(pilot, lambda: source.problem in text(app, "problem"))
        assert names(app) != []
        source.problem = ""
        await until(pilot, lambda: "redundancy_low" in text(app, "problem"))

    show(course)


def test_a_picture(tmp_path: Path) -> None:
    """``RAYTRADE_SCREENSHOTS`` names a folder to keep it in."""
    folder = Path(os.environ.get("RAYTRADE_SCREENSHOTS", tmp_path))

    async def course(pilot: Pilot[None], app: TopApp, source: Shown) -> None:
        await until(pilot, lambda: len(app.query("FooterKey")) >= 4)
        app.save_screenshot("top.svg", str(folder))

    show(course)
    picture = (folder / "top.svg").read_text()
    assert picture.startswith("<svg")
    assert "kraken" in picture
    assert "updates/s" in picture


def test_without_a_terminal_it_says_what_to_use() -> None:
    command = [sys.executable, "-m", "raytrade", "top"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert ended.stderr == "raytrade: top: needs a terminal; into a pipe use: raytrade status --json --watch\n"
