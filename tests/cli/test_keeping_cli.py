"""``raytrade compact``, ``prune`` and ``recover``: what is printed, and with which status it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.wal import Sync
from tests.cli.commands import Commands
from tests.unit.storage.recordings import NOON_NS, delta, snapshot
from tests.unit.storage.streams import message


def make(directory: Path, *, is_killed: bool = False) -> None:
    sink = ParquetSink(directory, SinkSettings(segment_messages_max=5, wal=Sync.NONE), certify=True)
    events: list[Any] = [snapshot(1, NOON_NS), *(delta(at, at + 1, NOON_NS + at) for at in range(1, 23))]
    for event in events:
        sink.write([message(event)], NOON_NS)
    if is_killed and sink.log is not None:
        sink.log.flush(NOON_NS)
        os.close(sink.log._descriptor or 0)
    else:
        sink.close()


def test_compact(run: Commands, tmp_path: Path) -> None:
    make(tmp_path)
    outcome = run("compact", tmp_path)
    assert (outcome.status, outcome.out.startswith("5 segments to 1, ")) == (0, True)
    assert run("verify", tmp_path).status == 0
    assert json.loads(run("compact", tmp_path, "--json").out)["sources"] == 0
    (segment,) = tmp_path.glob("venue=*/**/*.parquet")
    (segment.parent / "12345678-000077.parquet").write_bytes(b"PAR1")
    (segment.parent / "12345678-000078.parquet").write_bytes(b"PAR1")
    outcome = run("compact", tmp_path)
    assert (outcome.status, "12345678-000077.parquet" in outcome.error) == (1, True)
    assert run("compact", tmp_path, "--before", "soon").status == 2
    assert run("compact", tmp_path / "nowhere").status == 2


def test_recover(run: Commands, tmp_path: Path) -> None:
    make(tmp_path, is_killed=True)
    assert run("recover", tmp_path).out == "3 messages and 0 notes of 1 starts in 1 segments\n"
    assert json.loads(run("recover", tmp_path, "--json").out)["messages"] == 0
    assert run("recover", tmp_path / "nowhere").status == 2


def test_prune(run: Commands, tmp_path: Path) -> None:
    make(tmp_path)
    assert run("prune", tmp_path, "--keep", "soon").status == 2
    assert run("prune", tmp_path, "--keep", "30d", "--dry-run").out.startswith("would be removed: 1 days before ")
    found = json.loads(run("prune", tmp_path, "--keep", "30d", "--json").out)
    assert (found["days"], found["files"]) == (1, 5)
    assert list(tmp_path.glob("venue=*/**/*.parquet")) == []
