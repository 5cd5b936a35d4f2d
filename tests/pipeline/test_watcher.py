"""The watcher: incidents, alerts and metrics from each status; an error is said and does not end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytrade.config import AlertsConfig
from raytrade.pipeline import watcher as watching
from raytrade.pipeline.watcher import Watcher
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy


class Exported:
    newest: Exported

    def __init__(self, pipeline: str) -> None:
        self.sets: list[int] = []
        Exported.newest = self

    def export(self, samples: list[Any]) -> None:
        self.sets.append(len(samples))


class Pipeline:
    def __init__(self) -> None:
        self.problem: Exception | None = None
        self.is_up = True
        self.looks = 0

    def status(self) -> dict[str, Any]:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return status(c=collector(is_up=self.is_up), d=dedup(), r=recorder(), s=strategy())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watcher, Pipeline]]:
    monkeypatch.setattr(watching, "WATCH_S", 0.01)
    monkeypatch.setattr(watching, "Exporter", Exported)
    pipeline = Pipeline()
    watcher = Watcher("p", AlertsConfig(redundancy=1, hold_s=0.0), pipeline.status)
    watcher.start()
    yield watcher, pipeline
    watcher.stop()
    looks = pipeline.looks
    time.sleep(0.05)
    assert pipeline.looks == looks


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def kinds(watcher: Watcher, since: int = 0) -> list[str]:
    return [record["incident"] for record in watcher.incidents(since)]


def test_what_happens_is_noted_alerted_and_exported(watched: tuple[Watcher, Pipeline]) -> None:
    watcher, pipeline = watched
    until(lambda: kinds(watcher).count("actor_started") == 4)
    pipeline.is_up = False
    until(lambda: watcher.summary()["firing"] == [{"alert": "redundancy_low", "subject": "kraken-v2"}])
    pipeline.is_up = True
    until(lambda: kinds(watcher)[-2:] == ["alert_firing", "alert_resolved"])
    assert watcher.summary()["firing"] == []
    assert min(Exported.newest.sets) > 20


def test_other_thresholds_hold_from_the_next_look_on(watched: tuple[Watcher, Pipeline]) -> None:
    watcher, _ = watched
    until(lambda: kinds(watcher).count("actor_started") == 4)
    assert watcher.summary()["firing"] == []
    watcher.set_alerts(AlertsConfig(redundancy=2, hold_s=0.0))
    until(lambda: watcher.summary()["firing"] == [{"alert": "redundancy_low", "subject": "kraken-v2"}])
    watcher.set_alerts(AlertsConfig(redundancy=1, hold_s=0.0))
    until(lambda: watcher.summary()["firing"] == [])


def test_an_error_is_said_and_does_not_end_it(
    watched: tuple[Watcher, Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    watcher, pipeline = watched
    pipeline.problem = KeyError("streams")
    until(lambda: watcher.summary()["watcher_problem"] == "KeyError: 'streams'")
    pipeline.problem = None
    until(lambda: watcher.summary()["watcher_problem"] == "" and kinds(watcher))
    assert "KeyError" in capsys.readouterr().err
