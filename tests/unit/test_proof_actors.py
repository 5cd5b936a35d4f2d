"""A dedup keeps the log of its copies, a recorder writes log, rows and certificates: their own code, without Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from raytrade.actors.dedup import Dedup, DedupPlan
from raytrade.actors.recorder import Recorder, RecorderPlan
from raytrade.core.arrivals import decode_block
from raytrade.core.events import Event
from raytrade.core.message import Message, encode, parse
from raytrade.storage.league import league_of
from raytrade.storage.times import interval_ns
from raytrade.storage.verification import verify_recording
from tests.unit.storage.recordings import BTC, NOON_NS, delta, snapshot


@pytest.fixture
def dedup(monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """Give a dedup that is handed its copies by the test."""
    context = SimpleNamespace(current_actor=None, get_node_id=lambda: "node")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    made = Dedup(DedupPlan(name="d", collectors=[], same_node="call", arrivals=True))
    hand_over(made)
    found = SimpleNamespace(arrivals=SimpleNamespace(remote=made.arrivals))

    def find(name: str, namespace: str) -> Any:
        if name != "d":
            raise ValueError(name)
        return found

    monkeypatch.setattr(ray, "get_actor", find)
    monkeypatch.setattr(ray, "get", lambda blocks, timeout: blocks)
    return made


def hand_over(actor: Any) -> None:
    """Let what comes over a link be messages as they are."""
    actor._upstreams.receive = lambda name, messages, now_ns: messages


def copies(count: int) -> list[Message]:
    """Give the copies of two lines."""
    events: list[Event] = [snapshot(100, NOON_NS), *(delta(99 + n, 100 + n, NOON_NS + n) for n in range(1, count + 1))]
    return [parse(encode(event, line)) for event in events for line in ("a", "b")]


def test_a_dedup_keeps_every_copy_and_marks_the_winners(dedup: Dedup) -> None:
    for message in copies(5):
        dedup._thread.call(dedup._take, "c", [message])
    blocks = [decode_block(data) for data in dedup.arrivals(0, 0)]
    assert sum(count for block in blocks for count, _ in block.batches) == 12
    assert {line for block in blocks for line in block.lines} == {"a", "b"}
    last = blocks[-1]
    assert dedup.arrivals(last.incarnation, last.number + 1) == []
    dedup._thread.stop()


def test_a_recorder_writes_the_proofs_when_it_stops(dedup: Dedup, tmp_path: Path) -> None:
    for message in copies(50):
        dedup._thread.call(dedup._take, "c", [message])
    recorder = Recorder(RecorderPlan(name="r", dedups=["d"], directory=str(tmp_path), same_node="call", arrivals=True))
    recorder._thread.call(recorder._upstreams.set_writers, [])
    hand_over(recorder)
    for message in copies(50):
        if message.line == "a":
            recorder._thread.call(recorder._take, "d", [message])
    assert recorder.stop() == ""
    dedup._thread.stop()
    found = verify_recording(tmp_path)
    assert found.lies == []
    assert [(stream.messages, stream.certified) for stream in found.streams] == [(51, 51)]
    assert found.streams[0].copies == 102
    standings = league_of(tmp_path, interval_ns(None, None), ["*"]).standings
    assert standings["a", BTC, "book"].wins == 50
    assert recorder.plan.arrivals
