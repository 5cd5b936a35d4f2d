"""Rows of the recorded tables turned back into messages, or into events, whole columns at a time.

The inverse of `raytrade.storage.schema`: levels go from decimal columns straight into the bytes of a message, or into
the levels of an event, without a Python object per row. Events are what a replay wants: to make the bytes only to read
them again takes longer than all else. What a file does not hold (the venue's checksum, in the first ones) is not
claimed: `CHECKED` is taken off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Side, Trade
from raytrade.core.message import HEADER, Kind, Message, decode
from raytrade.core.prices import FRACTION_DIGITS_MAX
from raytrade.errors import StorageError

LINE = "recording"
"""The line that messages read from a recording come from."""

BOOK_COLUMNS = [
    "index",
    "ts_venue_ns",
    "ts_recv_ns",
    "epoch",
    "id_prev",
    "id_last",
    "is_snapshot",
    "is_last",
    "side",
    "price",
    "size",
    "price_scale",
    "size_scale",
    "depth",
    "flags",
    "checksum",
]
TRADE_COLUMNS = [
    "index",
    "ts_venue_ns",
    "ts_recv_ns",
    "trade_id",
    "sequence",
    "aggressor",
    "price",
    "size",
    "price_scale",
    "size_scale",
    "flags",
]
COLUMNS = {Channel.BOOK: BOOK_COLUMNS, Channel.TRADES: TRADE_COLUMNS}

HEADERS = np.dtype(
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
        ("bid_count", "<u4"),
        ("ask_count", "<u4"),
    ]
)
"""The header of a message (`raytrade.core.message.HEADER`) as a row of an array."""

_LEVEL_BYTES = 16
_FIVES = np.array([pow(5**digits, -1, 2**64) for digits in range(FRACTION_DIGITS_MAX + 1)], np.uint64)
_TENS = np.array([10.0**digits for digits in range(FRACTION_DIGITS_MAX + 1)])
_NEARLY_WIDE = 2.0**63 * (1 - 1e-9)
_OF_LEVELS = ("side", "price", "size", "is_last")
_PLAIN_FLAGS = 0xFFFF & ~(Flag.CHECKED | Flag.WIDE)
_KINDS = {int(kind): kind for kind in Kind}
_CHANNELS = {int(channel): channel for channel in Channel}

Rows = dict[str, np.ndarray]
Numbered = tuple[int, Message]
"""A message and its index in the recording."""

NumberedEvent = tuple[int, BookDelta | BookSnapshot | Trade]
"""An event and its index in the recording."""


def words_of(column: pa.Array) -> np.ndarray:
    """Give the 128-bit values of a decimal column as (low, high) pairs of 64-bit words."""
    words = np.frombuffer(column.buffers()[1], "<u8")
    return words[2 * column.offset : 2 * (column.offset + len(column))].reshape(-1, 2)


def integers_of(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Give decimals with 18 digits as 64-bit integers in the scale of each row; exact where they fit in 64 bits.

    The values are multiples of ten to the digits dropped, so dividing is a shift and a product modulo 2**64.

    Raises:
        ValueError: a value has more digits than its scale, or does not fit.
    """
    low, high = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
    digits: Any = (FRACTION_DIGITS_MAX - scales).astype(np.uint64)
    if len(digits) and (digits == digits[0]).all():
        digits = digits[0]  # one scale for all, as nearly always: numbers instead of columns of them
    is_whole = digits == 0
    rest = np.uint64(64) - digits
    shifted = (low >> digits) | np.where(is_whole, np.uint64(0), high << (rest & np.uint64(63)))
    values: np.ndarray = (shifted * _FIVES[digits]).view(np.int64)
    truth = high.view(np.int64) * 2.0**64 + low
    # Written this way a NaN does not pass either.
    if not (np.abs(values * _TENS[digits] - truth) <= 1.0 + 1e-9 * np.abs(truth)).all():
        raise ValueError("a price or size does not fit its scale")
    return values


def _codes(column: pa.Array, values: dict[str, int]) -> np.ndarray:
    """Give the numbers that stand for the texts of a column; 0 for a missing one."""
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    table = np.array([*(values.get(str(text), 0) for text in encoded.dictionary.to_pylist()), 0], np.int8)
    indices = encoded.indices.fill_null(len(table) - 1)
    codes: np.ndarray = table[indices.to_numpy(zero_copy_only=False)]
    return codes


def _rows_of(batch: pa.RecordBatch, codes: dict[str, dict[str, int]]) -> Rows:
    rows: Rows = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if name in ("price", "size"):
            rows[name] = words_of(column)
        elif name in codes:
            rows[name] = _codes(column, codes[name])
        else:
            rows[name] = column.to_numpy(zero_copy_only=False)
    return rows


_SIDES = {"side": {"bid": 1, "ask": 2}}
_AGGRESSORS = {"aggressor": {"buy": int(Side.BUY), "sell": int(Side.SELL)}}


def book_messages(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[list[Numbered]]:
    """Give the snapshots and deltas of rows of `BOOK`, each with its index; a message may go over several batches.

    Raises:
        StorageError: the rows are not whole messages, or a value does not fit its scale.
    """
    return (_book_block(instrument, Parts(rows, ends, path)) for rows, ends in whole_messages(batches, path))


def book_events(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[list[NumberedEvent]]:
    """Give the same as events.

    Raises:
        StorageError: the rows are not whole messages, or a value does not fit its scale.
    """
    return (events_of(instrument, Parts(rows, ends, path)) for rows, ends in whole_messages(batches, path))


def whole_messages(batches: Iterable[pa.RecordBatch], path: str) -> Iterator[tuple[Rows, np.ndarray]]:
    """Give rows that are whole messages, and where each ends.

    Raises:
        StorageError: the last message is not whole.
    """
    rest: Rows = {}
    for batch in batches:
        rows = _rows_of(batch, _SIDES)
        ends = np.flatnonzero(rows["is_last"]) + 1
        if rest and len(rest["index"]):
            # What a batch begins with is put together by itself: copying whole columns would cost more.
            first = int(ends[0]) if len(ends) else batch.num_rows
            head = {name: np.concatenate((rest[name], values[:first])) for name, values in rows.items()}
            if not len(ends):
                rest = head
                continue
            yield head, np.array([len(head["index"])])
            rows, ends = {name: values[first:] for name, values in rows.items()}, ends[1:] - first
        whole = int(ends[-1]) if len(ends) else 0
        if whole:
            yield {name: values[:whole] for name, values in rows.items()}, ends
        rest = {name: values[whole:] for name, values in rows.items()}
    if rest and len(rest["index"]):
        raise StorageError(path, f"ends in the middle of message {rest['index'][0]}")


class Parts:
    """Rows of whole messages taken apart: what stands once a message, how many levels, and the levels as integers.

    Raises:
        StorageError: the rows are not whole messages, or a value does not fit its scale.
    """

    __slots__ = ("asks", "bids", "first", "is_wide", "level_counts", "levels", "rows", "starts")

    def __init__(self, rows: Rows, ends: np.ndarray, path: str) -> None:
        starts = self.starts = np.concatenate(([0], ends[:-1]))
        side = rows["side"]
        self.rows = rows
        self.bids = np.add.reduceat(side == 1, starts, dtype=np.int64)
        self.asks = np.add.reduceat(side == 2, starts, dtype=np.int64)
        self.first = {name: values[starts] for name, values in rows.items() if name not in _OF_LEVELS}
        self.level_counts = self.bids + self.asks
        is_whole = np.array_equal(np.maximum(self.level_counts, 1), ends - starts)
        if not is_whole or np.any(self.first["index"] != rows["index"][ends - 1]):
            raise StorageError(path, "is damaged: rows that are not whole messages")
        self.is_wide = self.first["flags"] & Flag.WIDE != 0
        self.levels = _levels(rows, np.repeat(self.is_wide, ends - starts) | (side == 0), path)

    def flags(self) -> np.ndarray:
        """Give the flags that may be claimed."""
        kept = _PLAIN_FLAGS | int(Flag.CHECKED) if "checksum" in self.first else _PLAIN_FLAGS
        return self.first["flags"].astype(np.uint16) & kept


def _book_block(instrument: str, parts: Parts) -> list[Numbered]:
    starts, level_counts, first, is_wide = parts.starts, parts.level_counts, parts.first, parts.is_wide
    headers = _headers(instrument, len(starts))
    for name in ("id_prev", "id_last", "epoch", "ts_venue_ns", "ts_recv_ns", "depth", "price_scale", "size_scale"):
        headers[name] = first[name]
    headers["kind"] = np.where(first["is_snapshot"], int(Kind.SNAPSHOT), int(Kind.DELTA))
    headers["channel"] = int(Channel.BOOK)
    headers["flags"] = parts.flags() | np.where(is_wide, int(Flag.WIDE), 0)
    headers["state_hash"] = first.get("checksum", 0)
    headers["bid_count"], headers["ask_count"] = parts.bids, parts.asks
    headers["length"] += (level_counts * np.where(is_wide, 2 * _LEVEL_BYTES, _LEVEL_BYTES)).astype(np.uint32)
    levels = parts.levels.tobytes()
    bounds = zip((_LEVEL_BYTES * starts).tolist(), (_LEVEL_BYTES * (starts + level_counts)).tolist(), strict=True)
    bodies = [levels[at:end] for at, end in bounds]
    for at in np.flatnonzero(is_wide).tolist():
        values = _wide_values(parts.rows, int(starts[at]), int(starts[at] + level_counts[at]))
        bodies[at] = b"".join(value.to_bytes(16, "little", signed=True) for value in values)
    return _assemble(instrument, headers, bodies, first["index"].tolist())


def events_of(instrument: str, parts: Parts, first: int = 0, last: int | None = None) -> list[NumberedEvent]:
    """Give whole messages, from `first` to before `last`, as events, each with its index."""
    chosen = slice(first, last)
    heads = {name: values[chosen] for name, values in parts.first.items()}
    starts, level_counts = parts.starts[chosen], parts.level_counts[chosen]
    rows_from = int(starts[0])
    flat = tuple(parts.levels[rows_from : int(starts[-1] + level_counts[-1])].ravel().tolist())
    names = ("index", "is_snapshot", "id_prev", "id_last", "epoch", "ts_venue_ns", "ts_recv_ns", "depth")
    columns = [heads[name].tolist() for name in (*names, "price_scale", "size_scale")]
    hashes = heads.get("checksum", np.zeros(len(starts), np.int64))
    places = 2 * (starts - rows_from)
    middles, ends = places + 2 * parts.bids[chosen], places + 2 * level_counts
    bounds = (places, middles, ends, parts.flags()[chosen], parts.is_wide[chosen], hashes)
    events: list[NumberedEvent] = []
    for (
        index, is_snapshot, id_prev, id_last, epoch, ts_venue_ns, ts_recv_ns, depth, price_scale, size_scale,
        start, middle, end, flags, is_wide, state_hash,
    ) in zip(*columns, *(bound.tolist() for bound in bounds), strict=True):  # fmt: skip
        bids, asks = flat[start:middle], flat[middle:end]
        if is_wide:
            values = tuple(_wide_values(parts.rows, rows_from + start // 2, rows_from + end // 2))
            bids, asks = values[: middle - start], values[middle - start :]
        if is_snapshot:
            event: BookDelta | BookSnapshot = BookSnapshot(
                instrument=instrument,
                id_last=id_last,
                bids=bids,
                asks=asks,
                price_scale=price_scale,
                size_scale=size_scale,
                ts_venue_ns=ts_venue_ns,
                ts_recv_ns=ts_recv_ns,
                epoch=epoch,
                depth=depth,
                state_hash=state_hash,
                flags=flags,
            )
        else:
            event = BookDelta(
                instrument=instrument,
                id_prev=id_prev,
                id_last=id_last,
                bids=bids,
                asks=asks,
                price_scale=price_scale,
                size_scale=size_scale,
                ts_venue_ns=ts_venue_ns,
                ts_recv_ns=ts_recv_ns,
                epoch=epoch,
                state_hash=state_hash,
                flags=flags,
            )
        events.append((index, event))
    return events


def _is_wide(rows: Rows) -> np.ndarray:
    """Tell of each row whether its price or size needs more than 64 bits; the flag is not in the table of trades."""
    is_wide = np.zeros(len(rows["index"]), bool)
    for name in ("price", "size"):
        values = np.ascontiguousarray(rows[name][:, 1]).view(np.int64) * 2.0**64 + rows[name][:, 0]
        is_wide |= np.abs(values) / _TENS[FRACTION_DIGITS_MAX - rows[f"{name}_scale"]] >= _NEARLY_WIDE
    return is_wide


def _levels(rows: Rows, is_other: np.ndarray, path: str) -> np.ndarray:
    """Give price and size of each row in 64 bits each; rows that are no plain levels count as zero."""
    levels = np.empty((len(is_other), 2), "<i8")
    has_others = bool(is_other.any())
    for at, name in enumerate(("price", "size")):
        words = np.where(is_other[:, None], np.uint64(0), rows[name]) if has_others else rows[name]
        try:
            levels[:, at] = integers_of(words, rows[f"{name}_scale"])
        except ValueError as error:
            raise StorageError(path, f"is damaged: {error}") from None
    return levels


def _wide_values(rows: Rows, start: int, end: int) -> Iterator[int]:
    for at in range(start, end):
        for name in ("price", "size"):
            low, high = rows[name][at].tolist()
            value = low | high << 64
            value -= (value >> 127) << 128
            yield value // 10 ** (FRACTION_DIGITS_MAX - int(rows[f"{name}_scale"][at]))


def _headers(instrument: str, count: int) -> np.ndarray:
    headers = np.zeros(count, HEADERS)
    headers["name_bytes"], headers["line_bytes"] = len(instrument.encode()), len(LINE)
    headers["length"] = HEADER.size + len(instrument.encode()) + len(LINE)
    return headers


def _assemble(instrument: str, headers: np.ndarray, bodies: list[bytes], indexes: list[int]) -> list[Numbered]:
    packed, step = headers.tobytes(), HEADER.size
    names = instrument.encode() + LINE.encode()
    body_start = step + len(names)
    messages = []
    at = 0
    fields: tuple[Any, ...]
    for fields, body, index in zip(headers.tolist(), bodies, indexes, strict=True):
        head, at = packed[at : at + step], at + step
        message = Message(
            _KINDS[fields[1]],
            _CHANNELS[fields[2]],
            fields[7],
            instrument,
            LINE,
            fields[8],
            fields[9],
            fields[10],
            fields[11],
            fields[12],
            fields[13],
            fields[14],
            fields[3],
            fields[4],
            fields[15],
            fields[16],
            body_start,
            b"".join((head, names, body)),
        )
        messages.append((index, message))
    return messages


def trade_messages(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[list[Numbered]]:
    """Give the trades of rows of `TRADES`, each with its index.

    Raises:
        StorageError: a value does not fit its scale.
    """
    for batch in batches:
        if batch.num_rows:
            trade_ids = [str(trade_id).encode() for trade_id in batch.column("trade_id").to_pylist()]
            yield _trade_block(instrument, _rows_of(batch.drop_columns(["trade_id"]), _AGGRESSORS), trade_ids, path)


def _trade_block(instrument: str, rows: Rows, trade_ids: list[bytes], path: str) -> list[Numbered]:
    count = len(trade_ids)
    is_wide = _is_wide(rows)
    headers = _headers(instrument, count)
    for name in ("ts_venue_ns", "ts_recv_ns", "price_scale", "size_scale"):
        headers[name] = rows[name]
    headers["kind"], headers["channel"], headers["bid_count"] = int(Kind.TRADE), int(Channel.TRADES), 1
    headers["id_last"], headers["id_prev"] = rows["sequence"], np.maximum(rows["sequence"] - 1, 0)
    headers["depth"] = rows["aggressor"]
    headers["flags"] = rows["flags"].astype(np.uint16) & _PLAIN_FLAGS | np.where(is_wide, int(Flag.WIDE), 0)
    levels = _levels(rows, is_wide, path).tobytes()
    places = range(0, len(levels), _LEVEL_BYTES)
    bodies = [levels[at : at + _LEVEL_BYTES] + tail for at, tail in zip(places, trade_ids, strict=True)]
    for at in np.flatnonzero(is_wide).tolist():
        wide = (value.to_bytes(16, "little", signed=True) for value in _wide_values(rows, at, at + 1))
        bodies[at] = b"".join(wide) + trade_ids[at]
    headers["length"] += np.array([len(body) for body in bodies], np.uint32)
    return _assemble(instrument, headers, bodies, rows["index"].tolist())


def trade_events(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[list[NumberedEvent]]:
    """Give the same as events.

    Raises:
        StorageError: a value does not fit its scale.
    """
    for block in trade_messages(instrument, batches, path):
        yield [(index, decode(message)) for index, message in block]  # type: ignore[misc]


MESSAGES = {Channel.BOOK: book_messages, Channel.TRADES: trade_messages}
EVENTS = {Channel.BOOK: book_events, Channel.TRADES: trade_events}
