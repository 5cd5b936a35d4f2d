"""Values to metrics: counters move by what has grown, gauges of what is gone become NaN."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raytrade.observation.metrics import Sample
from raytrade.pipeline import exporting


class Recorded:
    """Stands for Ray's Counter and Gauge."""

    calls: list[tuple[str, float, dict[str, str]]] = []

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name = name
        assert description
        assert tag_keys[0] == "pipeline"

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append((self.name, value, tags))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append((self.name, value, tags))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> exporting.Exporter:
    monkeypatch.setattr(exporting, "Counter", Recorded)
    monkeypatch.setattr(exporting, "Gauge", Recorded)
    monkeypatch.setattr(Recorded, "calls", [])
    return exporting.Exporter("p")


def frames(value: float) -> Sample:
    return Sample("raytrade_line_frames_total", ("l", "v"), value)


def test_counters(exporter: exporting.Exporter) -> None:
    for value in (5, 5, 8, 2):
        exporter.export([frames(value)])
    assert [value for _, value, _ in Recorded.calls] == [5, 3, 2]
    assert Recorded.calls[0][2] == {"pipeline": "p", "line": "l", "venue": "v"}


def test_a_gauge_whose_subject_is_gone(exporter: exporting.Exporter) -> None:
    up: Any = Sample("raytrade_actor_up", ("c",), 1.0)
    exporter.export([up])
    exporter.export([frames(1)])
    exporter.export([frames(1)])
    values = [value for name, value, _ in Recorded.calls if name == "raytrade_actor_up"]
    assert values[0] == 1.0
    assert math.isnan(values[1])
    assert len(values) == 2
