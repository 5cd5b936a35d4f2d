"""Reading recordings: everything once, in order, exact, and never a book that claims more than the files hold."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raytrade
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, GapKind, Side, Trade
from raytrade.core.message import Kind, decode
from raytrade.errors import ConfigError, StorageError
from raytrade.replay import apply
from raytrade.storage.decoding import HEADERS, integers_of, words_of
from raytrade.storage.recording import Recording
from raytrade.storage.schema import BOOK, DECIMAL
from raytrade.storage.times import instant_ns, instant_text
from tests.unit.storage.recordings import (
    BTC,
    DAY_NS,
    ETH,
    KRAKEN,
    NOON_NS,
    STEP_NS,
    delta,
    gap,
    random_stream,
    record,
    replayed,
    restart,
    same,
    snapshot,
    trade,
)


def read(directory: Path, **others: Any) -> list[Event]:
    return list(raytrade.open(directory).events(**others))


def chain(count: int = 30) -> list[BookDelta | BookSnapshot]:
    """Give a whole book at id 10 and `count` deltas after it, a nanosecond apart."""
    return [snapshot(10, NOON_NS), *(delta(n, n + 1, NOON_NS + n) for n in range(10, 10 + count))]


def segments(directory: Path, channel: str = "book") -> list[Path]:
    return sorted(directory.glob(f"venue=*/instrument=*/channel={channel}/date=*/*.parquet"))


def gaps_in(directory: Path) -> list[Gap]:
    return [event for event in read(directory) if isinstance(event, Gap)]


# What was written comes back.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [7, 100_000])
def test_events_come_back_as_they_were_written(tmp_path: Path, seed: int, size: int) -> None:
    events = random_stream(seed, 400, start_ns=19_001 * DAY_NS - 20 * SECOND)  # over midnight
    record(tmp_path, events, segment_messages_max=size)
    assert read(tmp_path) == events
    assert len({path.parent.name for path in segments(tmp_path)}) == 2


def test_a_checksum_comes_back_and_one_that_is_not_recorded_is_not_claimed(tmp_path: Path) -> None:
    record(tmp_path, [delta(1, 2, NOON_NS, flags=Flag.CHECKED | Flag.SPLICE, state_hash=77)])
    (event,) = read(tmp_path)
    assert isinstance(event, BookDelta)
    assert (event.flags, event.state_hash) == (Flag.CHECKED | Flag.SPLICE, 77)
    (segment,) = tmp_path.glob("venue=*/**/*.parquet")
    pq.write_table(pq.ParquetFile(segment).read().drop_columns(["checksum"]), segment)
    (event,) = read(tmp_path)
    assert isinstance(event, BookDelta)
    assert (event.flags, event.state_hash) == (Flag.SPLICE, 0)


def test_trades_come_back(tmp_path: Path) -> None:
    trades = [trade(5, NOON_NS), trade(6, NOON_NS + 1, aggressor=Side.NONE), trade(7, NOON_NS + 2, price=10**20)]
    trades.append(trade(0, NOON_NS + 3, flags=Flag.HISTORY, aggressor=Side.SELL))
    record(tmp_path, trades)
    assert read(tmp_path) == trades


def test_a_message_may_go_over_row_groups_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_stream(3, 200)
    record(tmp_path, events)
    for path in segments(tmp_path):
        pq.write_table(pq.ParquetFile(path).read(), path, row_group_size=5)
    monkeypatch.setattr("raytrade.storage.source.ROWS_AT_ONCE", 3)
    assert read(tmp_path) == events
    recording = raytrade.open(tmp_path)
    for at_ns in range(NOON_NS, recording.end_ns(), 31 * STEP_NS):
        assert same(recording.book_at(BTC, at_ns), replayed(recording, at_ns))


def test_the_header_is_that_of_messages() -> None:
    from raytrade.core.message import HEADER

    assert HEADERS.itemsize == HEADER.size


def test_integers_are_exact_in_every_scale() -> None:
    import numpy as np

    rng = random.Random(1)
    values = [rng.randrange(2 ** rng.randrange(1, 63)) for _ in range(2000)] + [2**63 - 1, 0, 1, 10**18]
    scales = [rng.randrange(19) for _ in values]
    fits = [(v, s) for v, s in zip(values, scales, strict=True) if v * 10 ** (18 - s) < 10**38]
    column = pa.array([Decimal(f"{v}E-{s}") for v, s in fits], DECIMAL)
    found = integers_of(words_of(column), np.array([s for _, s in fits], np.int8))
    assert found.tolist() == [v for v, _ in fits]
    with pytest.raises(ValueError, match="does not fit"):
        integers_of(words_of(pa.array([Decimal("1.23")], DECIMAL)), np.array([1], np.int8))


def test_streams_are_merged_by_time_then_name(tmp_path: Path) -> None:
    first, second = random_stream(1, 200), random_stream(2, 200, name=ETH)
    record(tmp_path, [*first, *second, trade(1, first[10].ts_recv_ns)])
    timed = list(raytrade.open(tmp_path).messages())
    assert len(timed) == len(first) + len(second) + 1
    keys = [(now_ns, message.instrument, message.channel) for now_ns, message in timed]
    assert keys == sorted(keys)
    for name, events in ((BTC, first), (ETH, second)):
        assert [decode(m) for _, m in timed if m.instrument == name and m.kind is not Kind.TRADE] == events
    assert read(tmp_path, channels=["trades"]) == [trade(1, first[10].ts_recv_ns)]
    assert read(tmp_path, instruments="*:ETH*") == second


# Books at instants.


@pytest.mark.parametrize("seed", range(4))
def test_book_at_any_instant_is_the_book_of_the_events_before(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    record(tmp_path, random_stream(seed, 600), segment_messages_max=50)
    recording = raytrade.open(tmp_path)
    states = set()
    for _ in range(40):
        at_ns = NOON_NS + rng.randrange(600 * STEP_NS)
        book = recording.book_at(BTC, at_ns)
        if at_ns <= recording.end_ns():
            assert same(book, replayed(recording, at_ns)), at_ns
        states.add(book.state)
    assert states >= {BookState.LIVE, BookState.STALE}


def test_a_delta_that_was_held_is_applied_after_its_snapshot(tmp_path: Path) -> None:
    late = NOON_NS + 5 * SECOND
    held = [delta(10, 11, NOON_NS + SECOND), delta(11, 12, NOON_NS + 2 * SECOND)]
    record(tmp_path, [snapshot(10, late), *held, delta(12, 13, late + SECOND)])
    recording = raytrade.open(tmp_path)
    assert [now_ns for now_ns, _ in recording.messages()] == [late, late, late, late + SECOND]
    assert recording.book_at(BTC, NOON_NS + 3 * SECOND).state is BookState.SYNCING
    assert recording.book_at(BTC, late).id_last == 12
    assert recording.book_at(BTC, late).size_at(Side.BUY, 10_000) == 12


def test_inside_a_gap_a_book_is_stale_and_moves_no_further(tmp_path: Path) -> None:
    at = [NOON_NS + second * SECOND for second in range(8)]
    events = [
        snapshot(10, at[0]),
        delta(10, 11, at[1]),
        gap(11, 20, at[2]),
        delta(20, 21, at[3], flags=Flag.UNAPPLIED),
        snapshot(30, at[4]),
        delta(30, 31, at[5]),
    ]
    record(tmp_path, events)
    recording = raytrade.open(tmp_path)
    found = [(recording.book_at(BTC, t).state, recording.book_at(BTC, t).id_last) for t in (*at[:6], at[2] - 1)]
    live, stale = BookState.LIVE, BookState.STALE
    assert found == [(live, 10), (live, 11), (stale, 11), (stale, 11), (live, 30), (live, 31), (live, 11)]
    assert recording.book_at(BTC, at[2]).top() is None
    assert read(tmp_path) == events


def test_a_gap_stands_behind_the_message_it_names_whatever_its_clock_says(tmp_path: Path) -> None:
    """The gap's time is the arbiter's, those of messages are the collectors'."""
    events = [snapshot(10, NOON_NS), delta(10, 11, NOON_NS + 5), gap(11, 20, NOON_NS + 1), snapshot(30, NOON_NS + 9)]
    record(tmp_path, events)
    assert read(tmp_path) == events


def test_after_the_end_of_the_recording_nothing_is_claimed(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS), trade(1, NOON_NS + SECOND)])
    recording = raytrade.open(tmp_path)
    assert recording.end_ns() == NOON_NS + SECOND
    assert recording.book_at(BTC, NOON_NS + SECOND).state is BookState.LIVE
    assert recording.book_at(BTC, NOON_NS + SECOND + 1).state is BookState.STALE
    assert recording.book_at(BTC, NOON_NS - 1).state is BookState.SYNCING


# Several starts in one directory.


def test_a_recorder_that_goes_on_leaves_no_seam(tmp_path: Path) -> None:
    events = chain()
    record(tmp_path, events[:11])
    restart(tmp_path, events[11:20])
    restart(tmp_path, events[20:])
    assert read(tmp_path) == events
    assert raytrade.open(tmp_path).book_at(BTC, NOON_NS + 39).state is BookState.LIVE


@pytest.mark.parametrize("indexes", ["go on", "from zero"])
@pytest.mark.parametrize("overlap", [0, 1, 9, 20])
def test_what_two_starts_recorded_is_given_once(tmp_path: Path, overlap: int, indexes: str) -> None:
    events = chain()
    record(tmp_path, events[:20])
    again = events[20 - overlap :]
    (restart if indexes == "go on" else record)(tmp_path, again)
    assert read(tmp_path) == events
    recording = raytrade.open(tmp_path)
    assert recording.book(BTC).column("id_last").unique().to_pylist() == [event.id_last for event in events]


def test_the_same_import_twice_is_one(tmp_path: Path) -> None:
    events = [*random_stream(5, 300), *(trade(n, NOON_NS + n * STEP_NS) for n in range(1, 50))]
    record(tmp_path / "once", events)
    for _ in range(3):
        record(tmp_path / "often", events)
    once, often = raytrade.open(tmp_path / "once"), raytrade.open(tmp_path / "often")
    assert list(often.events()) == list(once.events())
    for table in ("book", "trades"):
        assert getattr(often, table)(BTC).equals(getattr(once, table)(BTC))
    assert often.gaps().equals(once.gaps())
    assert often.coverage().equals(once.coverage())


def test_unnumbered_trades_of_two_starts_are_known_by_their_ids(tmp_path: Path) -> None:
    trades = [trade(0, NOON_NS + n, price=n + 1) for n in range(10)]
    named = [
        Trade(**{f: getattr(t, f) for f in t.__struct_fields__} | {"trade_id": f"x{n}"}) for n, t in enumerate(trades)
    ]
    record(tmp_path, named[:6])
    record(tmp_path, named[2:])
    assert read(tmp_path) == named


def test_recordings_are_put_in_the_order_of_their_times(tmp_path: Path) -> None:
    """Imported in the wrong order, in one start or in two."""
    early, late = random_stream(1, 50), random_stream(2, 50, start_ns=NOON_NS + 400 * DAY_NS)
    record(tmp_path / "two", late)
    record(tmp_path / "two", early)
    record(tmp_path / "one", [*late, *early])
    for directory in (tmp_path / "one", tmp_path / "two"):
        found = [event for event in read(directory) if not (isinstance(event, Gap) and event.kind is GapKind.RESET)]
        assert found == [*early, *late]
        between = raytrade.open(directory).book_at(BTC, NOON_NS + 200 * DAY_NS)
        assert between.state is not BookState.LIVE


def test_between_two_recordings_a_book_is_stale(tmp_path: Path) -> None:
    later = NOON_NS + 60 * SECOND
    record(tmp_path, [snapshot(10, NOON_NS), delta(10, 11, NOON_NS + SECOND)])
    record(tmp_path, [snapshot(50, later), delta(50, 51, later + SECOND)])
    recording = raytrade.open(tmp_path)
    found = [recording.book_at(BTC, t).state for t in (NOON_NS + SECOND, NOON_NS + 2 * SECOND, later)]
    assert found == [BookState.LIVE, BookState.STALE, BookState.LIVE]
    (between,) = gaps_in(tmp_path)
    assert (between.kind, between.id_prev, between.id_last) == (GapKind.RESET, 11, 50)


def test_a_hole_between_two_starts_is_a_gap(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS), delta(10, 11, NOON_NS + 1)])
    restart(tmp_path, [delta(15, 16, NOON_NS + SECOND), delta(16, 17, NOON_NS + 2 * SECOND)])
    (hole,) = gaps_in(tmp_path)
    assert (hole.id_prev, hole.id_last) == (11, 15)
    assert raytrade.open(tmp_path).book_at(BTC, NOON_NS + 2 * SECOND).state is BookState.STALE


def test_counted_ids_go_over_at_a_whole_book(tmp_path: Path) -> None:
    """Nothing tells which messages of another connection are copies: only a snapshot can follow."""

    def step(n: int, epoch: int, base: int) -> BookDelta:
        return delta(n - base, n - base + 1, NOON_NS + n * SECOND, name=KRAKEN, epoch=epoch)

    first = [snapshot(1, NOON_NS, name=KRAKEN, epoch=7), *(step(n, 7, 0) for n in range(1, 20))]
    second = [snapshot(1, NOON_NS + 10 * SECOND, name=KRAKEN, epoch=9), *(step(n, 9, 10) for n in range(11, 30))]
    record(tmp_path, first)
    record(tmp_path, second)
    found = read(tmp_path)
    assert [event for event in found if not isinstance(event, Gap)] == [*first[:10], *second]
    recording = raytrade.open(tmp_path)
    assert all(recording.book_at(KRAKEN, NOON_NS + n * SECOND).state is BookState.LIVE for n in range(30))
    assert same(recording.book_at(KRAKEN, NOON_NS + 29 * SECOND), replayed(recording, NOON_NS + 29 * SECOND, KRAKEN))


def test_the_gap_of_a_recorder_that_starts_again_opens_its_part(tmp_path: Path) -> None:
    """Its time is that of the start, which is later than the book in the image that follows."""
    first = [snapshot(1, NOON_NS, name=KRAKEN, epoch=7), delta(1, 2, NOON_NS + SECOND, name=KRAKEN, epoch=7)]
    image = snapshot(5, NOON_NS + 3 * SECOND, name=KRAKEN, epoch=7, flags=Flag.IMAGE)
    new = Gap(
        instrument=KRAKEN,
        channel=Channel.BOOK,
        kind=GapKind.RESET,
        id_prev=2,
        id_last=0,
        cause="the recorder was started anew",
        ts_recv_ns=NOON_NS + 9 * SECOND,
    )
    record(tmp_path, first)
    restart(tmp_path, [new, image, delta(5, 6, NOON_NS + 10 * SECOND, name=KRAKEN, epoch=7)])
    recording = raytrade.open(tmp_path)
    assert [type(event).__name__ for event in recording.events()] == [
        "BookSnapshot",
        "BookDelta",
        "Gap",
        "BookSnapshot",
        "BookDelta",
    ]
    assert recording.book_at(KRAKEN, NOON_NS + 10 * SECOND).state is BookState.LIVE


# What is not there.


def test_a_lost_segment_is_a_gap(tmp_path: Path) -> None:
    events = chain()
    record(tmp_path, events, segment_messages_max=5)
    segments(tmp_path)[2].unlink()
    recording = raytrade.open(tmp_path)
    found = list(recording.events())
    (hole,) = [event for event in found if isinstance(event, Gap)]
    assert (hole.id_prev, hole.id_last, hole.cause) == (19, 24, "messages 10 to 14 are not in the files")
    assert [event for event in found if not isinstance(event, Gap)] == events[:10] + events[15:]
    states = [recording.book_at(BTC, NOON_NS + n).state for n in (18, 39)]
    assert states == [BookState.LIVE, BookState.STALE]
    assert recording.coverage().to_pylist()[0]["missing"] == [{"first": 10, "last": 14}]


def test_a_lost_first_segment_makes_no_book(tmp_path: Path) -> None:
    events = chain()
    record(tmp_path, events, segment_messages_max=5)
    segments(tmp_path)[0].unlink()
    recording = raytrade.open(tmp_path)
    assert recording.book_at(BTC, NOON_NS + 39).state is BookState.SYNCING
    assert recording.coverage().to_pylist()[0]["missing"] == [{"first": 0, "last": 4}]


def test_coverage(tmp_path: Path) -> None:
    midnight = 19_001 * DAY_NS
    events = [
        snapshot(10, midnight - 3, ts_venue_ns=midnight - 3),
        delta(10, 12, midnight - 1),
        delta(12, 15, midnight + 1),
    ]
    record(tmp_path, [*events, trade(4, midnight)])
    rows = raytrade.open(tmp_path).coverage().to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (BTC, "book", "2022-01-08", 10, 12, 2, 4, []),
        (BTC, "book", "2022-01-09", 15, 15, 1, 1, []),
        (BTC, "trades", "2022-01-09", 4, 4, 1, 1, []),
    ]


# Damage.


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("this is no segment")


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), path)


def other_type(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(
        table.set_column(table.schema.get_field_index("price"), "price", table.column("price").cast(pa.float64())), path
    )


def newer(path: Path) -> None:
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata({"raytrade.table_version": "99"}), path)


@pytest.mark.parametrize("damage", [truncate, empty, text, foreign, other_type, newer])
def test_a_bad_segment_is_named_or_skipped(tmp_path: Path, damage: Any) -> None:
    events = chain()
    record(tmp_path, events, segment_messages_max=10)
    bad = segments(tmp_path)[1]
    damage(bad)
    for ask in (
        lambda r: list(r.events()),
        lambda r: r.book(BTC),
        lambda r: r.book_at(BTC, NOON_NS),
        lambda r: r.coverage(),
    ):
        with pytest.raises(StorageError) as caught:
            ask(raytrade.open(tmp_path))
        assert str(bad) in str(caught.value)
        assert "\n" not in str(caught.value)
    recording = raytrade.open(tmp_path, skip_bad=True)
    found = list(recording.events())
    assert [event for event in found if not isinstance(event, Gap)] == events[:10] + events[20:]
    assert sum(isinstance(event, Gap) for event in found) == 1
    assert [error.path for error in recording.skipped] == [str(bad)]
    assert recording.book_at(BTC, NOON_NS + 39).state is BookState.STALE


@pytest.mark.parametrize("has_checksums", [True, False])
def test_flipped_bits_are_an_error_or_harmless(tmp_path: Path, has_checksums: bool) -> None:
    """Whatever bit is wrong, nothing else than a named error comes; with checksums in the pages no wrong row does."""
    record(tmp_path, random_stream(1, 300))
    (path,) = segments(tmp_path)
    pq.write_table(pq.ParquetFile(path).read(), path, compression="zstd", write_page_checksum=has_checksums)
    good, pages = path.read_bytes(), page_bytes(path)
    truth = raytrade.open(tmp_path).book(BTC)
    named = 0
    for at in pages[:: max(len(pages) // 60, 1)]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x3C]) + good[at + 1 :])
        recording = raytrade.open(tmp_path, skip_bad=True)
        list(recording.events())
        if recording.skipped:
            named += 1
            with pytest.raises(StorageError, match=path.name):
                print(raytrade.open(tmp_path).book(BTC).num_rows, list(raytrade.open(tmp_path).events()))
        elif has_checksums:
            assert raytrade.open(tmp_path).book(BTC).equals(truth)
    assert named > (40 if has_checksums else 0)


def page_bytes(path: Path) -> list[int]:
    """Give where the file has data: between the magic number and the footer."""
    metadata = pq.read_metadata(path)
    places: list[int] = []
    for at in range(metadata.num_columns):
        column = metadata.row_group(0).column(at)
        start = column.dictionary_page_offset or column.data_page_offset
        places += range(start, start + column.total_compressed_size)
    return places


def test_a_bad_segment_of_gaps(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS), gap(10, 11, NOON_NS + 1)])
    (path,) = (tmp_path / "gaps").glob("*.parquet")
    truncate(path)
    with pytest.raises(StorageError, match="gaps/"):
        raytrade.open(tmp_path).gaps()
    recording = raytrade.open(tmp_path, skip_bad=True)
    assert recording.gaps().num_rows == 0
    assert len(recording.skipped) == 1


def test_rows_that_are_no_whole_messages(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS)])
    (path,) = segments(tmp_path)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.slice(0, 2), path)
    with pytest.raises(StorageError, match="ends in the middle of message 0"):
        read(tmp_path)
    pq.write_table(pa.concat_tables([table.slice(0, 1), table.slice(2, 1)]).cast(BOOK), path)
    assert len(read(tmp_path)) == 1
    column = pa.array([True, False, True])
    pq.write_table(table.set_column(table.schema.get_field_index("is_last"), "is_last", column), path)
    list(raytrade.open(tmp_path).messages())


# Tables.


def test_tables_are_cut_by_receive_time(tmp_path: Path) -> None:
    events = random_stream(7, 300)
    record(tmp_path, events, segment_messages_max=40)
    recording = raytrade.open(tmp_path)
    whole = recording.book(BTC)
    assert whole.schema.equals(BOOK)
    times = whole.column("ts_recv_ns").to_pylist()
    for start, end in ((times[50], times[700]), (times[3], times[3] + 1), (0, times[9]), (times[-1], 2**63 - 1)):
        expected = [at for at in times if start <= at < end]
        assert recording.book(BTC, start, end).column("ts_recv_ns").to_pylist() == expected
    assert recording.book(BTC, times[5], times[5]).num_rows == 0
    assert recording.book(BTC, 5, 6).schema.equals(BOOK)
    assert recording.trades(BTC).num_rows == 0


def test_an_event_stream_may_begin_anywhere(tmp_path: Path) -> None:
    record(tmp_path, random_stream(9, 300), segment_messages_max=10)
    recording = raytrade.open(tmp_path)
    timed = list(recording.messages())
    for at in range(0, len(timed), 23):
        start = timed[at][0]
        assert list(recording.messages(start)) == [pair for pair in timed if pair[0] >= start]
        assert list(recording.messages(None, start)) == [pair for pair in timed if pair[0] < start]
    assert list(recording.messages(timed[-1][0] + 1)) == []


def test_a_stream_that_begins_in_the_middle_opens_with_images(tmp_path: Path) -> None:
    record(tmp_path, random_stream(9, 300), segment_messages_max=10)
    recording = raytrade.open(tmp_path)
    for start in range(NOON_NS, recording.end_ns(), 31 * STEP_NS):
        book = L2Book(BTC)
        for _, message in recording.messages(start, images=True):
            apply(book, decode(message))
        whole = recording.book_at(BTC, recording.end_ns())
        assert book.state is whole.state or book.state is BookState.SYNCING
        if book.state is BookState.LIVE:
            assert same(book, whole)


@pytest.mark.parametrize("seed", range(3))
def test_best_prices_are_those_of_the_books(tmp_path: Path, seed: int) -> None:
    events = random_stream(seed, 300)
    record(tmp_path, events, segment_messages_max=30)
    recording = raytrade.open(tmp_path)
    book, truth = L2Book(BTC), []
    for event in events:
        apply(book, event)
        if not isinstance(event, Gap):
            is_live = book.state is BookState.LIVE
            best = [book.decimals(side, 1) if is_live else [] for side in (Side.BUY, Side.SELL)]
            truth.append(tuple(value for side in best for value in (side[0] if all(best) else (None, None))))
    rows = recording.bbo(BTC).to_pylist()
    assert [(row["bid"], row["bid_size"], row["ask"], row["ask_size"]) for row in rows] == truth
    middle = rows[150]["ts_ns"]
    assert recording.bbo(BTC, middle).to_pylist() == [row for row in rows if row["ts_ns"] >= middle]
    assert recording.bbo(BTC, end=middle).to_pylist() == [row for row in rows if row["ts_ns"] < middle]


def test_bars(tmp_path: Path) -> None:
    start = NOON_NS - NOON_NS % (60 * SECOND)
    prices = {1: [500, 700, 300, 400], 3: [410], 4: [1, 9]}
    trades = [trade(9, start + SECOND, flags=Flag.HISTORY, price=1)]
    for minute, values in prices.items():
        trades += [
            trade(10 * minute + n, start + 60 * SECOND * minute + n, price=p, size=2) for n, p in enumerate(values)
        ]
    book: list[Event] = [snapshot(10, start + 61 * SECOND), gap(10, 20, start + 3 * 60 * SECOND)]
    record(tmp_path, [*trades, *book])
    rows = raytrade.open(tmp_path).bars(BTC, 60).to_pylist()
    found = [(r["ts_ns"], r["open"], r["high"], r["low"], r["close"], r["volume"], r["trades"], r["mid"]) for r in rows]

    def hundredth(value: int) -> Decimal:
        return Decimal(value) / 100

    assert found == [
        (
            start + 60 * SECOND * minute,
            *map(hundredth, (v[0], max(v), min(v), v[-1])),
            Decimal(len(v)) / 500,
            len(v),
            mid,
        )
        for (minute, v), mid in zip(prices.items(), (Decimal("100.45"), None, None), strict=True)
    ]
    with pytest.raises(ConfigError, match="positive"):
        raytrade.open(tmp_path).bars(BTC, 0)


# Asking wrongly.


def test_names_that_are_not_there(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS), snapshot(10, NOON_NS, name=ETH)])
    recording = raytrade.open(tmp_path)
    assert recording.instruments() == [BTC, ETH]
    for name in ("binance-spot:BTCUSD", "BTCUSDT", "binance-spto:BTCUSDT"):
        with pytest.raises(ConfigError, match="did you mean binance-spot:BTCUSDT"):
            recording.book(name)
    with pytest.raises(ConfigError, match="not in the recording"):
        recording.events(instruments=["kraken*"])
    with pytest.raises(ConfigError, match="no such channel"):
        recording.events(channels=["books"])


def test_directories_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, problem in (
        (tmp_path / "no", "no such directory"),
        (tmp_path / "file", "is no directory"),
        (tmp_path, "has no recording"),
    ):
        with pytest.raises(ConfigError, match=problem):
            raytrade.open(path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("5", 5),
        ("-7", -7),
        ("1970-01-02", DAY_NS),
        ("1970-01-01T00:00:01", SECOND),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01 01:00:00.5+01:00", SECOND // 2),
        ("2024-08-08T12:00:00.123456789Z", 1723118400123456789),
        (datetime(1970, 1, 1, 0, 0, 1), SECOND),
        (datetime(1970, 1, 1, 1, 0, 1, 7, timezone(timedelta(hours=1))), SECOND + 7000),
    ],
)
def test_times(value: Any, expected: Nanos) -> None:
    assert instant_ns(value) == expected
    assert instant_ns(instant_text(expected)) == expected


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2024-13-01", "1.5", "12:00", "2024-08-08T12:00:00.1234567891Z", 2**64]
)
def test_what_is_no_time(tmp_path: Path, value: Any) -> None:
    record(tmp_path, [snapshot(10, NOON_NS)])
    with pytest.raises(ConfigError, match="time"):
        raytrade.open(tmp_path).book_at(BTC, value)


def test_an_interval_must_not_end_before_it_starts(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS)])
    recording = raytrade.open(tmp_path)
    with pytest.raises(ConfigError, match="ends before it starts"):
        recording.book(BTC, datetime(2024, 1, 1, tzinfo=UTC), "2023-01-01")


def test_importing_loads_no_arrow_and_opening_does(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS)])
    code = (
        "import sys, raytrade; assert 'pyarrow' not in sys.modules; "
        f"print(raytrade.open({str(tmp_path)!r}).instruments(), 'pyarrow' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"['{BTC}'] True False"
    assert isinstance(raytrade.open(tmp_path), Recording)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = raytrade.nothing  # type: ignore[attr-defined]
