"""A removed delta is always seen: every one of every chain recording, next to where it is missing, and some to the end.

Next to the hole an arbiter is started from the state before the removed delta, gets what follows, and must say `Gap`
with exactly the missing range before anything is applicable. That is cheap enough for every single delta. A seeded
sample runs on from the first message, so that the end is judged too: without a later snapshot the book is stale.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from raytrade.arbitration import Arbiter
from raytrade.core.book import BookState
from raytrade.core.events import BookSnapshot, Channel, Flag
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.importer import Importer
from raytrade.rules import rule_of
from raytrade.storage.captures import Capture, CaptureRecord
from raytrade.storage.sink import ParquetSink
from tests.golden.recordings import (
    CHAINED,
    COUNTED,
    DRAIN_NS,
    HITBTC_REDUNDANT,
    Arrival,
    Recording,
    arbitrate,
    books_of,
    gaps_of,
    run_timers,
)

pytestmark = pytest.mark.captures

SAMPLES = 20
"""Removals per recording that are followed to its end."""
LONG = 3000
"""How many messages of a stream are followed, so that the large recordings do not take all the time."""
FOLLOWING = 2
"""How many messages are given after the removed one."""
SMALL = [
    "binance-spot/20211012-nknusdt-4sym",
    "binance-us/20210814-batusd-4sym",
    "binance-usdm/20210722-sushiusdt-4sym",
    "hitbtc-v2/20210405-bcneos-10sym",
]


def one_line(recording: Recording) -> dict[str, list[Arrival]]:
    """Give the arrivals of the first line by instrument, with the REST books."""
    first = recording.lines[0]
    return {name: [a for a in stream if a.line == first] for name, stream in recording.streams.items()}


def live_deltas(stream: list[Arrival]) -> list[int]:
    """Give the places of the deltas that move the book, from the sync on; of a loss of the last nothing tells."""
    base = next(a.message.id_last for a in stream if a.message.kind is Kind.SNAPSHOT)
    return [at for at, a in enumerate(stream) if a.message.kind is Kind.DELTA and a.message.id_last > base]


def image(instrument: str, id_last: int) -> Message:
    snapshot = BookSnapshot(instrument=instrument, id_last=id_last, bids=(), asks=(), price_scale=0, size_scale=0)
    return parse(encode(snapshot, "1"))


@pytest.mark.parametrize("recording", CHAINED, indirect=True)
def test_every_removed_delta_is_a_gap(recording: Recording) -> None:
    removed = 0
    for name, stream in one_line(recording).items():
        deltas = [stream[at] for at in live_deltas(stream)]
        for at in range(len(deltas) - 1):
            _check_removal(name, deltas, at)
            removed += 1
    lines = len(recording.lines)
    counts = [truth["deltas_applied"] for truth in recording.expected["symbols"].values()]
    assert removed >= sum(counts) * 0.7 if lines > 1 else removed >= sum(counts) - 2 * len(counts)


def _check_removal(name: str, deltas: list[Arrival], at: int) -> None:
    arbiter = Arbiter("loss", rule_of)
    missing = deltas[at].message
    arbiter.receive("1", image(name, missing.id_prev), deltas[at].now_ns)
    arbiter.output()
    given: list[Message] = []
    for line, message, now_ns in deltas[at + 1 : at + 1 + FOLLOWING]:
        given += run_timers(arbiter, now_ns)
        arbiter.receive(line, message, now_ns)
        given += arbiter.output()
    given += run_timers(arbiter, now_ns + DRAIN_NS)
    gaps = gaps_of(given)
    assert [(gap.id_prev, gap.id_last) for gap in gaps] == [(missing.id_prev, deltas[at + 1].message.id_prev)]
    assert all(message.kind is Kind.GAP or message.flags & Flag.UNAPPLIED for message in given)


@pytest.mark.parametrize("recording", CHAINED, indirect=True)
def test_the_book_stays_stale_to_the_end(recording: Recording) -> None:
    streams = {name: stream[:LONG] for name, stream in one_line(recording).items()}
    places = [(name, at) for name, stream in streams.items() for at in live_deltas(stream)[:-1]]
    if recording.name in HITBTC_REDUNDANT:  # with a snapshot in mid stream
        chosen = places
    else:
        chosen = random.Random(recording.name).sample(places, min(SAMPLES, len(places)))
    if len(recording.streams) == 1:
        chosen = [places[0], chosen[0]]
    for name, at in chosen:
        stream = streams[name]
        given = arbitrate([*stream[:at], *stream[at + 1 :]])
        _check_end(recording, stream, at, given)


def _check_end(recording: Recording, stream: list[Arrival], at: int, given: list[Message]) -> None:
    """Stale at the end, unless a later snapshot in the recording has made it live again, and then the true book."""
    missing = stream[at].message
    book = books_of(given)[missing.instrument]
    snapshots = [a.message.id_last for a in stream[at + 1 :] if a.message.kind is Kind.SNAPSHOT]
    if any(id_last >= missing.id_last for id_last in snapshots):
        assert book.state is not BookState.LIVE or book.id_last == stream[-1].message.id_last
    else:
        assert book.state is not BookState.LIVE
    if _synced_before(stream, at):
        assert any(gap.id_prev < missing.id_last <= gap.id_last for gap in gaps_of(given))


def _synced_before(stream: list[Arrival], at: int) -> bool:
    """Tell whether the first snapshot came before the delta; else the loss may show as a snapshot that fits nothing."""
    return any(a.message.kind is Kind.SNAPSHOT for a in stream[:at])


# Through the importer: whole files with one frame less.


def lines_of(recording: Recording) -> list[bytes]:
    with gzip.open(recording.path) as lines:
        return lines.readlines()


def write_capture(path: Path, lines: list[bytes]) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(lines)
    return path


def depth_frames(lines: list[bytes], symbol_of: Any) -> dict[str, list[int]]:
    """Give the places of the depth deltas by (connection and) symbol."""
    found: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        record = json.loads(line)
        if record["kind"] == "recv":
            frame = json.loads(base64.b64decode(record["b64"]) if "b64" in record else record["data"])
            for symbol in symbol_of(record["conn"], frame):
                found.setdefault(symbol, []).append(at)
    return found


def binance_symbol(conn: str, frame: dict[str, Any]) -> Iterator[str]:
    payload = frame.get("data", frame)
    if payload.get("e") == "depthUpdate":
        yield payload["s"]


def hitbtc_symbol(conn: str, frame: dict[str, Any]) -> Iterator[str]:
    if frame.get("method") == "updateOrderbook":
        yield frame["params"]["symbol"]


def coinbase_symbol(conn: str, frame: dict[str, Any]) -> Iterator[str]:
    if frame.get("channel") == "l2_data":
        for event in frame["events"]:
            if event["type"] == "update":
                yield event["product_id"]


def bybit_symbol(conn: str, frame: dict[str, Any]) -> Iterator[str]:
    if str(frame.get("topic", "")).startswith("orderbook") and frame["type"] == "delta":
        yield f"{'linear' if conn == '1' else 'spot'}:{frame['data']['s']}"


SYMBOLS = {"hitbtc-v2": hitbtc_symbol, "coinbase-advanced": coinbase_symbol, "bybit-v5": bybit_symbol}


def without_one(recording: Recording, directory: Path) -> tuple[Path, str]:
    """Write the recording without one depth delta in the middle of its busiest symbol; tells the symbol."""
    lines = lines_of(recording)
    frames = depth_frames(lines, SYMBOLS.get(recording.venue, binance_symbol))
    symbol = max(frames, key=lambda one: len(frames[one]))
    at = frames[symbol][len(frames[symbol]) // 2]
    return write_capture(directory / "short.jsonl.gz", [*lines[:at], *lines[at + 1 :]]), symbol


@pytest.mark.parametrize("recording", [*SMALL, *COUNTED], indirect=True)
def test_an_import_without_one_frame_says_so(recording: Recording, tmp_path: Path) -> None:
    path, symbol = without_one(recording, tmp_path)
    importer = Importer(Capture(path), ParquetSink(tmp_path / "out"))
    importer.run()
    instrument = f"{recording.venue}:{symbol}"
    summary: Any = importer.summary()["instruments"]
    books: Any = importer.final_books()
    assert summary[instrument]["gaps"] == 1
    assert books[instrument]["state"] == "stale"
    assert _recorded_gaps(tmp_path / "out") >= {(instrument, "book", "venue")}
    rows = recorded(tmp_path / "out", symbol)
    first_id = next(row[0] for row in _gap_ranges(tmp_path / "out", instrument))
    assert max(row[0] for row in rows if not row[1]) == first_id


@pytest.mark.parametrize("recording", SMALL, indirect=True)
def test_what_follows_a_gap_is_recorded_too(recording: Recording, tmp_path: Path) -> None:
    path, symbol = without_one(recording, tmp_path)
    Importer(Capture(path), ParquetSink(tmp_path / "out")).run()
    stream = one_line(recording)[f"{recording.venue}:{symbol}"]
    first_id, end_id = next(iter(_gap_ranges(tmp_path / "out", f"{recording.venue}:{symbol}")))
    ids = {a.message.id_last for a in stream if a.message.kind is Kind.DELTA and a.message.id_last > first_id}
    missing = ids - {row[0] for row in recorded(tmp_path / "out", symbol)}
    assert len(missing) == 1
    assert all(first_id < id_last <= end_id for id_last in missing)


def _recorded_gaps(directory: Path) -> set[tuple[str, ...]]:
    return set(duckdb.execute(f"SELECT instrument, channel, kind FROM '{directory}/gaps/*.parquet'").fetchall())


def _gap_ranges(directory: Path, instrument: str) -> list[tuple[Any, ...]]:
    text = f"SELECT id_prev, id_last FROM '{directory}/gaps/*.parquet' WHERE instrument = ?"
    return duckdb.execute(text, [instrument]).fetchall()


def recorded(directory: Path, symbol: str) -> list[tuple[Any, ...]]:
    """Give (id, whether flagged as not to be applied) of the recorded book messages."""
    source = f"read_parquet('{directory}/venue=*/instrument=*/channel=book/*/*.parquet', hive_types_autocast=false)"
    text = f"SELECT id_last, flags & {int(Flag.UNAPPLIED)} > 0 FROM {source} WHERE instrument = ? AND is_last"
    return duckdb.execute(text, [symbol]).fetchall()


@pytest.mark.parametrize("recording", COUNTED, indirect=True)
def test_a_lost_frame_of_a_counted_line_is_a_gap(recording: Recording) -> None:
    """Where the count is the connection's, the machine sees it: every symbol that the frame may have been of."""
    frames = depth_frames(lines_of(recording), SYMBOLS[recording.venue])
    places = sorted((at, symbol) for symbol, found in frames.items() for at in found[:-1])
    records = list(Capture(recording.path).records())
    for at, symbol in random.Random(recording.name).sample(places, 12):
        assert symbol in _gaps_without(recording, records, at - 1)


def _gaps_without(recording: Recording, records: list[CaptureRecord], removed: int) -> set[str]:
    """Run the machines up to a little after the removed record; give the symbols that show a gap."""
    importer = Importer(Capture(recording.path))
    found: set[str] = set()
    for number, record in enumerate(records[: removed + 400]):
        if number != removed:
            importer._receive(record, number)
    for (instrument, channel), counts in importer._arbiter.statistics().items():
        if channel is Channel.BOOK and counts.gaps:
            found.add(instrument.partition(":")[2])
    return found


@pytest.mark.parametrize("recording", HITBTC_REDUNDANT, indirect=True)
def test_a_delta_that_no_connection_has_is_a_gap(recording: Recording) -> None:
    """Every delta of the union, removed from all connections."""
    for name, stream in recording.streams.items():
        ids = sorted({a.message.id_last for a in stream if a.message.kind is Kind.DELTA})
        for missing in random.Random(name).sample(ids[:-1], min(4, max(len(ids) - 1, 0))):
            kept = [a for a in stream if a.message.kind is not Kind.DELTA or a.message.id_last != missing]
            given = arbitrate(kept)
            base = min(m.id_last for m in given if m.kind is Kind.SNAPSHOT)
            if missing > base:
                assert any(gap.id_prev < missing <= gap.id_last for gap in gaps_of(given)), (name, missing)
