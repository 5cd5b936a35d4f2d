"""A recorder that starts again: where its files end, and what it waits for."""

from __future__ import annotations

from pathlib import Path

from raytrade.actors.history import History
from raytrade.arbitration import HELD_NS, Arbiter, ArbiterSettings
from raytrade.core.events import Flag
from raytrade.core.message import Kind, Message
from raytrade.rules import rule_of
from raytrade.storage.durable import next_indexes
from raytrade.storage.recording import open_recording
from raytrade.storage.sink import ParquetSink, SinkSettings
from tests.unit.storage.streams import NOON_NS, delta, gap, snapshot


def recorded(directory: Path, *messages: Message) -> None:
    sink = ParquetSink(directory, SinkSettings(), next_indexes(directory))
    sink.write(list(messages), NOON_NS)
    sink.close()


def going_on(directory: Path, arriving: list[Message]) -> list[Message]:
    """Give what a recorder writes that begins with the files in the directory."""
    history = History(directory)
    arbiter = Arbiter("r", rule_of, ArbiterSettings(held_ns=HELD_NS))
    for each in (*history.openings(), *history.doubts(NOON_NS)):
        arbiter.receive("d", each, NOON_NS)
    arbiter.output()
    for each in arriving:
        arbiter.receive("d", each, NOON_NS)
    return arbiter.output()


def test_files_that_end_whole_go_on_without_a_book(tmp_path: Path) -> None:
    recorded(tmp_path, snapshot(1), delta(2))
    out = going_on(tmp_path, [delta(3)])
    assert [(each.kind, each.id_last, each.flags) for each in out] == [(Kind.DELTA, 3, 0)]


def test_files_that_end_inside_a_gap_go_on_with_a_book(tmp_path: Path) -> None:
    recorded(tmp_path, snapshot(1), delta(2), gap(2, 0))
    out = going_on(tmp_path, [delta(3), snapshot(3).flagged(Flag.IMAGE), delta(4)])
    assert [(each.kind, each.id_last, each.flags) for each in out] == [
        (Kind.DELTA, 3, Flag.UNAPPLIED),
        (Kind.SNAPSHOT, 3, Flag.IMAGE),
        (Kind.RESYNCED, 3, 0),
        (Kind.DELTA, 4, 0),
    ]
    recorded(tmp_path, *out)
    kinds = [type(event).__name__ for event in open_recording(tmp_path).events()]
    assert kinds[:3] == ["BookSnapshot", "BookDelta", "Gap"] and kinds[-3:] == [
        "BookDelta",
        "BookSnapshot",
        "BookDelta",
    ]
    assert open_recording(tmp_path).coverage().column("missing").to_pylist() == [[]]
