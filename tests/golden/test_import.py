"""Every recording of the supported venues through the whole import, against the expected state."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import duckdb
import pytest

from raytrade.core.events import Channel, Flag, Side
from raytrade.core.message import Kind, Message
from raytrade.rules import rule_of
from tests.golden.recordings import BINANCE, COUNTED, EVERYTHING, HITBTC, HITBTC_REDUNDANT, OKX_REDUNDANT, Recording

pytestmark = [pytest.mark.captures, pytest.mark.parametrize("recording", EVERYTHING, indirect=True)]

CONTIGUOUS = {"binance-spot", "binance-us", "hitbtc-v2", "bitcoincom", "bybit-v5"}
"""Venues whose ids of one symbol rise by one per message or window."""
DENSE_TRADES = {"binance-spot", "binance-us", "binance-usdm", "binance-coinm"}


def instruments(recording: Recording) -> dict[str, dict[str, Any]]:
    found: Any = recording.summary["instruments"]
    return dict(found)


def test_every_frame_is_read(recording: Recording) -> None:
    lines: Any = recording.summary["lines"]
    assert recording.importer.problem is None
    assert recording.importer.bad_frame is None
    assert recording.summary["undecodable"] == recording.expected["undecodable"] == 0
    assert sum(line["frames"] for line in lines.values()) == recording.expected["frames"]
    assert recording.summary["venue"] == recording.expected["venue"]


def test_final_books_equal_the_expected(recording: Recording) -> None:
    expected = recording.expected["symbols"]
    books: Any = recording.books
    assert {book["symbol"] for book in books.values()} == set(expected)
    for name, book in books.items():
        truth = expected[book["symbol"]]
        assert name == f"{recording.venue}:{book['symbol']}"
        assert (book["state"] == "live") is (truth["state"] == "live"), name
        assert [list(level) for level in book["bids"]] == truth["bids"], name
        assert [list(level) for level in book["asks"]] == truth["asks"], name


def test_final_books_are_not_crossed(recording: Recording) -> None:
    for book in recording.importer.books.values():
        assert not book.is_crossed()
        book.validate()


def test_the_top_is_the_best_level(recording: Recording) -> None:
    for name, counts in instruments(recording).items():
        truth = recording.truth(name)
        assert counts["top"]["bid"] == (truth["bids"][0] if truth["bids"] else None)
        assert counts["top"]["ask"] == (truth["asks"][0] if truth["asks"] else None)


def test_counts(recording: Recording) -> None:
    for name, counts in instruments(recording).items():
        truth = recording.truth(name)
        contained = _contained_first_deltas(recording, name)
        assert counts["updates"] + contained == truth["deltas_applied"], name
        assert counts["snapshots"] == truth["snapshots"], name
        assert counts["trades"] == truth["trades"], name
        assert (counts["gaps"], counts["resyncs"]) == (0, 0), name


def _contained_first_deltas(recording: Recording, name: str) -> int:
    """The rebuild applies a futures delta that ends exactly at the snapshot; it changes nothing and is a copy here."""
    if recording.venue not in ("binance-usdm", "binance-coinm"):
        return 0
    base = recording.truth(name)["first_id"]
    return sum(a.message.kind is Kind.DELTA and a.message.id_last == base for a in recording.streams[name])


def test_checksums_reproduce(recording: Recording) -> None:
    for name, counts in instruments(recording).items():
        truth = recording.truth(name)
        assert (counts["checksums_ok"], counts["checksums_failed"]) == (truth["checksums_ok"], 0), name


def test_first_and_last_ids(recording: Recording) -> None:
    for name, counts in instruments(recording).items():
        truth = recording.truth(name)
        found = [counts["first_id"], counts["last_id"]]
        wanted = [truth["first_id"], truth["last_id"]]
        if recording.name in OKX_REDUNDANT:  # the rebuild names the oldest snapshot of three, the import the first
            found, wanted = found[1:], wanted[1:]
        assert [str(one) for one in found] == [str(one) for one in wanted], name


def test_the_chain_has_no_hole(recording: Recording) -> None:
    """On every line as recorded, and in the arbitrated stream."""
    if recording.name in (*BINANCE, *HITBTC, *HITBTC_REDUNDANT, *COUNTED):
        by_line: dict[tuple[str, str], list[Message]] = {}
        for line, message, _ in recording.arrivals:
            by_line.setdefault((line, message.instrument), []).append(message)
        for messages in by_line.values():
            _check_chain([m for m in messages if m.kind is Kind.DELTA], recording.venue in CONTIGUOUS)
    given: dict[str, list[Message]] = {}
    for message in recording.given:
        assert message.kind in (Kind.DELTA, Kind.SNAPSHOT)
        if not message.flags & Flag.UNAPPLIED:
            given.setdefault(message.instrument, []).append(message)
    for messages in given.values():
        assert messages[0].kind is Kind.SNAPSHOT
        if recording.name not in OKX_REDUNDANT:  # there the lines' own counts are forwarded
            ids = [message.id_last for message in messages]
            assert all(last < following for last, following in itertools.pairwise(ids))


def _check_chain(deltas: list[Message], is_contiguous: bool) -> None:
    for last, following in itertools.pairwise(deltas):
        assert following.id_prev == last.id_last
        if is_contiguous:
            assert following.id_last > following.id_prev


def test_dense_trade_ids_have_no_hole(recording: Recording) -> None:
    if recording.venue not in DENSE_TRADES:
        return
    for name in instruments(recording):
        rows = query(recording, "trades", "sequence", name)
        ids = [int(row[0]) for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True
        assert rule_of(name, Channel.TRADES).rule.value == "trade id, dense"


# The files.


def files(recording: Recording, channel: str) -> list[Path]:
    return sorted(recording.directory.glob(f"venue=*/instrument=*/channel={channel}/date=*/*.parquet"))


def source(recording: Recording, channel: str) -> str:
    pattern = recording.directory / "venue=*" / "instrument=*" / f"channel={channel}" / "date=*" / "*.parquet"
    return f"read_parquet('{pattern}', hive_partitioning=true, hive_types_autocast=false, file_row_number=true)"


def query(recording: Recording, channel: str, columns: str, name: str) -> list[tuple[Any, ...]]:
    if not files(recording, channel):
        return []
    symbol = name.partition(":")[2]
    order = "ORDER BY index, file_row_number"
    text = f"SELECT {columns} FROM {source(recording, channel)} WHERE instrument = ? {order}"
    return duckdb.execute(text, [symbol]).fetchall()


def test_nothing_but_whole_segments_is_left(recording: Recording) -> None:
    found = [path for path in recording.directory.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {".parquet"}
    assert not (recording.directory / "gaps").exists()


def test_books_can_be_rebuilt_from_the_files_alone(recording: Recording) -> None:
    """In SQL: per price the last size since the last snapshot; exact decimals."""
    text = f"""
        WITH rows AS (SELECT * FROM {source(recording, "book")} WHERE flags & {int(Flag.UNAPPLIED)} = 0),
        base AS (SELECT instrument, max(index) AS first FROM rows WHERE is_snapshot GROUP BY instrument),
        state AS (
            SELECT rows.instrument, side, price, arg_max(size, index * 10000000 + file_row_number) AS size
            FROM rows JOIN base ON rows.instrument = base.instrument AND index >= first
            WHERE side IS NOT NULL GROUP BY rows.instrument, side, price
        )
        SELECT instrument, side, price, size FROM state WHERE size > 0
    """
    rebuilt: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for symbol, side, price, size in duckdb.execute(text).fetchall():
        rebuilt.setdefault((symbol, side), []).append((price, size))
    for name, book in recording.importer.books.items():
        symbol = name.partition(":")[2]
        assert sorted(rebuilt.get((symbol, "bid"), []), reverse=True) == book.decimals(Side.BUY), name
        assert sorted(rebuilt.get((symbol, "ask"), [])) == book.decimals(Side.SELL), name


def test_book_rows(recording: Recording) -> None:
    """A dense index, one last row per message, both times, rising ids (of what is to be applied)."""
    text = f"""
        WITH messages AS (
            SELECT instrument, index, count(*) FILTER (is_last) AS lasts, max(id_last) AS id_last,
                min(ts_recv_ns) AS ts_recv_ns, bool_and(ts_venue_ns >= 0) AS has_venue_time,
                max(flags) & {int(Flag.UNAPPLIED)} = 0 AS is_applied,
                count(DISTINCT (id_prev, id_last, ts_recv_ns, line, is_snapshot)) AS headers
            FROM {source(recording, "book")} GROUP BY instrument, index
        ),
        steps AS (
            SELECT *, CASE WHEN is_applied THEN id_last - lag(id_last) OVER w END AS step FROM messages
            WINDOW w AS (PARTITION BY instrument, is_applied ORDER BY index)
        )
        SELECT instrument, count(*), min(index), max(index), max(lasts), min(lasts), min(step), min(ts_recv_ns),
            bool_and(has_venue_time), max(headers)
        FROM steps GROUP BY instrument
    """
    counts = instruments(recording)
    rows = duckdb.execute(text).fetchall()
    assert {f"{recording.venue}:{row[0]}" for row in rows} == set(recording.importer.books)
    for symbol, messages, first, last, lasts_max, lasts_min, step, ts_recv_ns, has_venue_time, headers in rows:
        given = [m for m in recording.given if m.instrument == f"{recording.venue}:{symbol}"]
        assert (messages, first, last) == (len(given), 0, len(given) - 1)
        assert len(given) > counts[f"{recording.venue}:{symbol}"]["updates"]
        assert (lasts_max, lasts_min, headers) == (1, 1, 1)
        assert ts_recv_ns > 0
        assert has_venue_time
        if recording.name not in OKX_REDUNDANT:
            assert step is None or step > 0


def test_trade_rows(recording: Recording) -> None:
    """Every trade once, live and past ones told apart, exact."""
    for name, counts in instruments(recording).items():
        rows = query(recording, "trades", "trade_id, flags, index, price, size, aggressor, ts_venue_ns", name)
        history = [row for row in rows if row[1] & Flag.HISTORY]
        assert len(rows) - len(history) == counts["trades"] == recording.truth(name)["trades"]
        assert len(rows) == recording.truth(name)["trades_all"]
        assert [row[2] for row in rows] == list(range(len(rows)))
        assert len({row[0] for row in rows}) == len(rows)
        assert all(row[3] > 0 and row[4] > 0 and row[6] > 0 for row in rows)
        assert {row[5] for row in rows} <= {"buy", "sell", None}
