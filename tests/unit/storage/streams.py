"""Messages of made-up streams, and how to read back what a sink has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Gap, GapKind, Levels, Side, Trade
from raytrade.core.message import Message, encode, parse

DAY_NS: Nanos = 86_400 * SECOND
NOON_NS: Nanos = 19_000 * DAY_NS + DAY_NS // 2
BTC = "binance-spot:BTCUSDT"


def message(event: Event, line: str = "1") -> Message:
    return parse(encode(event, line))


def delta(
    id_last: int,
    bids: Levels = (100, 5),
    asks: Levels = (),
    *,
    instrument: str = BTC,
    ts_venue_ns: Nanos = NOON_NS,
    price_scale: int = 2,
    size_scale: int = 1,
    line: str = "1",
) -> Message:
    event = BookDelta(
        instrument=instrument,
        id_prev=id_last - 1,
        id_last=id_last,
        bids=bids,
        asks=asks,
        price_scale=price_scale,
        size_scale=size_scale,
        ts_venue_ns=ts_venue_ns,
        ts_recv_ns=ts_venue_ns + 7,
    )
    return message(event, line)


def snapshot(id_last: int, instrument: str = BTC) -> Message:
    event = BookSnapshot(
        instrument=instrument,
        id_last=id_last,
        bids=(100, 5, 99, 4),
        asks=(101, 3),
        price_scale=2,
        size_scale=1,
        ts_recv_ns=NOON_NS,
        depth=1000,
    )
    return message(event)


def trade(sequence: int, aggressor: Side = Side.BUY, price_scale: int = 2) -> Message:
    event = Trade(
        instrument=BTC,
        trade_id=f"t{sequence}",
        sequence=sequence,
        price=12345,
        size=10**15,
        price_scale=price_scale,
        size_scale=3,
        aggressor=aggressor,
        ts_venue_ns=NOON_NS,
        ts_recv_ns=NOON_NS + 1,
    )
    return message(event)


def gap(id_prev: int, id_last: int) -> Message:
    event = Gap(
        instrument=BTC,
        channel=Channel.BOOK,
        kind=GapKind.VENUE,
        id_prev=id_prev,
        id_last=id_last,
        cause="no line delivered it",
        lines=("a", "b"),
        ts_recv_ns=NOON_NS,
    )
    return message(event)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.parquet"))


def rows(directory: Path, channel: str = "book") -> list[dict[str, Any]]:
    """Give the rows of all segments of a channel (or of the gaps), in the order of the index."""
    found: list[dict[str, Any]] = []
    for path in segments(directory):
        if f"channel={channel}" in str(path) or path.parent.name == channel:
            found += pq.ParquetFile(path).read().to_pylist()
    return sorted(found, key=lambda row: row.get("index", 0))


def leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".parquet"]
