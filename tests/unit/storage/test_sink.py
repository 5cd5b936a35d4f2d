"""The sink: whole segments or none, nothing lost, nothing twice."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import Channel
from raytrade.errors import StorageError
from raytrade.storage.sink import ParquetSink, SinkSettings
from tests.unit.storage.streams import BTC, DAY_NS, NOON_NS, delta, gap, leftovers, rows, segments, snapshot, trade

Fault = Callable[[pytest.MonkeyPatch], None]


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_after_some_bytes(table: Any, where: Path, **_: Any) -> None:
    Path(where).write_bytes(b"PAR1 half of it")
    full()


def fail_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq, "write_table", full_after_some_bytes)


def fail_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)


def fail_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", full)


def fail_mkdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", full)


def fail_directory_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment has its name already when the directory cannot be synced."""
    original = os.open

    def checked(path: Any, *arguments: Any, **others: Any) -> int:
        return full() if Path(path).is_dir() else original(path, *arguments, **others)

    monkeypatch.setattr(os, "open", checked)


FAULTS = [fail_write, fail_fsync, fail_rename, fail_mkdir, fail_directory_sync]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("channel", ["book", "trades", "gaps"])
def test_a_failed_write_leaves_nothing_and_loses_nothing(tmp_path: Path, fault: Fault, channel: str) -> None:
    sink = ParquetSink(tmp_path)
    taken = {"book": [delta(1), delta(2)], "trades": [trade(1), trade(2)], "gaps": [gap(1, 5), gap(8, 9)]}[channel]
    sink.write(taken, NOON_NS)
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        for _ in range(3):
            with pytest.raises(StorageError) as caught:
                sink.flush()
        assert "\n" not in str(caught.value)
        assert "No space left on device" in str(caught.value)
        assert str(tmp_path) in str(caught.value)
    assert (segments(tmp_path), leftovers(tmp_path)) == ([], [])
    sink.write([delta(3)] if channel == "book" else [], NOON_NS)
    sink.flush()
    assert len(rows(tmp_path, channel)) == len(taken) + (channel == "book")
    assert [row.get("index", 0) for row in rows(tmp_path, "book")] == ([0, 1, 2] if channel == "book" else [])
    assert leftovers(tmp_path) == []
    sink.flush()
    assert len(rows(tmp_path, channel)) == len(taken) + (channel == "book")


def test_counts_tell_what_waits(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.write([delta(1), delta(2), gap(3, 4)], NOON_NS)
    size = len(delta(1).raw)
    assert (sink.counts.messages_pending, sink.counts.bytes_pending) == (2, 2 * size)
    sink.flush()
    counts = sink.counts
    assert (counts.messages_pending, counts.bytes_pending) == (0, 0)
    assert (counts.messages, counts.rows, counts.gaps, counts.segments) == (2, 2, 1, 2)
    assert counts.bytes_written == sum(path.stat().st_size for path in segments(tmp_path))


def test_a_failed_segment_does_not_stop_what_is_taken(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, SinkSettings(segment_messages_max=2))
    with pytest.MonkeyPatch.context() as patch:
        fail_write(patch)
        for number in range(1, 6):
            if number < 2:
                sink.write([delta(number)], NOON_NS)
            else:
                with pytest.raises(StorageError):
                    sink.write([delta(number)], NOON_NS)
    assert sink.counts.messages_pending == 5
    sink.flush()
    assert [row["id_last"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5]


def test_what_cannot_be_removed_is_no_second_error(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.write([delta(1)], NOON_NS)
    with pytest.MonkeyPatch.context() as patch:
        fail_rename(patch)
        patch.setattr(Path, "unlink", full)
        with pytest.raises(StorageError):
            sink.flush()
    sink.flush()
    assert len(rows(tmp_path)) == 1


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(table: Any, where: Path, **_: Any) -> None:
        Path(where).write_bytes(b"PAR1 half of it")
        raise KeyboardInterrupt

    sink = ParquetSink(tmp_path)
    sink.write([delta(1)], NOON_NS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "write_table", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sink.flush()
    assert (segments(tmp_path), leftovers(tmp_path)) == ([], [])


@pytest.mark.parametrize("fault", [fail_mkdir])
def test_a_directory_that_cannot_be_made(tmp_path: Path, fault: Fault) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        with pytest.raises(StorageError, match="not writable: No space left on device"):
            ParquetSink(tmp_path / "new")


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="not writable"):
            ParquetSink(path)


def test_a_look_leaves_nothing(tmp_path: Path) -> None:
    ParquetSink(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_two_starts_never_share_a_name(tmp_path: Path) -> None:
    for _ in range(3):
        sink = ParquetSink(tmp_path)
        sink.write([delta(1)], NOON_NS)
        sink.flush()
    assert len(segments(tmp_path)) == 3


def test_a_name_that_exists_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "same")
    for number in range(3):
        sink = ParquetSink(tmp_path)
        sink.write([delta(number + 1)], NOON_NS)
        sink.flush()
    assert sorted(row["id_last"] for row in rows(tmp_path)) == [1, 2, 3]


def test_rotation_by_messages(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, SinkSettings(segment_messages_max=3))
    for number in range(1, 8):
        sink.write([delta(number)], NOON_NS)
    assert len(segments(tmp_path)) == 2
    sink.close()
    assert [row["index"] for row in rows(tmp_path)] == list(range(7))


def test_rotation_by_bytes(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, SinkSettings(segment_bytes_max=4 * len(delta(1).raw)))
    for number in range(1, 10):
        sink.write([delta(number)], NOON_NS)
    assert len(segments(tmp_path)) == 2
    assert sink.counts.messages_pending == 1


def test_rotation_by_age(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, SinkSettings(segment_age_s_max=60))
    sink.write([delta(1)], NOON_NS)
    sink.flush_due(NOON_NS + 59 * SECOND)
    assert segments(tmp_path) == []
    sink.flush_due(NOON_NS + 60 * SECOND)
    assert len(segments(tmp_path)) == 1
    sink.write([delta(2)], NOON_NS + 61 * SECOND)
    sink.flush_due(NOON_NS + 119 * SECOND)
    assert len(segments(tmp_path)) == 1


def test_scales_that_change_inside_a_segment(tmp_path: Path) -> None:
    wide = 10**25
    sink = ParquetSink(tmp_path)
    sink.write([delta(1), delta(2, (12345, 7), price_scale=4, size_scale=0)], NOON_NS)
    sink.write([delta(3, (wide, wide + 1), price_scale=9, size_scale=9), delta(4, ()), delta(5)], NOON_NS)
    sink.flush()
    assert len(segments(tmp_path)) == 1
    found = [(row["index"], row["price"], row["size"], row["price_scale"]) for row in rows(tmp_path)]
    assert found == [
        (0, Decimal("1"), Decimal("0.5"), 2),
        (1, Decimal("1.2345"), Decimal(7), 4),
        (2, Decimal(wide).scaleb(-9), Decimal(wide + 1).scaleb(-9), 9),
        (3, None, None, 2),
        (4, Decimal("1"), Decimal("0.5"), 2),
    ]


def test_days_are_cut_by_the_venues_time(tmp_path: Path) -> None:
    midnight = 19_001 * DAY_NS
    times = [midnight - 1, midnight, midnight - 1, midnight + 1]
    sink = ParquetSink(tmp_path)
    sink.write([delta(number + 1, ts_venue_ns=time) for number, time in enumerate(times)], NOON_NS)
    sink.flush()
    days = sorted(path.parent.name for path in segments(tmp_path))
    assert days == ["date=2022-01-08", "date=2022-01-09"]
    assert [(row["index"], row["id_last"]) for row in rows(tmp_path)] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_day_that_is_closed_first_does_not_take_the_index(tmp_path: Path) -> None:
    """The index is the order of the stream, whichever segment is written first."""
    midnight = 19_001 * DAY_NS
    sink = ParquetSink(tmp_path, SinkSettings(segment_messages_max=2))
    times = [midnight - 1, midnight, midnight, midnight]
    sink.write([delta(number + 1, ts_venue_ns=time) for number, time in enumerate(times)], NOON_NS)
    sink.close()
    assert [(row["index"], row["id_last"]) for row in rows(tmp_path)] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_without_a_venues_time_the_day_is_that_of_arrival(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.write([snapshot(1)], NOON_NS)
    sink.flush()
    assert [path.parent.name for path in segments(tmp_path)] == ["date=2022-01-08"]


def test_gaps(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.write([gap(10, 20)], NOON_NS)
    sink.flush()
    assert rows(tmp_path, "gaps") == [
        {
            "instrument": BTC,
            "channel": "book",
            "ts_recv_ns": NOON_NS,
            "kind": "venue",
            "epoch": 0,
            "id_prev": 10,
            "id_last": 20,
            "cause": "no line delivered it",
            "lines": "a b",
        }
    ]


@pytest.mark.parametrize("symbol", ["BTC/USD", "linear:BTCUSDT", "../x", "..", "%2F", "A=B", "a?b*c", "币安", "-"])
def test_names_with_path_characters_escape_and_read_back(tmp_path: Path, symbol: str) -> None:
    directory = tmp_path / "out"
    sink = ParquetSink(directory)
    sink.write([delta(1, instrument=f"kraken-v2:{symbol}")], NOON_NS)
    sink.flush()
    (path,) = segments(tmp_path)
    assert path.is_relative_to(directory)
    assert len(path.relative_to(directory).parts) == 5
    glob = f"{directory}/venue=*/instrument=*/channel=*/date=*/*.parquet"
    text = f"SELECT venue, instrument, channel FROM read_parquet('{glob}', hive_types_autocast=false)"
    assert duckdb.execute(text).fetchall() == [("kraken-v2", symbol, "book")]


def test_compression_is_as_set(tmp_path: Path) -> None:
    for compression, name in (("zstd", "ZSTD"), ("none", "UNCOMPRESSED"), ("lz4", "LZ4"), ("snappy", "SNAPPY")):
        sink = ParquetSink(tmp_path / compression, SinkSettings(compression=compression))
        sink.write([delta(1)], NOON_NS)
        sink.flush()
        (path,) = segments(tmp_path / compression)
        assert pq.read_metadata(path).row_group(0).column(0).compression == name


def test_the_count_goes_on_where_the_files_end(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, indexes={(BTC, Channel.BOOK): 41})
    sink.write([delta(1), delta(2)], NOON_NS)
    sink.flush()
    assert [row["index"] for row in rows(tmp_path)] == [41, 42]
