"""The recorder's two threads: links are read whatever the disk does, what waits is bounded, no loss is silent."""

from __future__ import annotations

import os
import threading
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raytrade.actors import recorder as recorder_module
from raytrade.actors.recorder import Recorder, RecorderPlan
from raytrade.core.clock import Nanos
from raytrade.core.message import Message
from raytrade.links.policy import Policy
from raytrade.links.writer import LinkSettings
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.wal import Sync
from tests.unit.actors.inside import Registry, Source, until
from tests.unit.actors.test_upstreams import book, step

LAST = 6_000
OVER_THE_LANE = 25_000
"""More than lies in a lane and a ring."""


class Disk:
    """Takes nothing while it is held."""

    def __init__(self, recorder: Recorder) -> None:
        self.gate = threading.Event()
        self._write = recorder._sink.write
        recorder._sink.write = self.write  # type: ignore[method-assign]

    def write(self, messages: list[Message], now_ns: Nanos) -> None:
        self.gate.wait()
        self._write(messages, now_ns)


def recorder_of(
    patch: pytest.MonkeyPatch, directory: Path, lane: str = "shm", **plan: Any
) -> tuple[Registry, Recorder]:
    registry = Registry(patch)
    patch.setattr(recorder_module, "ray", registry)
    recorder = Recorder(RecorderPlan(name="r", dedups=["w"], directory=str(directory), same_node=lane, **plan))
    registry.me = recorder
    return registry, recorder


def rows(directory: Path, pattern: str, *columns: str) -> list[tuple[Any, ...]]:
    tables = [pq.read_table(path, columns=list(columns)) for path in directory.glob(pattern)]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def ids_in_files(directory: Path) -> list[int]:
    """Give the ids of the deltas in the order of the recording."""
    found = {row for row in rows(directory, "venue=*/**/*.parquet", "index", "id_last", "is_snapshot") if not row[2]}
    return [id_last for _, id_last, _ in sorted(found)]


def flow(source: Source, last: int = LAST) -> None:
    for start in range(2, last + 1, 100):
        source.give(*(step(number) for number in range(start, min(start + 100, last + 1))))
        source.thread.call(lambda: None)


@pytest.mark.parametrize("lane", ["shm", "call"])
def test_what_a_slow_disk_leaves_waits_on_disk_and_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    registry, recorder = recorder_of(monkeypatch, tmp_path, lane, memory_bytes_max=20_000)
    disk = Disk(recorder)
    source = Source(registry, "w", book(1), settings=LinkSettings(ring_items_max=1_000))
    until(lambda: recorder._upstreams.up(), "the link is up")
    flow(source)
    until(lambda: source.thread.call(source.publisher.is_drained), "the link is read although the disk stands still")
    waiting = recorder._intake.status()
    assert waiting["records_spilled"] > 0
    assert waiting["memory_bytes"] <= 20_000 + 200_000
    assert waiting["episodes"] == 1
    assert recorder.status()["problem"] == "the disk does not answer"
    disk.gate.set()
    assert recorder.stop() == ""
    assert ids_in_files(tmp_path) == list(range(2, LAST + 1))
    assert rows(tmp_path, "gaps/*.parquet", "id_prev", "id_last") == []
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".parquet", ".json"}
    source.die(registry)


@pytest.mark.parametrize(("lane", "policy"), [("shm", Policy.SPILL), ("call", Policy.SPILL), ("shm", Policy.SKIP)])
def test_beyond_its_bound_what_is_missing_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str, policy: Policy
) -> None:
    registry, recorder = recorder_of(
        monkeypatch,
        tmp_path,
        lane,
        policy=policy,
        memory_bytes_max=4_000,
        spill_bytes_max=8_000 if policy is Policy.SPILL else 0,
    )
    disk = Disk(recorder)
    settings = LinkSettings(ring_items_max=300, batch_bytes_max=2_000)
    source = Source(registry, "w", book(1, 2_000), settings=settings)
    until(lambda: recorder._upstreams.up(), "the link is up")
    last = OVER_THE_LANE if lane == "shm" else LAST
    flow(source, last)
    until(lambda: recorder._intake.is_full, "there is no room")
    disk.gate.set()
    until(lambda: not recorder._intake.is_full and recorder._intake.is_empty(), "there is room again")
    numbers = count(last + 1)

    def is_going_on() -> bool:
        """An update that comes just when a link begins with an image is in the image; the next one is not."""
        source.give(step(next(numbers)))
        assert recorder.flush() == ""
        return max(ids_in_files(tmp_path)) > last

    until(is_going_on, "the stream goes on")
    assert recorder.stop() == ""
    taken = set(ids_in_files(tmp_path))
    gaps = rows(tmp_path, "gaps/*.parquet", "id_prev", "id_last")
    missing = {number for number in range(2, max(taken)) if number not in taken}
    assert missing
    assert missing <= {number for start, end in gaps for number in range(start + 1, end + 1)}
    source.die(registry)


def test_with_the_policy_fail_the_link_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, recorder = recorder_of(
        monkeypatch, tmp_path, policy=Policy.FAIL, memory_bytes_max=4_000, spill_bytes_max=0
    )
    disk = Disk(recorder)
    source = Source(registry, "w", book(1), settings=LinkSettings(ring_items_max=300, batch_bytes_max=2_000))
    until(lambda: recorder._upstreams.up(), "the link is up")
    flow(source, OVER_THE_LANE)
    until(lambda: recorder._intake.is_full, "there is no room")
    disk.gate.set()
    problem = until(lambda: recorder.status()["problems"].get("w"), "the reason")
    assert "policy fail" in problem
    assert recorder.stop() == ""
    taken = ids_in_files(tmp_path)
    assert taken == list(range(2, len(taken) + 2))
    source.die(registry)


def test_a_killed_recorder_is_gone_on_from_where_its_log_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log gives back what stood in no file; from there the ring of the dedup leads on without an image."""
    killed = ParquetSink(tmp_path, SinkSettings(wal=Sync.NONE))
    assert killed.log is not None
    killed.write([book(1), *(step(number) for number in range(2, 301))], 0)
    killed.log.flush(0)
    os.close(killed.log._descriptor or 0)
    registry, recorder = recorder_of(monkeypatch, tmp_path, sink=SinkSettings(wal=Sync.NONE))
    assert ids_in_files(tmp_path) == list(range(2, 301))
    assert list(recorder._history.positions.values()) == [300]
    source = Source(registry, "w", book(1))
    until(lambda: recorder._upstreams.up(), "the link is up")
    flow(source, 500)
    until(lambda: source.thread.call(source.publisher.is_drained), "all is read")
    assert recorder.stop() == ""
    assert ids_in_files(tmp_path) == list(range(2, 501))
    assert not (tmp_path / "wal").exists()
    source.die(registry)
