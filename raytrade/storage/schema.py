"""The columns of the recorded tables, and messages turned into them without a Python object per row.

`book` has one row per level: a message of n levels is n rows, the last of which has `is_last`; a message without
levels is one row without side, price and size. Prices and sizes are exact `DECIMAL(38, 18)`. `index` is the
recorder's own dense count of messages per stream, so that a lost segment shows whatever the venue's ids do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from raytrade.core.events import Channel, Flag, Gap, Resynced, Side, Stalled, Trade
from raytrade.core.message import Kind, Message, decode
from raytrade.core.prices import FRACTION_DIGITS_MAX

TABLE_VERSION = 2
"""2: with the column `checksum`."""
OLDEST_VERSION = 1
"""What is still read; `raytrade compact` writes such files anew."""
DECIMAL = pa.decimal128(38, FRACTION_DIGITS_MAX)
_TEXT = pa.dictionary(pa.int32(), pa.string())
_METADATA = {b"raytrade.table_version": str(TABLE_VERSION).encode()}

_COMMON = [
    ("index", pa.int64()),
    ("ts_venue_ns", pa.int64()),
    ("ts_recv_ns", pa.int64()),
    ("line", _TEXT),
]

BOOK = pa.schema(
    [
        *_COMMON,
        ("epoch", pa.int64()),
        ("id_prev", pa.int64()),
        ("id_last", pa.int64()),
        ("is_snapshot", pa.bool_()),
        ("is_last", pa.bool_()),
        ("side", _TEXT),
        ("price", DECIMAL),
        ("size", DECIMAL),
        ("price_scale", pa.int8()),
        ("size_scale", pa.int8()),
        ("depth", pa.int32()),
        ("flags", pa.int16()),
        ("checksum", pa.uint32()),
    ],
    metadata=_METADATA,
)
ADDED = frozenset({"checksum"})
"""Columns that came after the first recordings: where a file has none of them they are 0.

`checksum`: the venue's own checksum of the book after the message, where the flag `CHECKED` is set.
"""
TRADES = pa.schema(
    [
        *_COMMON,
        ("trade_id", pa.string()),
        ("sequence", pa.int64()),
        ("aggressor", _TEXT),
        ("price", DECIMAL),
        ("size", DECIMAL),
        ("price_scale", pa.int8()),
        ("size_scale", pa.int8()),
        ("flags", pa.int16()),
    ],
    metadata=_METADATA,
)
STATES = pa.schema(
    [
        ("instrument", pa.string()),
        ("channel", pa.string()),
        ("index", pa.int64()),
        ("ts_recv_ns", pa.int64()),
        ("state", pa.string()),
        ("epoch", pa.int64()),
        ("id_last", pa.int64()),
        ("cause", pa.string()),
    ],
    metadata=_METADATA,
)
"""When a stream was not to be trusted though nothing was lost: `stalled`, and `resynced` when that was over.

A row stands before the message with its index.
"""
GAPS = pa.schema(
    [
        ("instrument", pa.string()),
        ("channel", pa.string()),
        ("ts_recv_ns", pa.int64()),
        ("kind", pa.string()),
        ("epoch", pa.int64()),
        ("id_prev", pa.int64()),
        ("id_last", pa.int64()),
        ("cause", pa.string()),
        ("lines", pa.string()),
    ],
    metadata=_METADATA,
)

_RISING = ["index", "ts_venue_ns", "ts_recv_ns", "epoch", "id_prev", "id_last"]


def writing_of(schema: pa.Schema) -> dict[str, Any]:
    """Give how the columns of a table are written: differences of what rises, dictionaries of all else.

    Prices and sizes stay in dictionaries, as 18 digits leave no bytes in common to split or to subtract.
    """
    rising = [name for name in _RISING if name in schema.names]
    return {
        "use_dictionary": [name for name in schema.names if name not in rising],
        "column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED"),
    }


_HEAD = np.dtype(
    [
        ("length", "<u4"),
        ("kind", "u1"),
        ("channel", "u1"),
        ("price_scale", "u1"),
        ("size_scale", "u1"),
        ("name_bytes", "u1"),
        ("line_bytes", "u1"),
        ("flags", "<u2"),
        ("id_prev", "<i8"),
        ("id_last", "<i8"),
        ("epoch", "<i8"),
        ("ts_venue_ns", "<i8"),
        ("ts_recv_ns", "<i8"),
        ("state_hash", "<u8"),
        ("depth", "<u4"),
        ("bids", "<u4"),
        ("asks", "<u4"),
    ]
)
"""The header of a message (`raytrade.core.message.HEADER`) as numpy reads it: all fields of a thousand at once."""
_SIDES = pa.array(["bid", "ask"])
_AGGRESSORS = {Side.NONE: None, Side.BUY: "buy", Side.SELL: "sell"}


def decimal_column(values: np.ndarray, scale: int) -> pa.Array:
    """Read 64-bit integers in `scale` as exact decimals of the tables' type."""
    wide = pa.array(values, pa.int64()).cast(pa.decimal128(38, 0))
    return wide.view(pa.decimal128(38, scale)).cast(DECIMAL)


def _wide_decimals(values: list[int], scale: int) -> pa.Array:
    factor = 10 ** (FRACTION_DIGITS_MAX - scale)
    buffer = b"".join((value * factor).to_bytes(16, "little", signed=True) for value in values)
    return pa.Array.from_buffers(DECIMAL, len(values), [None, pa.py_buffer(buffer)])


def _dictionary(codes: np.ndarray, values: pa.Array, missing: np.ndarray | None = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=missing), values)


def book_rows(messages: list[Message], indexes: list[int]) -> pa.RecordBatch:
    """Turn snapshots and deltas of one stream, all in one scale and equally wide, into rows of `BOOK`."""
    heads = np.frombuffer(b"".join([message.raw[: _HEAD.itemsize] for message in messages]), _HEAD)
    bid_counts = heads["bids"].astype(np.int64)
    level_counts = bid_counts + heads["asks"]
    row_counts = np.maximum(level_counts, 1)
    ends = np.cumsum(row_counts)
    is_last = np.zeros(int(ends[-1]), bool)
    is_last[ends - 1] = True
    within = np.arange(len(is_last)) - np.repeat(ends - row_counts, row_counts)
    empty = np.repeat(level_counts == 0, row_counts)
    is_ask = within >= np.repeat(bid_counts, row_counts)

    def repeated(values: np.ndarray) -> pa.Array:
        return pa.array(np.repeat(values, row_counts))

    names = [message.line for message in messages]
    lines = {line: code for code, line in enumerate(dict.fromkeys(names))}
    codes = np.array([lines[name] for name in names])
    prices, sizes = _level_columns(messages, empty)
    columns = [
        repeated(np.array(indexes, np.int64)),
        repeated(heads["ts_venue_ns"]),
        repeated(heads["ts_recv_ns"]),
        _dictionary(np.repeat(codes, row_counts), pa.array(list(lines))),
        repeated(heads["epoch"]),
        repeated(heads["id_prev"]),
        repeated(heads["id_last"]),
        repeated(heads["kind"] == Kind.SNAPSHOT),
        pa.array(is_last),
        _dictionary(is_ask, _SIDES, empty),
        prices,
        sizes,
        repeated(_narrow(heads["price_scale"], np.int8)),
        repeated(_narrow(heads["size_scale"], np.int8)),
        repeated(_narrow(heads["depth"], np.int32)),
        repeated(_narrow(heads["flags"], np.int16)),
        repeated(_narrow(np.where(heads["flags"] & Flag.CHECKED, heads["state_hash"], 0), np.uint32)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=BOOK)


def _narrow(values: np.ndarray, kind: type[np.generic]) -> np.ndarray:
    """Give the values in a narrower type.

    Raises:
        OverflowError: one does not fit.
    """
    narrow: np.ndarray = values.astype(kind)
    if not np.array_equal(narrow, values):
        raise OverflowError(f"a value of a message does not fit in {kind.__name__}")
    return narrow


def _level_columns(messages: list[Message], empty: np.ndarray) -> tuple[pa.Array, pa.Array]:
    first = messages[0]
    if first.flags & Flag.WIDE:
        flat = [value for message in messages for side in message.levels() for value in side]
        prices = _wide_decimals(flat[::2], first.price_scale)
        sizes = _wide_decimals(flat[1::2], first.size_scale)
    else:
        body = b"".join([message.raw[message.body_start :] for message in messages])
        levels = np.frombuffer(body, "<i8")
        prices = decimal_column(levels[::2], first.price_scale)
        sizes = decimal_column(levels[1::2], first.size_scale)
    if not empty.any():
        return prices, sizes
    where = pa.array(np.cumsum(~empty) - 1, mask=empty)
    return prices.take(where), sizes.take(where)


def trade_rows(messages: list[Message], indexes: list[int]) -> pa.RecordBatch:
    """Turn trades of one stream into rows of `TRADES`."""
    trades = [decode(message) for message in messages]
    assert all(isinstance(trade, Trade) for trade in trades)
    rows: list[Trade] = trades  # type: ignore[assignment]
    columns = [
        pa.array(indexes, pa.int64()),
        pa.array([trade.ts_venue_ns for trade in rows], pa.int64()),
        pa.array([trade.ts_recv_ns for trade in rows], pa.int64()),
        pa.array([message.line for message in messages]).dictionary_encode(),
        pa.array([trade.trade_id for trade in rows], pa.string()),
        pa.array([trade.sequence for trade in rows], pa.int64()),
        pa.array([_AGGRESSORS[trade.aggressor] for trade in rows], pa.string()).dictionary_encode(),
        _wide_decimals_mixed([(trade.price, trade.price_scale) for trade in rows]),
        _wide_decimals_mixed([(trade.size, trade.size_scale) for trade in rows]),
        pa.array([trade.price_scale for trade in rows], pa.int8()),
        pa.array([trade.size_scale for trade in rows], pa.int8()),
        pa.array([trade.flags for trade in rows], pa.int16()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)


def _wide_decimals_mixed(values: list[tuple[int, int]]) -> pa.Array:
    return _wide_decimals([value * 10 ** (FRACTION_DIGITS_MAX - scale) for value, scale in values], FRACTION_DIGITS_MAX)


def state_rows(states: list[tuple[int, Stalled | Resynced]]) -> pa.RecordBatch:
    """Turn what was said of streams, each before the message with the index beside it, into rows of `STATES`."""
    rows = [
        {
            "instrument": event.instrument,
            "channel": Channel(event.channel).name.lower(),
            "index": index,
            "ts_recv_ns": event.ts_recv_ns,
            "state": type(event).__name__.lower(),
            "epoch": event.epoch if isinstance(event, Resynced) else 0,
            "id_last": event.id_last if isinstance(event, Resynced) else 0,
            "cause": event.cause if isinstance(event, Stalled) else "",
        }
        for index, event in states
    ]
    return pa.RecordBatch.from_pylist(rows, schema=STATES)


def gap_rows(gaps: list[Gap]) -> pa.RecordBatch:
    """Turn gaps into rows of `GAPS`."""
    rows = [
        {
            "instrument": gap.instrument,
            "channel": Channel(gap.channel).name.lower(),
            "ts_recv_ns": gap.ts_recv_ns,
            "kind": gap.kind.name.lower(),
            "epoch": gap.epoch,
            "id_prev": gap.id_prev,
            "id_last": gap.id_last,
            "cause": gap.cause,
            "lines": " ".join(gap.lines),
        }
        for gap in gaps
    ]
    return pa.RecordBatch.from_pylist(rows, schema=GAPS)
