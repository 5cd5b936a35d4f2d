"""Recordings of real frames, imported and read back: the same events, the same books at every instant."""

from __future__ import annotations

import random
from collections import Counter

import duckdb
import pytest

import raytrade
from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Side, Trade
from raytrade.core.message import decode
from raytrade.replay import apply
from tests.golden.recordings import HITBTC_REDUNDANT, OKX_REDUNDANT, Recording
from tests.unit.storage.recordings import same

CHOSEN = [
    "binance-spot/20211012-nknusdt-4sym",
    "binance-us/20210814-batusd-4sym",
    "binance-usdm/20210722-sushiusdt-4sym",
    "binance-coinm/20210722-btcusd-211231-10sym",
    "bybit-v5/20260809-btcusdt-4sym",
    "coinbase-advanced/20260809-btc-usd-2sym",
    "gemini-v2/20260809-btcusd-10sym",
    "kraken-v2/20260802-btc-usd",
    HITBTC_REDUNDANT[0],
    OKX_REDUNDANT[0],
]
INSTANTS = 8
_STORED = ("ts_recv_ns", "ts_venue_ns", "id_last", "epoch")

pytestmark = [pytest.mark.captures, pytest.mark.parametrize("recording", CHOSEN, indirect=True)]


def test_the_events_are_those_that_were_recorded(recording: Recording) -> None:
    """All that is stored of a message comes back as it was, the venue's checksum too."""
    given: dict[str, list[object]] = {}
    for message in recording.given:
        given.setdefault(message.instrument, []).append(decode(message))
    read = raytrade.open(recording.directory)
    for name, events in given.items():
        found = list(read.events(instruments=name, channels=[Channel.BOOK]))
        assert len(found) == len(events)
        for event, truth in zip(found, events, strict=True):
            assert type(event) is type(truth)
            assert isinstance(event, BookDelta | BookSnapshot)
            assert isinstance(truth, BookDelta | BookSnapshot)
            assert (event.bids, event.asks, event.price_scale) == (truth.bids, truth.asks, truth.price_scale)
            assert [getattr(event, f) for f in _STORED] == [getattr(truth, f) for f in _STORED]
            assert event.flags == truth.flags
            assert event.state_hash == (truth.state_hash if truth.flags & Flag.CHECKED else 0)


def test_the_final_books_and_counts_are_those_of_the_import(recording: Recording) -> None:
    books: dict[str, L2Book] = {}
    trades: Counter[str] = Counter()
    for event in raytrade.open(recording.directory).events():
        if isinstance(event, Trade):
            trades[event.instrument] += not event.flags & Flag.HISTORY
        else:
            apply(books.setdefault(event.instrument, L2Book(event.instrument)), event)
    assert set(books) == set(recording.importer.books)
    for name, book in recording.importer.books.items():
        assert books[name].state is book.state
        assert books[name].id_last == book.id_last
        for side in (Side.BUY, Side.SELL):
            assert books[name].texts(side) == book.texts(side)
    summary = recording.summary["instruments"]
    assert isinstance(summary, dict)
    assert {name: counts["trades"] for name, counts in summary.items()} == {name: trades[name] for name in summary}


def test_books_at_random_instants(recording: Recording) -> None:
    read = raytrade.open(recording.directory)
    rng = random.Random(recording.name)
    for name in read.instruments()[:3]:
        timed = list(read.messages(instruments=name, channels=["book"]))
        instants = sorted(rng.choice(timed)[0] + rng.randrange(2) for _ in range(INSTANTS))
        book, at = L2Book(name), 0
        for instant in instants:
            while at < len(timed) and timed[at][0] <= instant:
                apply(book, decode(timed[at][1]))
                at += 1
            if instant <= read.end_ns():
                assert same(read.book_at(name, instant), book), (name, instant)


def test_tables_are_those_of_the_files(recording: Recording) -> None:
    """Read by DuckDB from the same files: the same rows and sums, exact."""
    read = raytrade.open(recording.directory)
    pattern = f"{recording.directory}/venue=*/instrument=*/channel=book/date=*/*.parquet"
    text = f"""SELECT venue || ':' || instrument, count(*), sum(price), sum(size), sum(index) FROM
               read_parquet('{pattern}', hive_partitioning = true, hive_types_autocast = false) GROUP BY 1"""
    for name, count, prices, sizes, indexes in duckdb.execute(text).fetchall():
        table = read.book(name)
        assert table.num_rows == count
        sums = [sum(v for v in table.column(c).to_pylist() if v is not None) for c in ("price", "size", "index")]
        assert sums == [prices, sizes, indexes]
        assert table.column("index").to_pylist() == sorted(table.column("index").to_pylist())


def test_nothing_is_missing(recording: Recording) -> None:
    read = raytrade.open(recording.directory)
    rows = read.coverage().to_pylist()
    assert all(row["missing"] == [] for row in rows)
    messages = Counter(message.instrument for message in recording.given)
    covered: Counter[str] = Counter()
    for row in rows:
        if row["channel"] == "book":
            covered[row["instrument"]] += row["messages"]
    assert covered == messages
    name = read.instruments()[0]
    assert read.bbo(name).num_rows == messages[name]
