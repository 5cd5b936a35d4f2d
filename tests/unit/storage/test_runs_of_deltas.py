"""Runs of deltas: what is read in runs is what is read as events, cut and merged at the same places."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.delta_run import Part
from raytrade.core.events import BookDelta, BookSnapshot, Side
from raytrade.core.instrument import Filter
from raytrade.core.lagging_book import LaggingBook
from raytrade.replay import EventPlayer
from raytrade.rules import rule_of
from raytrade.storage import source
from raytrade.storage.recording import open_recording
from raytrade.storage.source import TimedItem
from raytrade.strategy.base import BaseStrategy, Context
from raytrade.strategy.replay_engine import ReplayEngine
from tests.unit.storage.recordings import BTC, ETH, NOON_NS, STEP_NS, delta, random_stream, record, snapshot, trade


def expanded(items: Iterable[TimedItem]) -> list[tuple[Nanos, str]]:
    """Give what the items stand for, one event each, whatever scale it is written in."""
    found = []
    for now_ns, item in items:
        if not isinstance(item, Part):
            found.append((now_ns, plain(item)))
            continue
        assert item.run.times[item.first] == now_ns and item.first < item.last
        found += [(item.run.times[at], plain(item.run.event(at))) for at in range(item.first, item.last)]
    return found


def plain(event: object) -> str:
    book = L2Book("any")
    if not hasattr(event, "bids"):
        return repr(event)
    bids, asks = event.bids, event.asks  # type: ignore[attr-defined]
    scales = event.price_scale, event.size_scale  # type: ignore[attr-defined]
    levels = [
        [
            (price * 10 ** (18 - scales[0]), size * 10 ** (18 - scales[1]))
            for price, size in zip(side[::2], side[1::2], strict=True)
        ]
        for side in (bids, asks)
    ]
    names = ("id_last", "epoch", "ts_recv_ns", "ts_venue_ns", "flags", "state_hash")
    return repr((type(event).__name__, levels, [getattr(event, name) for name in names], book.epoch))


@pytest.fixture(scope="module", params=range(4))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    seed, directory = int(request.param), tmp_path_factory.mktemp("runs")
    events = [*random_stream(seed, 250), *random_stream(seed + 50, 120, name=ETH)]
    events += [trade(number, NOON_NS + number * STEP_NS) for number in range(1, 60)]
    record(directory, sorted(events, key=lambda event: event.ts_recv_ns), segment_messages_max=70)
    return directory


@pytest.mark.parametrize("rows", [5, 64, 8192])
def test_runs_stand_for_the_events(directory: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(source, "RUN_ROWS_MAX", rows)
    recording = open_recording(directory)
    for interval in ((None, None), (NOON_NS + 20 * STEP_NS, NOON_NS + 90 * STEP_NS)):
        wanted = [(now_ns, plain(event)) for now_ns, event in recording.timed_events(*interval, images=True)]
        items = list(recording.timed_runs(*interval, images=True))
        assert expanded(items) == wanted and wanted
        assert any(isinstance(item, Part) and item.last - item.first > 1 for _, item in items) or rows == 5


class Diary(BaseStrategy):
    """Writes down what it sees, and looks at the book now and then."""

    timer_interval_ns = 7 * STEP_NS

    def __init__(self, seed: int) -> None:
        self.lines: list[object] = []
        self._rng = random.Random(seed)

    def on_book(self, context: Context, book: L2Book) -> None:
        self.lines.append((context.now_ns, book.instrument, book.id_last, book.ts_recv_ns, book.ts_venue_ns))
        if self._rng.random() < 0.2:
            self.lines.append((book.texts(Side.BUY), book.texts(Side.SELL, 3), len(book), repr(book.top())))
        other = context.book(ETH if book.instrument == BTC else BTC)
        if self._rng.random() < 0.1:
            self.lines.append((other.state, other.id_last, other.texts(Side.SELL)))
        if self._rng.random() < 0.05:
            context.log("seen")

    def on_timer(self, context: Context, now_ns: Nanos) -> None:
        self.lines.append(("timer", now_ns))


@pytest.mark.parametrize("delay_ns", [0, STEP_NS])
def test_a_strategy_sees_the_same_of_runs_as_of_events(directory: Path, delay_ns: Nanos) -> None:
    diaries, notes = [Diary(3), Diary(3)], [list[object](), list[object]()]
    recording = open_recording(directory)
    for diary, told, items in zip(diaries, notes, (recording.timed_runs(), recording.timed_events()), strict=True):
        player = EventPlayer(ReplayEngine("diary", diary, Filter("*"), rule_of))
        for now_ns, item in items:
            if isinstance(item, Part):
                run, at, last = item
                while at < last:
                    at, commands = player.play_run(run, at, last, delay_ns)
                    told += commands
            else:
                told += player.play_event(now_ns + delay_ns, item)
        told += player.finish()
        player.engine.validate()
        statistics = player.engine.statistics().instruments
        diary.lines += [(name, one.counts, one.book_hash, one.state) for name, one in sorted(statistics.items())]
    assert diaries[0].lines == diaries[1].lines and notes[0] == notes[1] and notes[0]


def test_a_lagging_book_follows_finer_and_coarser_runs(tmp_path: Path) -> None:
    """Scales that differ between files, one so fine that 64 bits do not hold the other's sizes."""
    at_ns = [NOON_NS + number * STEP_NS for number in range(9)]
    fine: dict[str, Any] = {"price_scale": 4, "size_scale": 9, "bids": (1_000_000, 10**9)}
    large: dict[str, Any] = {"size_scale": 0, "bids": (10_100, 10**12)}
    events: list[BookSnapshot | BookDelta] = [snapshot(1, at_ns[0]), *(delta(n, n + 1, at_ns[n]) for n in (1, 2))]
    events += [delta(n, n + 1, at_ns[n], **fine) for n in (3, 4)]
    events += [delta(n, n + 1, at_ns[n], **large) for n in (5, 6)]
    record(tmp_path, events, segment_messages_max=1)
    truth, book = L2Book(BTC), LaggingBook(BTC)
    for event in events:
        truth.apply(event)
    for _, item in open_recording(tmp_path).timed_runs():
        if not isinstance(item, Part):
            book.apply(item)  # type: ignore[arg-type]
        elif book.follow(item.run, item.first):
            book.shown = item.last
            book.id_last = item.run.id_last[item.last - 1]
        else:
            for at in range(item.first, item.last):
                book.apply(item.run.event(at))
    assert book.state_hash(0) == truth.state_hash(0) and book.id_last == truth.id_last
