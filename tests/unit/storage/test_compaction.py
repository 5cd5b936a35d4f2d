"""Compaction: fewer files, the same rows; killed anywhere it leaves sources or result, never both and never neither."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raytrade.errors import ConfigError, StorageError
from raytrade.storage.compaction import compact
from raytrade.storage.names import highest_number, replaced, segments_in
from raytrade.storage.queries import Database
from raytrade.storage.recording import Recording, open_recording
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from raytrade.storage.wal import Sync
from tests.unit.storage.recordings import BTC, DAY_NS, ETH, NOON_NS, delta, random_stream, restart, snapshot, trade
from tests.unit.storage.streams import message

AFTER = "9999-01-01"


def make(directory: Path, *, segment: int = 15) -> None:
    """Write two starts of a recorder: random books over midnight, trades, gaps."""
    for number in range(2):
        sink = _sink(directory, segment)
        start_ns = NOON_NS + DAY_NS // 2 - 6_000_000_000 + number * 60_000_000_000
        for name in (BTC, ETH):
            for event in random_stream(3 + number, 120, name=name, start_ns=start_ns):
                sink.write([message(event)], event.ts_recv_ns)
        sink.write([message(trade(at + 39 * number, start_ns + at)) for at in range(1, 40)], start_ns)
        sink.close()


def _sink(directory: Path, segment: int) -> ParquetSink:
    from raytrade.storage.durable import next_indexes

    return ParquetSink(directory, SinkSettings(segment_messages_max=segment), next_indexes(directory), certify=True)


def told(directory: Path) -> list[Any]:
    return [(at_ns, event) for at_ns, event in Recording(directory).timed_events()]


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("venue=*/**/*.parquet"))


def test_rows_certificates_and_answers_stay_the_same(tmp_path: Path) -> None:
    make(tmp_path)
    before, counted = told(tmp_path), Database(open_recording(tmp_path)).query("SELECT count(*) FROM book").to_pylist()
    assert verify_recording(tmp_path).lies == []
    assert len(files(tmp_path)) > 20
    done = compact(tmp_path)
    assert done.problems == []
    assert done.bytes_after < done.bytes_before / 2
    folders = {path.parent for path in files(tmp_path)}
    assert len(files(tmp_path)) == len({(path.parent, path.name[:8]) for path in files(tmp_path)})
    assert len(folders) == 6
    assert told(tmp_path) == before
    assert Database(open_recording(tmp_path)).query("SELECT count(*) FROM book").to_pylist() == counted
    found = verify_recording(tmp_path)
    assert found.lies == []
    assert sum(report.certified for report in found.streams) > 300
    again = compact(tmp_path)
    assert (again.results, again.sources) == (0, 0)


def test_a_day_is_left_alone_until_it_is_over(tmp_path: Path) -> None:
    make(tmp_path)
    days = sorted({path.parent.name for path in files(tmp_path)})
    compact(tmp_path, before=days[1].partition("=")[2])
    assert len(list(tmp_path.glob(f"venue=*/instrument=BTCUSDT/channel=book/{days[0]}/*"))) == 1
    assert len(list(tmp_path.glob(f"venue=*/instrument=BTCUSDT/channel=book/{days[1]}/*"))) > 4


class Killed(BaseException):
    """The end of the process."""


class Killer:
    """Ends the process at one of the steps that change the directory."""

    def __init__(self, patch: pytest.MonkeyPatch, step: int) -> None:
        self.left = step
        for target, name in ((Path, "rename"), (Path, "unlink"), (os, "fsync")):
            patch.setattr(target, name, self._wrapped(getattr(target, name)))

    def _wrapped(self, function: Any) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return function(*arguments, **named)

        return called


def test_killed_at_any_step_it_leaves_sources_or_results(tmp_path: Path) -> None:
    make(tmp_path, segment=50)
    before = told(tmp_path)
    for step in range(100):
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, step % 9)
            try:
                compact(tmp_path)
            except Killed:
                pass
        if step % 8 == 0:
            assert told(tmp_path) == before, step
        if killer.left >= 0:
            break
    assert killer.left >= 0
    assert told(tmp_path) == before
    assert compact(tmp_path).results == 0
    assert verify_recording(tmp_path).lies == []
    assert list(tmp_path.rglob("*.part")) == []


def test_a_full_disk_leaves_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, segment=50)
    before = files(tmp_path)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StorageError, match="No space left"):
        compact(tmp_path)
    assert files(tmp_path) == before
    assert list(tmp_path.rglob("*.part")) == []


def test_what_the_result_does_not_hold_keeps_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, segment=50)
    before = files(tmp_path)
    write = pq.ParquetWriter.write_table

    def shortened(writer: Any, table: pa.Table, **named: Any) -> None:
        write(writer, table.slice(1), **named)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", shortened)
    with pytest.raises(StorageError, match="does not hold what its sources hold"):
        compact(tmp_path)
    assert files(tmp_path) == before


def test_a_damaged_source_is_named_and_all_of_its_start_left(tmp_path: Path) -> None:
    make(tmp_path)
    damaged = files(tmp_path)[3]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 4
    damaged.write_bytes(data)
    done = compact(tmp_path)
    assert len(done.problems) == 1
    assert str(damaged) in done.problems[0]
    assert damaged.exists()
    assert done.results >= 5


def test_later_segments_of_a_start_are_taken_in_and_none_is_hidden(tmp_path: Path) -> None:
    sink = _sink(tmp_path, 10)
    events: list[Any] = [snapshot(1, NOON_NS), *(delta(at, at + 1, NOON_NS + at) for at in range(1, 45))]
    for event in events[:25]:
        sink.write([message(event)], event.ts_recv_ns)
    compact(tmp_path, AFTER)
    for event in events[25:]:
        sink.write([message(event)], event.ts_recv_ns)
    sink.close()
    assert [event for _, event in told(tmp_path)] == events
    compact(tmp_path, AFTER)
    assert len(files(tmp_path)) == 1
    assert [event for _, event in told(tmp_path)] == events
    assert highest_number(tmp_path, sink.start) == 5


def test_what_a_killed_recorder_left_comes_first(tmp_path: Path) -> None:
    killed = ParquetSink(tmp_path, SinkSettings(segment_messages_max=10, wal=Sync.NONE))
    events: list[Any] = [snapshot(1, NOON_NS), *(delta(at, at + 1, NOON_NS + at) for at in range(1, 25))]
    for event in events:
        killed.write([message(event)], NOON_NS)
    assert killed.log is not None
    killed.log.flush(NOON_NS)
    os.close(killed.log._descriptor or 0)
    assert compact(tmp_path).recovered == 5
    assert [event for _, event in told(tmp_path)] == events
    assert len(files(tmp_path)) == 1


def test_an_older_table_version_is_read_and_written_anew(tmp_path: Path) -> None:
    make(tmp_path, segment=10_000)
    before = told(tmp_path)
    for path in tmp_path.glob("venue=*/*/channel=book/*/*.parquet"):
        table = pq.ParquetFile(path).read().drop_columns(["checksum"])
        pq.write_table(table.replace_schema_metadata({"raytrade.table_version": "1"}), path)
    old = told(tmp_path)
    assert len(old) == len(before)
    assert compact(tmp_path).results == len(list(tmp_path.glob("venue=*/*/channel=book/*/*.parquet")))
    assert told(tmp_path) == before
    versions = {pq.read_schema(path).metadata[b"raytrade.table_version"] for path in files(tmp_path)}
    assert versions == {b"2"}
    assert compact(tmp_path).results == 0


def test_no_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        compact(tmp_path / "nowhere")


def test_names(tmp_path: Path) -> None:
    names = ["a-000001", "a-000002", "a-000001_000002", "a-000003", "b-000001", "other", "a-000001_000001"]
    paths = [tmp_path / f"{name}.parquet" for name in names]
    for path in paths:
        path.touch()
    assert {path.stem for path in replaced(paths)} == {"a-000001", "a-000002", "a-000001_000001"}
    assert [path.stem for path in segments_in(tmp_path)] == ["a-000001_000002", "a-000003", "b-000001", "other"]
    assert replaced([tmp_path / "x" / "a-000001_000002.parquet", paths[0]]) == set()


def test_overlapping_recordings_stay_deduplicated(tmp_path: Path) -> None:
    events: list[Any] = [snapshot(1, NOON_NS), *(delta(at, at + 1, NOON_NS + at) for at in range(1, 30))]
    restart(tmp_path, events, segment_messages_max=7)
    restart(tmp_path, events[10:], segment_messages_max=5)
    before = told(tmp_path)
    compact(tmp_path, AFTER)
    assert len(files(tmp_path)) == 2
    assert told(tmp_path) == before
