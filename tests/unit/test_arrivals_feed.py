"""`ArrivalsFeed` between dedups that come and go and a sink that takes each block once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from raytrade.actors import arrivals
from raytrade.actors.arrivals import ArrivalsFeed
from raytrade.core.arrivals import ArrivalLog
from raytrade.storage.arrivals import ArrivalSink, each_segment
from tests.unit.storage.recordings import NOON_NS
from tests.unit.storage.streams import delta


class Dedups:
    """Stands for Ray: finds logs by the name of their dedup, and gives what a call to them would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logs: dict[str, ArrivalLog] = {}
        self.failing: set[str] = set()
        monkeypatch.setattr(ray, "get_actor", self._find)
        monkeypatch.setattr(ray, "get", lambda blocks, timeout: blocks)

    def _find(self, name: str, namespace: str) -> Any:
        if name not in self.logs:
            raise ValueError(name)
        return SimpleNamespace(arrivals=SimpleNamespace(remote=lambda *cursor: self._since(name, *cursor)))

    def _since(self, name: str, incarnation: int, number: int) -> list[bytes]:
        if name in self.failing:
            raise RayError
        return self.logs[name].since(incarnation, number, bytes_max=1)


def fill(log: ArrivalLog, *ids: int) -> None:
    for number in ids:
        log.note([delta(number, line="a")], NOON_NS)
        log.cut(0, is_due=True)


def fetched(sink: ArrivalSink, names: list[str]) -> ArrivalsFeed:
    """Fetch until the feed is stopped; that it ends with a last round is all that is needed."""
    feed = ArrivalsFeed(names, sink.cursors, lambda blocks: sink.write(blocks, NOON_NS))
    feed.stop()
    return feed


def ids(directory: Path) -> list[tuple[str, int]]:
    rows = [row for _, table in each_segment(directory) for row in table.to_pylist()]
    return [(row["replica"], row["id_last"]) for row in rows]


def test_every_block_of_every_dedup_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "EVERY_S", 3600.0)
    dedups, sink = Dedups(monkeypatch), ArrivalSink(tmp_path)
    dedups.logs = {"a": ArrivalLog("a", 1), "b": ArrivalLog("b", 2)}
    fill(dedups.logs["a"], 1, 2, 3)
    fill(dedups.logs["b"], 1)
    fetched(sink, ["a", "b", "not there"])
    dedups.failing = {"a"}
    fill(dedups.logs["a"], 4)
    fill(dedups.logs["b"], 2)
    fetched(sink, ["a", "b"])
    sink.flush()
    assert ids(tmp_path) == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    # The dedup comes back as another one, and a recorder that starts again knows how far the files go.
    dedups.failing = set()
    dedups.logs["a"] = ArrivalLog("a", 9)
    fill(dedups.logs["a"], 7)
    again = ArrivalSink(tmp_path)
    fetched(again, ["a", "b"])
    again.flush()
    assert sorted(ids(tmp_path))[-1:] == [("b", 2)]
    assert ("a", 7) in ids(tmp_path)
    assert len(ids(tmp_path)) == 6
    assert again.blocks_missing == 0
