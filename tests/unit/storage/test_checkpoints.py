"""Checkpoints: the book of any instant is the same with them as without, and they are never needed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import BookSnapshot, Channel, Stalled
from raytrade.storage import checkpoints, recording
from raytrade.storage.compaction import compact
from raytrade.storage.recording import open_recording
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from tests.unit.storage.recordings import BTC, NOON_NS, delta, gap, random_stream, same, snapshot
from tests.unit.storage.streams import message


def make(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "ROWS_BETWEEN", 1)
    monkeypatch.setattr(checkpoints, "LEVELS_SHARE", 0)
    monkeypatch.setattr(recording, "NEAR_MESSAGES", 3)
    for number in range(2):
        sink = ParquetSink(directory, SinkSettings(segment_messages_max=12), certify=True)
        for event in random_stream(11 + number, 250, start_ns=NOON_NS + number * 60 * SECOND):
            sink.write([message(event)], event.ts_recv_ns)
        sink.close()


@pytest.mark.parametrize("is_compacted", [False, True])
def test_books_are_the_same_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_compacted: bool
) -> None:
    make(tmp_path, monkeypatch)
    if is_compacted:
        compact(tmp_path)
    written = list((tmp_path / "checkpoints").rglob("*.parquet"))
    assert len(written) > 5
    rng = random.Random(3)
    instants = [NOON_NS + rng.randrange(-SECOND, 90 * SECOND) for _ in range(25)]
    used: list[Path] = []
    read = checkpoints.read_checkpoint

    def noted(path: Path, instrument: str) -> BookSnapshot:
        used.append(path)
        return read(path, instrument)

    monkeypatch.setattr(checkpoints, "read_checkpoint", noted)
    shortened = [open_recording(tmp_path).book_at(BTC, at) for at in instants]
    assert len(used) > 5
    assert verify_recording(tmp_path).lies == []
    shutil.rmtree(tmp_path / "checkpoints")
    for at, book in zip(instants, shortened, strict=True):
        assert same(book, open_recording(tmp_path).book_at(BTC, at)), at


def test_one_that_cannot_be_read_is_passed_over_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, monkeypatch)
    at = NOON_NS + 110 * SECOND
    truth = open_recording(tmp_path).book_at(BTC, at)
    for number, path in enumerate(sorted((tmp_path / "checkpoints").rglob("*.parquet"))):
        path.write_bytes(path.read_bytes()[: 100 * (number % 3)])
    opened = open_recording(tmp_path)
    assert same(opened.book_at(BTC, at), truth)
    assert opened.skipped
    assert "checkpoints" in opened.skipped[0].path


def test_there_is_none_of_a_book_that_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "ROWS_BETWEEN", 1)
    monkeypatch.setattr(checkpoints, "LEVELS_SHARE", 0)
    sink = ParquetSink(tmp_path, certify=True)
    stalled = Stalled(instrument=BTC, channel=Channel.BOOK, cause="all lines are silent", ts_recv_ns=NOON_NS)

    def count() -> int:
        sink.flush()
        return len(list((tmp_path / "checkpoints").rglob("*.parquet")))

    sink.write([message(delta(0, 1, NOON_NS))], NOON_NS)
    assert count() == 0
    sink.write([message(snapshot(1, NOON_NS)), message(delta(1, 2, NOON_NS))], NOON_NS)
    assert count() == 1
    sink.write([message(delta(2, 3, NOON_NS)), message(gap(3, 9, NOON_NS))], NOON_NS)
    assert count() == 1
    sink.write([message(snapshot(9, NOON_NS))], NOON_NS)
    assert count() == 2
    sink.write([message(delta(9, 10, NOON_NS)), message(stalled)], NOON_NS)
    assert count() == 2
