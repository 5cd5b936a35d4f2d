"""The log beside the open segments: what a killed sink had taken comes back, once, whatever the disk did."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag, Gap, GapKind, Resynced, Stalled
from raytrade.core.message import Message, decode
from raytrade.errors import StorageError
from raytrade.storage.durable import last_ids, next_indexes, open_gaps
from raytrade.storage.recording import open_recording
from raytrade.storage.recovery import recover
from raytrade.storage.segments import read_gaps, read_states
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from raytrade.storage.wal import FILE_NS, FLUSH_NS, Sync, log_paths, read_log
from tests.unit.storage.streams import BTC, DAY_NS, NOON_NS, delta, gap, message, rows, snapshot, trade

LOGGED = SinkSettings(wal=Sync.NONE)


def logged_sink(directory: Path, **settings: Any) -> ParquetSink:
    return ParquetSink(directory, SinkSettings(**{"wal": Sync.NONE} | settings), next_indexes(directory), certify=True)


def kill(sink: ParquetSink) -> None:
    """Leave the sink as the end of its process does: the lock is gone, nothing is written any more."""
    assert sink.log is not None
    if sink.log._descriptor is not None:
        os.close(sink.log._descriptor)


def stream(count: int) -> list[Message]:
    return [snapshot(1), *(delta(number, ts_venue_ns=NOON_NS + number) for number in range(2, count + 1))]


def take(sink: ParquetSink, messages: list[Message], now_ns: Nanos = NOON_NS) -> Nanos:
    """Write messages one by one, a tenth of a second apart, so that each is a batch of the log."""
    for one in messages:
        sink.write([one], now_ns)
        now_ns += FLUSH_NS
        sink.write([], now_ns)
    return now_ns


def ids(directory: Path) -> list[tuple[int, int]]:
    found = {(row["index"], row["id_last"]) for row in rows(directory)}
    assert len(found) == sum(row["is_last"] for row in rows(directory))
    return sorted(found)


@pytest.mark.parametrize("sync", list(Sync))
def test_a_killed_sink_loses_nothing_that_was_flushed(tmp_path: Path, sync: Sync) -> None:
    sink = logged_sink(tmp_path, wal=sync)
    sink.write([*stream(9), trade(1), trade(2)], NOON_NS)
    assert sink.due_ns() == NOON_NS + FLUSH_NS
    sink.write([], NOON_NS + FLUSH_NS)
    assert sink.due_ns() is None
    kill(sink)
    assert rows(tmp_path) == []
    done = recover(tmp_path)
    assert (done.starts, done.messages, done.torn, done.damaged) == ([sink.start], 11, [], [])
    assert ids(tmp_path) == [(at, at + 1) for at in range(9)]
    assert [row["trade_id"] for row in rows(tmp_path, "trades")] == ["t1", "t2"]
    assert all(path.stem.startswith(sink.start) for path in tmp_path.rglob("*.parquet"))
    assert last_ids(tmp_path) == {f"{BTC}/book": 9, f"{BTC}/trades": 2}
    assert not (tmp_path / "wal").exists()
    assert recover(tmp_path).starts == []
    assert verify_recording(tmp_path).lies == []


def test_a_book_whose_files_end_inside_a_gap_is_told_from_one_that_was_resynced(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    take(sink, [*stream(5), gap(5, 9)])
    sink.close()
    assert open_gaps(tmp_path) == {f"{BTC}/book"}
    sink = logged_sink(tmp_path)
    take(sink, [delta(8).flagged(Flag.UNAPPLIED), delta(9).flagged(Flag.UNAPPLIED)])
    sink.close()
    assert open_gaps(tmp_path) == {f"{BTC}/book"}
    sink = logged_sink(tmp_path)
    take(sink, [snapshot(9), delta(10)])
    sink.close()
    assert open_gaps(tmp_path) == set()


@pytest.mark.parametrize(("kind", "is_open"), [(GapKind.DOUBT, True), (GapKind.VENUE, False)])
def test_a_book_at_the_very_id_of_a_doubt_may_stand_before_it(tmp_path: Path, kind: GapKind, is_open: bool) -> None:
    sink = logged_sink(tmp_path)
    told = decode(gap(5, 5))
    assert isinstance(told, Gap)
    take(sink, [snapshot(5), message(msgspec.structs.replace(told, kind=kind, id_last=0))])
    sink.close()
    assert open_gaps(tmp_path) == ({f"{BTC}/book"} if is_open else set())


def test_after_a_reset_ids_begin_anew_and_any_book_ends_the_gap(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    told = decode(gap(501, 0))
    assert isinstance(told, Gap)
    take(sink, [snapshot(500), delta(501), message(msgspec.structs.replace(told, kind=GapKind.RESET))])
    take(sink, [snapshot(5), delta(6)])
    sink.close()
    assert open_gaps(tmp_path) == set()


def test_only_what_no_segment_holds_is_written_again(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path, segment_messages_max=10)
    late = delta(25, ts_venue_ns=NOON_NS + DAY_NS)
    take(sink, [*stream(24), late, delta(26)])
    kill(sink)
    assert len(rows(tmp_path)) == 22
    assert recover(tmp_path).messages == 6
    assert ids(tmp_path) == [(at, at + 1) for at in range(26)]
    dates = [row["id_last"] for row in rows(tmp_path) if row["ts_venue_ns"] >= NOON_NS + DAY_NS]
    assert dates == [25]
    assert open_recording(tmp_path).coverage().column("missing").to_pylist() == [[], []]


def test_a_recovery_that_is_broken_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = logged_sink(tmp_path)
    take(sink, [*stream(5), trade(1), gap(5, 9)])
    kill(sink)
    unlink = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "unlink", lambda path, **others: (_full if path.suffix == ".arrows" else unlink)(path, **others)
        )
        with pytest.raises(StorageError, match="cannot be removed"):
            recover(tmp_path)
    recover(tmp_path)
    assert ids(tmp_path) == [(at, at + 1) for at in range(5)]
    assert len(rows(tmp_path, "trades")) == 1
    assert open_recording(tmp_path).gaps().num_rows == 1
    assert sum(read_gaps(path).num_rows for path in (tmp_path / "gaps").glob("*")) == 1


def test_gaps_and_stalls_come_back_where_they_stood(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    stalled = Stalled(instrument=BTC, channel=Channel.BOOK, cause="all lines are silent", ts_recv_ns=NOON_NS)
    resynced = Resynced(instrument=BTC, channel=Channel.BOOK, id_last=3, ts_recv_ns=NOON_NS + 5)
    take(sink, [*stream(3), gap(3, 7), message(stalled), message(resynced), message(resynced)])
    kill(sink)
    done = recover(tmp_path)
    assert (done.messages, done.notes) == (3, 3)
    (path,) = (tmp_path / "states").glob("*.parquet")
    assert [(row["state"], row["index"]) for row in read_states(path).to_pylist()] == [("stalled", 3), ("resynced", 3)]
    assert open_recording(tmp_path).gaps().column("id_last").to_pylist() == [7]


def test_a_torn_log_keeps_every_whole_batch(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    sizes = [0]
    for number, one in enumerate(stream(12)):
        take(sink, [one], NOON_NS + number * SECOND)
        sizes.append(log_paths(tmp_path)[0].stat().st_size)
    kill(sink)
    (path,) = log_paths(tmp_path)
    data = path.read_bytes()
    whole = [size for size in sizes if size]
    for length in [*range(0, len(data), 97), *(size + by for size in whole for by in (-1, 0, 1))]:
        path.write_bytes(data[:length])
        content = read_log(path)
        expected = sum(size <= length for size in whole)
        assert [one.id_last for _, one in content.logged] == list(range(1, expected + 1)), length
        assert content.is_torn or not content.problem
    path.write_bytes(data[: sizes[8] + 100])
    done = recover(tmp_path)
    assert done.torn == [str(path)]
    assert ids(tmp_path) == [(at, at + 1) for at in range(8)]


def test_a_flipped_bit_is_noticed_and_the_log_kept_aside(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    take(sink, stream(40))
    kill(sink)
    (path,) = log_paths(tmp_path)
    data = path.read_bytes()
    rng = random.Random(5)
    truth = [(index, one.raw) for index, one in read_log(path).logged]
    for _ in range(150):
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        found = [(index, one.raw) for index, one in read_log(path).logged]
        assert found == truth[: len(found)]
    at = data.rindex(BTC.encode()) + 3
    path.write_bytes(data[:at] + b"x" + data[at + 1 :])
    done = recover(tmp_path)
    assert done.messages == 39
    assert "its check does not hold" in done.damaged[0]
    assert (tmp_path / "quarantine" / "wal" / path.name).exists()
    assert not (tmp_path / "wal").exists()


def test_a_log_of_another_version_is_named_and_kept(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    take(sink, stream(3))
    kill(sink)
    (path,) = log_paths(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"raytrade.wal_version", b"raytrade.wal_versioX"))
    assert "is a log of version none" in recover(tmp_path).damaged[0]


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_after_some_bytes(write: Callable[..., int], room: int) -> Callable[..., int]:
    def written(descriptor: int, data: memoryview, offset: int) -> int:
        if offset >= room:
            _full()
        return write(descriptor, data[: min(len(data), room - offset)], offset)

    return written


@pytest.mark.parametrize("room", [0, 100, 700, 1_500])
def test_a_full_disk_is_told_and_leaves_nothing_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    sink = logged_sink(tmp_path)
    messages = stream(30)
    alarms = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _full_after_some_bytes(os.pwrite, room))
        for number, one in enumerate(messages[:25]):
            try:
                sink.write([one], NOON_NS + number * SECOND)
            except StorageError as error:
                assert "No space left on device" in str(error)
                assert sink.due_ns() == NOON_NS + number * SECOND + FLUSH_NS, "it is not tried at once"
                alarms += 1
    assert alarms > 15
    assert [read_log(path).problem for path in log_paths(tmp_path)] == ["" for _ in log_paths(tmp_path)]
    sink.write(messages[25:], NOON_NS + 60 * SECOND)
    kill(sink)
    assert recover(tmp_path).messages == 30
    assert ids(tmp_path) == [(at, at + 1) for at in range(30)]


def test_what_stands_in_segments_does_not_pile_up_before_a_log_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = logged_sink(tmp_path, segment_messages_max=10)
    assert sink.log is not None
    monkeypatch.setattr(os, "pwrite", _full)
    for number, one in enumerate(stream(55)):
        try:
            sink.write([one], NOON_NS + number * SECOND)
        except StorageError as error:
            assert "No space" in str(error)
    assert len(sink.log._waiting) < 20
    assert len(ids(tmp_path)) == 50


def test_files_are_removed_when_all_of_them_stands_in_segments(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path, segment_age_s_max=60)
    now_ns = NOON_NS
    seen = []
    for one in stream(400):
        sink.write([one], now_ns)
        sink.flush_due(now_ns)
        now_ns += SECOND
        seen.append([int(path.stem.rpartition("-")[2]) for path in log_paths(tmp_path)])
    assert max(map(len, seen)) <= 1 + 60 * SECOND // FILE_NS + 1
    assert seen[-1][0] > 5
    assert all(earlier <= later for earlier, later in pairwise(numbers[-1] for numbers in seen if numbers))
    kill(sink)
    recover(tmp_path)
    assert ids(tmp_path) == [(at, at + 1) for at in range(400)]


def test_a_log_in_use_is_left_alone_and_a_closed_sink_leaves_none(tmp_path: Path) -> None:
    sink = logged_sink(tmp_path)
    take(sink, stream(5))
    assert recover(tmp_path).starts == []
    sink.close()
    assert not (tmp_path / "wal").exists()
    assert ids(tmp_path) == [(at, at + 1) for at in range(5)]
    assert verify_recording(tmp_path).streams[0].uncertified == 0
