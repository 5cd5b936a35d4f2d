"""Best bids and asks after every message, and bars: computed from the exact books of a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.core.book import L2Book, Top
from raytrade.core.clock import Nanos
from raytrade.core.events import Flag
from raytrade.core.message import Kind, Message, decode
from raytrade.replay import Timed, apply
from raytrade.storage.schema import DECIMAL, decimal_column

BBO = pa.schema(
    [
        ("instrument", pa.dictionary(pa.int32(), pa.string())),
        ("ts_ns", pa.int64()),
        ("ts_recv_ns", pa.int64()),
        ("ts_venue_ns", pa.int64()),
        ("epoch", pa.int64()),
        ("id_last", pa.int64()),
        ("bid", DECIMAL),
        ("bid_size", DECIMAL),
        ("ask", DECIMAL),
        ("ask_size", DECIMAL),
    ]
)
"""The best levels after one message. `ts_ns`: when it was given out, never earlier than the message before."""

MID = pa.decimal128(38, 19)
"""Half-way between two prices needs one digit more."""

BARS = pa.schema(
    [
        ("ts_ns", pa.int64()),
        ("open", DECIMAL),
        ("high", DECIMAL),
        ("low", DECIMAL),
        ("close", DECIMAL),
        ("volume", DECIMAL),
        ("trades", pa.int64()),
        ("bid", DECIMAL),
        ("ask", DECIMAL),
        ("mid", MID),
    ]
)
"""`ts_ns`: the bar's start. Bid, ask and mid are those at its end."""

ROWS_AT_ONCE = 65_536
_BOOK_KINDS = (Kind.DELTA, Kind.SNAPSHOT)
_NO_TOP = (0, 0, 0, 0)


class _Block:
    """Quotes in one pair of scales."""

    def __init__(self) -> None:
        self.scales: tuple[int, int] | None = None
        self.times: list[tuple[int, ...]] = []
        self.tops: list[tuple[int, ...]] = []

    def takes(self, top: Top | None) -> bool:
        """Tell whether the quote can stand in this block."""
        fits = top is None or self.scales in (None, (top.price_scale, top.size_scale))
        return fits and len(self.times) < ROWS_AT_ONCE

    def add(self, now_ns: Nanos, message: Message, top: Top | None) -> None:
        """Add the quote after a message."""
        self.times.append((now_ns, message.ts_recv_ns, message.ts_venue_ns, message.epoch, message.id_last))
        if top is None:
            self.tops.append(_NO_TOP)
        else:
            self.scales = top.price_scale, top.size_scale
            self.tops.append((top.bid_ticks, top.bid_lots, top.ask_ticks, top.ask_lots))

    def table(self, instrument: str) -> pa.RecordBatch:
        """Give the block as rows of `BBO`."""
        times = np.array(self.times, np.int64)
        is_missing = [top is _NO_TOP for top in self.tops]
        scales = self.scales or (0, 0)
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(times), np.int32)), pa.array([instrument]))
        columns = [
            _decimals([top[place] for top in self.tops], scales[place % 2], is_missing) for place in range(len(_NO_TOP))
        ]
        return pa.RecordBatch.from_arrays([names, *(pa.array(column) for column in times.T), *columns], schema=BBO)


def _decimals(values: list[int], scale: int, is_missing: list[bool]) -> pa.Array:
    try:
        column = decimal_column(np.array(values, np.int64), scale)
    except OverflowError:
        return pa.array([None if no else _exact(v, scale) for v, no in zip(values, is_missing, strict=True)], DECIMAL)
    return pc.if_else(pa.array(is_missing), pa.scalar(None, DECIMAL), column) if any(is_missing) else column


def _exact(value: int, scale: int) -> Decimal:
    return Decimal(f"{value}E-{scale}")


def quotes_of(instrument: str, messages: Iterable[Timed], start_ns: Nanos, end_ns: Nanos) -> Iterator[pa.RecordBatch]:
    """Give the quotes after the messages with a time in ``[start_ns, end_ns)``, as rows of `BBO`."""
    book, block = L2Book(instrument), _Block()
    for now_ns, message in messages:
        if now_ns >= end_ns:
            break
        apply(book, decode(message))
        if now_ns < start_ns or message.kind not in _BOOK_KINDS:
            continue
        top = book.top()
        if not block.takes(top):
            yield block.table(instrument)
            block = _Block()
        block.add(now_ns, message, top)
    if block.times:
        yield block.table(instrument)


def quotes_table(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Put the quotes into one table."""
    return pa.Table.from_batches(list(batches), BBO)


def bars_of(trades: pa.Table, step_ns: Nanos, messages: Iterable[Timed], instrument: str) -> pa.Table:
    """Give the bars of `step_ns` of the trades; `messages` are those of the book, from a whole book on."""
    is_live = np.bitwise_and(trades.column("flags").to_numpy(), int(Flag.HISTORY)) == 0
    trades = trades.filter(pa.array(is_live))
    starts = trades.column("ts_recv_ns").to_numpy() // step_ns * step_ns
    order = np.argsort(starts, kind="stable")
    starts, trades = starts[order], trades.take(pa.array(order))
    bars, first, counts = np.unique(starts, return_index=True, return_counts=True)
    priced = pa.table({"bar": starts, "price": trades.column("price"), "size": trades.column("size")})
    wanted = [("price", "max"), ("price", "min"), ("size", "sum")]
    ranges = priced.group_by("bar", use_threads=False).aggregate(wanted)
    tops = [*_tops_at([int(bar) + step_ns for bar in bars], messages, instrument)]
    quotes = [(None, None, None) if top is None else _bid_ask_mid(top) for top in tops]
    bid, ask, mid = ([quote[place] for quote in quotes] for place in range(3))
    price = trades.column("price").combine_chunks()
    return pa.table(
        [
            pa.array(bars, pa.int64()),
            price.take(pa.array(first)),
            ranges.column("price_max"),
            ranges.column("price_min"),
            price.take(pa.array(first + counts - 1)),
            ranges.column("size_sum").cast(DECIMAL),
            pa.array(counts, pa.int64()),
            pa.array(bid, DECIMAL),
            pa.array(ask, DECIMAL),
            pa.array(mid, MID),
        ],
        schema=BARS,
    )


def _tops_at(ends: list[Nanos], messages: Iterable[Timed], instrument: str) -> Iterator[Top | None]:
    """Give the best levels just before each instant."""
    book, at = L2Book(instrument), 0
    for now_ns, message in messages:
        while at < len(ends) and now_ns >= ends[at]:
            yield book.top()
            at += 1
        if at == len(ends):
            return
        apply(book, decode(message))
    for _ in ends[at:]:
        yield book.top()


def _bid_ask_mid(top: Top) -> tuple[Decimal, Decimal, Decimal]:
    scale = top.price_scale
    middle = _exact(5 * (top.bid_ticks + top.ask_ticks), scale + 1)
    return _exact(top.bid_ticks, scale), _exact(top.ask_ticks, scale), middle
