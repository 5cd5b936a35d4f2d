"""What a directory says of itself to a recorder that starts again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrade.core.events import Channel
from raytrade.storage.durable import last_ids, next_indexes
from raytrade.storage.sink import ParquetSink
from tests.unit.storage.streams import BTC, DAY_NS, NOON_NS, delta, gap, segments, trade


def test_an_empty_or_missing_directory(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        assert last_ids(directory) == {}
        assert next_indexes(directory) == {}


def test_the_last_id_of_each_stream(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    slash = "kraken-v2:BTC/USD"
    sink.write([delta(8), delta(9), trade(5), gap(1, 2), delta(3, instrument=slash)], NOON_NS)
    sink.flush()
    assert last_ids(tmp_path) == {f"{BTC}/book": 9, f"{BTC}/trades": 5, f"{slash}/book": 3}
    assert next_indexes(tmp_path) == {(BTC, Channel.BOOK): 2, (BTC, Channel.TRADES): 1, (slash, Channel.BOOK): 1}


def test_only_the_last_day_is_read(tmp_path: Path) -> None:
    for day, id_last in ((0, 50), (1, 7)):
        sink = ParquetSink(tmp_path)
        sink.write([delta(id_last, ts_venue_ns=NOON_NS + day * DAY_NS)], NOON_NS)
        sink.flush()
    assert last_ids(tmp_path) == {f"{BTC}/book": 7}


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"not parquet at all" * 10])
def test_damaged_segments_are_passed_over(tmp_path: Path, damage: bytes) -> None:
    for id_last in (7, 9):
        sink = ParquetSink(tmp_path)
        sink.write([delta(id_last)], NOON_NS)
        sink.flush()
    (segments(tmp_path)[0].parent / "zzz.parquet").write_bytes(damage)
    (segments(tmp_path)[0].parent / "zzz.part").write_bytes(damage)
    assert last_ids(tmp_path) == {f"{BTC}/book": 9}
