"""The feed: one look for all browsers, few ladders at once, errors said and forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytrade.core.clock import SECOND, ManualClock
from raytrade.errors import PipelineError
from raytrade.web import feed as feeding
from raytrade.web.feed import FORGOTTEN_NS, INSTRUMENTS_MAX, Feed
from tests.web.fake import MadeUp


class Source(MadeUp):
    def __init__(self) -> None:
        super().__init__()
        self.problem = ""
        self.asked: list[str] = []
        self.closed = False

    def status(self) -> dict[str, Any]:
        if self.problem:
            raise PipelineError(self.problem)
        found = super().status()
        streams = found["actors"]["d"]["streams"]
        counts = streams["kraken-v2:BTC/USD/book"]
        streams.update({f"kraken-v2:X{at}/USD/book": counts for at in range(INSTRUMENTS_MAX)})
        return found

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        self.asked.append(instrument)
        return super().ladder(instrument, depth)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Feed, Source, ManualClock]]:
    monkeypatch.setattr(feeding, "LOOK_S", 0.01)
    source, clock = Source(), ManualClock(SECOND)
    feed = Feed(source, clock)
    feed.start()
    until(lambda: feed.number > 0)
    yield feed, source, clock
    feed.stop()
    assert source.closed


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_only_what_somebody_looks_at_is_followed(running: tuple[Feed, Source, ManualClock]) -> None:
    feed, source, clock = running
    assert source.asked == []
    assert feed.ladder("kraken-v2:NO/SUCH") is None
    until(lambda: feed.ladder("kraken-v2:BTC/USD"))
    assert set(source.asked) == {"kraken-v2:BTC/USD"}
    clock.advance(FORGOTTEN_NS + SECOND)
    number = feed.number
    until(lambda: feed.number > number + 1)
    source.asked.clear()
    number = feed.number
    until(lambda: feed.number > number + 1)
    assert source.asked == []


def test_ladders_are_bounded(running: tuple[Feed, Source, ManualClock]) -> None:
    feed, source, _ = running
    names = feed.instruments()
    assert len(names) > INSTRUMENTS_MAX
    for name in names:
        feed.ladder(name)
    number = feed.number
    until(lambda: feed.number > number + 2)
    source.asked.clear()
    number = feed.number
    until(lambda: feed.number > number + 1)
    assert len(set(source.asked)) == INSTRUMENTS_MAX


def test_a_pipeline_that_is_gone_is_said(running: tuple[Feed, Source, ManualClock]) -> None:
    feed, source, _ = running
    source.problem = "no single pipeline is running here"
    until(lambda: feed.problem == source.problem)
    source.problem = ""
    until(lambda: feed.problem == "")
    until(lambda: len(feed.incidents) == 9)
