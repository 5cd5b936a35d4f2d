"""Retention: whole days go, what is left still verifies, and it is known that this was meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raytrade.errors import ConfigError, StorageError
from raytrade.storage.compaction import compact
from raytrade.storage.recording import open_recording
from raytrade.storage.retention import FILE, days_of, prune, read_retention
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from tests.unit.storage.recordings import DAY_NS, NOON_NS, delta, gap, snapshot, trade
from tests.unit.storage.streams import message


def make(directory: Path) -> None:
    """Write four days, a message every six hours, a gap on the second day."""
    sink = ParquetSink(directory, SinkSettings(segment_messages_max=3), certify=True)
    sink.write([message(snapshot(1, NOON_NS, ts_venue_ns=NOON_NS))], NOON_NS)
    for at in range(1, 16):
        now_ns = NOON_NS + at * DAY_NS // 4
        if at == 5:
            sink.write([message(gap(at, at + 5, now_ns))], now_ns)
            sink.write([message(snapshot(at + 5, now_ns, ts_venue_ns=now_ns))], now_ns)
        base = at + 5 if at >= 5 else at
        sink.write([message(delta(base, base + 1, now_ns)), message(trade(at, now_ns))], now_ns)
        sink.flush_due(now_ns)
    sink.close()


def days(directory: Path) -> list[str]:
    return sorted({path.name.partition("=")[2] for path in directory.glob("venue=*/*/*/date=*")})


@pytest.mark.parametrize("is_compacted", [False, True])
def test_old_days_go_and_the_rest_verifies(tmp_path: Path, is_compacted: bool) -> None:
    make(tmp_path)
    assert verify_recording(tmp_path).lies == []
    if is_compacted:
        compact(tmp_path)
    every = days(tmp_path)
    now_ns = NOON_NS + 3 * DAY_NS + DAY_NS // 2
    would = prune(tmp_path, 2, now_ns, is_dry=True)
    assert (would.days, days(tmp_path)) == (2, every)
    done = prune(tmp_path, 2, now_ns)
    assert (done.days, done.before, done.files > 2, done.bytes > 0) == (2, every[2], True, True)
    assert days(tmp_path) == every[2:]
    assert verify_recording(tmp_path).lies == []
    assert open_recording(tmp_path).trades("binance-spot:BTCUSDT").num_rows == 10
    assert prune(tmp_path, 2, now_ns).days == 0
    assert prune(tmp_path, 30, now_ns).before == every[2], "what is gone does not come back"


def test_what_was_not_meant_is_a_lie_all_the_same(tmp_path: Path) -> None:
    make(tmp_path)
    prune(tmp_path, 2, NOON_NS + 3 * DAY_NS + DAY_NS // 2)
    for folder in tmp_path.glob(f"venue=*/*/*/date={days(tmp_path)[0]}"):
        shutil.rmtree(folder)
    assert any("the files hold nothing" in str(lie) for lie in verify_recording(tmp_path).lies)


def test_a_removal_that_is_broken_off_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)

    def busy(folder: Path) -> None:
        raise OSError(16, "Device or resource busy")

    now_ns = NOON_NS + 3 * DAY_NS + DAY_NS // 2
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", busy)
        with pytest.raises(StorageError, match="cannot be removed: Device or resource busy"):
            prune(tmp_path, 2, now_ns)
    assert verify_recording(tmp_path).lies == []
    assert prune(tmp_path, 2, now_ns).days == 2


def test_bad_input_is_named(tmp_path: Path) -> None:
    assert days_of("30d") == 30
    for text in ("", "0d", "30", "-1d", "d", "1w"):
        with pytest.raises(ConfigError, match="write 30d"):
            days_of(text)
    with pytest.raises(ConfigError, match="no such directory"):
        prune(tmp_path / "nowhere", 1, NOON_NS)
    (tmp_path / FILE).write_text('{"before": "yesterday"}')
    with pytest.raises(StorageError, match="does not say since when"):
        read_retention(tmp_path)
