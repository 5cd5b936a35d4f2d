"""Recordings made for tests: random streams with their truth, written by the real sink in one or more starts."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, GapKind, Levels, Side, Trade
from raytrade.core.message import decode, encode, parse
from raytrade.replay import apply
from raytrade.storage.durable import next_indexes
from raytrade.storage.recording import Recording
from raytrade.storage.sink import ParquetSink, SinkSettings

DAY_NS: Nanos = 86_400 * SECOND
NOON_NS: Nanos = 19_000 * DAY_NS + DAY_NS // 2
BTC = "binance-spot:BTCUSDT"
ETH = "binance-spot:ETHUSDT"
KRAKEN = "kraken-v2:BTC/USD"
STEP_NS: Nanos = SECOND // 10


def levels(rng: random.Random, base: int, count: int) -> Levels:
    return tuple(value for _ in range(count) for value in (base + rng.randrange(60), rng.choice((0, 1, 5, 70))))


def delta(id_prev: int, id_last: int, ts_ns: Nanos, *, name: str = BTC, epoch: int = 0, **others: object) -> BookDelta:
    fields = {"bids": (10_000, id_last), "asks": (), "price_scale": 2, "size_scale": 3, "ts_venue_ns": ts_ns} | others
    return BookDelta(instrument=name, id_prev=id_prev, id_last=id_last, ts_recv_ns=ts_ns, epoch=epoch, **fields)  # type: ignore[arg-type]


def snapshot(id_last: int, ts_ns: Nanos, *, name: str = BTC, epoch: int = 0, **others: object) -> BookSnapshot:
    fields = {"bids": (9_990, 5, 9_980, 7), "asks": (10_100, 3), "price_scale": 2, "size_scale": 3} | others
    return BookSnapshot(instrument=name, id_last=id_last, ts_recv_ns=ts_ns, epoch=epoch, depth=1000, **fields)  # type: ignore[arg-type]


def trade(sequence: int, ts_ns: Nanos, *, name: str = BTC, **others: object) -> Trade:
    fields = {"price": 12_345 + sequence, "size": 10 + sequence, "aggressor": Side.BUY, "sequence": sequence} | others
    return Trade(
        instrument=name,
        trade_id=f"t{sequence}",
        price_scale=2,
        size_scale=3,
        ts_venue_ns=ts_ns,
        ts_recv_ns=ts_ns,
        **fields,  # type: ignore[arg-type]
    )


def gap(id_prev: int, id_last: int, ts_ns: Nanos, *, name: str = BTC, epoch: int = 0) -> Gap:
    return Gap(
        instrument=name,
        channel=Channel.BOOK,
        kind=GapKind.VENUE,
        id_prev=id_prev,
        id_last=id_last,
        cause="no line delivered it",
        lines=("a", "b"),
        ts_recv_ns=ts_ns,
        epoch=epoch,
    )


def random_stream(seed: int, count: int, *, name: str = BTC, start_ns: Nanos = NOON_NS) -> list[Event]:
    """Give a stream as an arbiter gives it out: held messages, unapplied ones, gaps, finer scales, wide values."""
    rng = random.Random(seed)
    events: list[Event] = []
    now_ns, position, is_whole = start_ns, 100, False
    for number in range(count):
        now_ns += rng.randrange(1, 2 * STEP_NS)
        late_ns = rng.choice((0, 0, 0, 3 * STEP_NS))
        if not is_whole and rng.random() < 0.4:
            bids, asks = levels(rng, 9_900, 8), levels(rng, 10_000, 8)
            events.append(snapshot(position, now_ns, name=name, bids=bids, asks=asks))
            is_whole = True
        elif is_whole and rng.random() < 0.02:
            events.append(gap(position, position + 7, now_ns, name=name))
            position += 7
            is_whole = False
        else:
            scale = rng.choice((2, 2, 2, 4)) if number > count // 2 else 2
            factor = 10**16 if rng.random() < 0.01 else 1
            sides: dict[str, Any] = {
                "bids": levels(rng, 9_900, rng.randrange(4)),
                "asks": levels(rng, 10_000 * factor, rng.randrange(3)),
            }
            flags = Flag.NONE if is_whole else Flag.UNAPPLIED
            event = delta(position, position + 3, now_ns - late_ns, name=name, price_scale=scale, flags=flags, **sides)
            events.append(event)
            position += 3
    return events


def record(
    directory: Path,
    events: Iterable[Any],
    *,
    segment_messages_max: int = 1000,
    indexes: dict[tuple[str, Channel], int] | None = None,
) -> None:
    """Write events as one start of a recorder does; `indexes` as `restart` gives them."""
    sink = ParquetSink(directory, SinkSettings(segment_messages_max=segment_messages_max), indexes)
    for event in events:
        sink.write([parse(encode(event, "1"))], event.ts_recv_ns)
    sink.close()


def restart(directory: Path, events: Iterable[Any], **others: Any) -> None:
    """Write events as a recorder does that goes on in the directory."""
    record(directory, events, indexes=next_indexes(directory), **others)


def replayed(recording: Recording, until_ns: Nanos, name: str = BTC) -> L2Book:
    """Build a book by its events up to an instant."""
    book = L2Book(name)
    for now_ns, message in recording.messages(instruments=name, channels=["book"]):
        if now_ns > until_ns:
            break
        apply(book, decode(message))
    return book


def same(book: L2Book, other: L2Book) -> bool:
    """Tell whether two books say the same, in whatever scale."""
    sides = (Side.BUY, Side.SELL)
    return (book.state, book.id_last, book.epoch, *(book.texts(side) for side in sides)) == (
        other.state,
        other.id_last,
        other.epoch,
        *(other.texts(side) for side in sides),
    )
