"""Evidence from files: what a witness wrote, what a recorder wrote, and what is wrong with either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raytrade.chaos.evidence import closed, judge_life, missing_rows, read_lives, read_recording
from raytrade.chaos.witness import Witness, lives
from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Gap, GapKind, Side, Stalled, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import encode, parse
from raytrade.rules import rule_of
from raytrade.storage.sink import ParquetSink
from raytrade.strategy.engine import StrategyEngine

NAME = "binance-spot:BTCUSDT"
LEVELS = (100, 1)
NOW_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def snapshot(id_last: int) -> Event:
    return BookSnapshot(
        instrument=NAME, id_last=id_last, bids=LEVELS, asks=(101, 1), price_scale=0, size_scale=0, ts_recv_ns=NOW_NS
    )


def delta(id_last: int) -> Event:
    return BookDelta(
        instrument=NAME,
        id_prev=id_last - 1,
        id_last=id_last,
        bids=(99, id_last),
        asks=(),
        price_scale=0,
        size_scale=0,
        ts_recv_ns=NOW_NS,
    )


def trade(number: int) -> Event:
    return Trade(
        instrument=NAME,
        trade_id=str(number),
        price=1,
        size=1,
        price_scale=0,
        size_scale=0,
        aggressor=Side.BUY,
        sequence=number,
        ts_recv_ns=NOW_NS,
    )


def witness(directory: Path, events: list[Event], start_ns: int = NOW_NS) -> None:
    """Have a witness live through the events, one a millisecond."""
    engine = StrategyEngine("w", Witness(str(directory)), Filter("*"), rule_of)
    now_ns = start_ns
    for event in events:
        now_ns += MS
        engine.receive("a", parse(encode(event, "a")), now_ns)
    engine.stop(now_ns)


def record(directory: Path, events: list[Event]) -> None:
    sink = ParquetSink(directory)
    sink.write([parse(encode(event, "a")) for event in events], NOW_NS)
    sink.flush()


def numbers(*parts: range) -> Iterator[int]:
    for part in parts:
        yield from part


SENT = {NAME: list(range(11, 21))}
TRADES = {NAME: [1, 2, 3]}


def test_a_witness_that_saw_everything(tmp_path: Path) -> None:
    witness(tmp_path, [snapshot(10), *map(delta, range(11, 21)), *map(trade, (1, 2, 3))])
    (life,) = read_lives(tmp_path, "w")
    found = judge_life(life, SENT, TRADES, is_last=True)
    assert (found.missed, found.repeated, found.late) == (0, 0, 0)
    assert life.times[-1] - life.times[0] == 13 * MS
    assert life.covers(NOW_NS + 2 * MS, NOW_NS + 12 * MS)
    assert not life.covers(NOW_NS + 2 * MS, NOW_NS + 20 * MS)


def test_each_life_has_a_file(tmp_path: Path) -> None:
    witness(tmp_path, [snapshot(10), *map(delta, range(11, 15))])
    witness(tmp_path, [snapshot(16), *map(delta, range(17, 21))], start_ns=NOW_NS + 50 * MS)
    first, final = read_lives(tmp_path, "w")
    assert judge_life(first, SENT, {}, is_last=False).missed == 0
    assert judge_life(final, SENT, {}, is_last=True).missed == 0
    assert judge_life(first, SENT, {}, is_last=True).missed == 6


def test_a_gap_and_a_stall_are_kept(tmp_path: Path) -> None:
    book = L2Book(NAME)
    strategy = Witness(str(tmp_path))
    engine = StrategyEngine("w", strategy, Filter("*"), rule_of)
    engine.start(NOW_NS)
    context = engine._context
    strategy.on_book(context, book)
    strategy.on_gap(
        context,
        Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=3, id_last=7, cause="", ts_recv_ns=1),
    )
    strategy.on_stalled(context, Stalled(instrument=NAME, channel=Channel.BOOK, cause="", ts_recv_ns=1))
    strategy.on_timer(context, NOW_NS)
    (life,) = read_lives(tmp_path, "w")
    assert list(life.gaps.values()) == [[(3, 7)]]
    assert life.stalls == 1


def test_half_an_entry_at_the_end_is_left_out(tmp_path: Path) -> None:
    witness(tmp_path, [snapshot(10), *map(delta, range(11, 21))])
    (path,) = lives(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    (life,) = read_lives(tmp_path, "w")
    assert judge_life(life, SENT, {}, is_last=True).examples == [20]


def test_a_recording_that_has_everything(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10), *map(delta, range(11, 21)), *map(trade, (1, 2, 3))])
    found = read_recording(tmp_path, [NAME])
    assert (found.files, found.unreadable, found.repeated, found.gap_rows) == (2, [], 0, 0)
    assert missing_rows(SENT, TRADES, [found]).count == 0


def test_what_one_recorder_lacks_the_other_may_have(tmp_path: Path) -> None:
    record(tmp_path / "a", [snapshot(10), *map(delta, numbers(range(11, 14), range(16, 21))), *map(trade, (1, 3))])
    record(tmp_path / "b", [snapshot(10), *map(delta, range(11, 18)), *map(trade, (2,))])
    a, b = read_recording(tmp_path / "a", [NAME]), read_recording(tmp_path / "b", [NAME])
    assert missing_rows(SENT, TRADES, [a]).updates == {NAME: [14, 15]}
    assert missing_rows(SENT, TRADES, [a]).trades == 1
    assert missing_rows(SENT, TRADES, [b]).count == missing_rows(SENT, TRADES, [b]).untold == 5
    assert missing_rows(SENT, TRADES, [a, b]).count == 0


def test_a_gap_admits_what_is_missing(tmp_path: Path) -> None:
    gap = Gap(
        instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=13, id_last=15, cause="", ts_recv_ns=NOW_NS
    )
    record(tmp_path, [snapshot(10), *map(delta, range(11, 14)), gap, snapshot(16), *map(delta, range(17, 21))])
    found = read_recording(tmp_path, [NAME])
    assert found.causes == [f"{NAME}/book venue: "]
    assert missing_rows(SENT, {}, [found]).updates == {NAME: [14, 15, 16]}
    assert missing_rows(SENT, {}, [found]).untold == 1


def test_a_gap_whose_end_nobody_knows_ends_with_the_next_that_came() -> None:
    assert closed([(3, 0), (9, 12), (20, 0)], [2, 3, 8, 20]) == [(3, 8), (9, 12), (20, 20)]
    assert closed([(3, 7)], []) == [(3, 7)]


def test_what_is_recorded_twice_is_counted(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10), *map(delta, range(11, 21)), delta(20), *map(trade, (1, 2, 2, 3))])
    assert read_recording(tmp_path, [NAME]).repeated == 2


@pytest.mark.parametrize("damage", [b"PAR1", b""])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: bytes) -> None:
    record(tmp_path, [snapshot(10), *map(delta, range(11, 21))])
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(damage)
    found = read_recording(tmp_path, [NAME])
    assert len(found.unreadable) == 1
    assert path.name in found.unreadable[0]
    assert missing_rows(SENT, {}, [found]).count == 10
