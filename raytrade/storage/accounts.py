"""`Account`: counts the rows of one stream, in the order of the index, into one certificate per hour.

The recorder's sink feeds it what it has just written, verification feeds it what it has read; both get the same
certificates, or something is wrong with the files. Whole columns at a time: nothing is done per message but at breaks
of the ids, and once per level for the state of the book.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
import pyarrow as pa

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag
from raytrade.storage.breaks import CHAINED, Chain, rule_or_none
from raytrade.storage.certificates import HASH_BYTES, HOUR_NS, Certificate, Checkpoint, hour_text
from raytrade.storage.states import FoldedBook

CHECKPOINT_NS: Nanos = 10 * SECOND

_SIDES = {"bid": 1, "ask": 2, "buy": 1, "sell": 2}
_COMMON = {name: name for name in ("index", "ts_venue_ns", "ts_recv_ns", "flags")}
_HEADS = {
    Channel.BOOK: {**_COMMON, "id": "id_last", "id_prev": "id_prev", "is_snapshot": "is_snapshot"},
    Channel.TRADES: {**_COMMON, "id": "sequence"},
}
"""What is read of each message, and the column it stands in."""

Parts = Callable[[int, np.ndarray], np.ndarray]
"""Tells of the messages of an hour which certificate each belongs to, by index: 0 for the first one, and so on."""


class _Hour:
    """What is known of one hour, for one certificate."""

    def __init__(self) -> None:
        self.index_first = self.index_last = -1
        self.first_id = self.last_id = 0
        self.messages = self.rows = self.snapshots = self.unapplied = self.checksums = 0
        self.missing: list[tuple[int, int]] = []
        self.lines: dict[str, int] = {}
        self.silence_ns: Nanos = 0
        self.ts_last_ns: Nanos | None = None
        self.states: list[Checkpoint] = []
        self._hashes: dict[str, Any] = {}

    def hash(self, name: str, values: np.ndarray) -> None:
        digest = self._hashes.get(name)
        if digest is None:
            digest = self._hashes[name] = sha256()
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)

    def content(self) -> str:
        digest = sha256()
        for name, column in sorted(self._hashes.items()):
            digest.update(name.encode() + column.digest())
        return digest.hexdigest()[: 2 * HASH_BYTES]


class Head(msgspec.Struct, frozen=True):
    """Where the folded book stands: behind the message `index`, with the finest scales and the depth known so far."""

    index: int
    id_last: int
    epoch: int
    ts_venue_ns: Nanos
    ts_recv_ns: Nanos
    price_scale: int
    size_scale: int
    depth: int


class _Folding(NamedTuple):
    """Rows to be folded: `starts` and `ends` are the rows of each message, `torn` the breaks of the ids."""

    columns: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    is_applied: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    torn: list[int]


class Account:
    """One stream of one start of a recorder."""

    def __init__(self, instrument: str, channel: Channel, parts: Parts) -> None:
        self.instrument = instrument
        self.channel = channel
        self.hours: dict[tuple[int, int], _Hour] = {}
        """By hours since 1970 and number of the certificate."""
        self.index_next: int | None = None
        self.index_holes: list[tuple[int, int]] = []
        self._parts = parts
        rule = rule_or_none(instrument, channel)
        self._chain = Chain(rule) if rule in CHAINED and rule is not None else None
        self.book = FoldedBook()
        self.head: Head | None = None
        self._checkpoint: int | None = None
        self._last: tuple[int, int] | None = None

    def take(self, table: pa.Table) -> None:
        """Count rows; they must be whole messages in the order of the index, behind all that was counted."""
        if not table.num_rows:
            return
        columns = {name: _column(name, table.column(name)) for name in table.column_names}
        index = columns["index"]
        ends = np.flatnonzero(np.append(index[1:] != index[:-1], True))
        heads = {name: columns[source][ends] for name, source in _HEADS[self.channel].items()}
        hours = np.where(heads["ts_venue_ns"] > 0, heads["ts_venue_ns"], heads["ts_recv_ns"]) // HOUR_NS
        keys = self._keys(hours, heads["index"])
        self._note_index(heads["index"])
        self._note_breaks(heads, keys)
        row_counts = np.diff(np.concatenate(([-1], ends)))
        line_names = _line_names(table)
        for key in dict.fromkeys(keys):
            mine = np.ones(len(keys), bool) if keys.count(key) == len(keys) else np.array([at == key for at in keys])
            self._count(key, heads, mine)
            rows = np.repeat(mine, row_counts)
            self._count_rows(key, columns, rows, line_names)
        if self.channel is Channel.BOOK:
            self._fold(columns, heads, ends, keys)

    def _keys(self, hours: np.ndarray, index: np.ndarray) -> list[tuple[int, int]]:
        first = int(hours[0])
        if (hours == first).all():
            parts = self._parts(first, index)
            if (parts == parts[0]).all():
                return [(first, int(parts[0]))] * len(hours)
        parts = np.zeros(len(hours), np.int64)
        for hour in np.unique(hours).tolist():
            mine = hours == hour
            parts[mine] = self._parts(hour, index[mine])
        return list(zip(hours.tolist(), parts.tolist(), strict=True))

    def _note_index(self, index: np.ndarray) -> None:
        before = np.concatenate(([self.index_next - 1 if self.index_next is not None else index[0] - 1], index[:-1]))
        for at in np.flatnonzero(index - before != 1).tolist():
            self.index_holes.append((int(before[at]) + 1, int(index[at]) - 1))
        self.index_next = int(index[-1]) + 1

    def _note_breaks(self, heads: dict[str, np.ndarray], keys: list[tuple[int, int]]) -> None:
        if self._chain is None:
            return
        ids = heads["id"]
        is_book = self.channel is Channel.BOOK
        id_prev, is_snapshot = (heads["id_prev"], heads["is_snapshot"]) if is_book else (ids - 1, ids < 0)
        for at, missing in self._chain.follow(ids, id_prev, is_snapshot, heads["flags"]):
            self._hour(keys[at]).missing.append(missing)

    def _hour(self, key: tuple[int, int]) -> _Hour:
        hour = self.hours.get(key)
        if hour is None:
            hour = self.hours[key] = _Hour()
        return hour

    def _count(self, key: tuple[int, int], heads: dict[str, np.ndarray], mine: np.ndarray) -> None:
        hour = self._hour(key)
        index, ids, flags = heads["index"][mine], heads["id"][mine], heads["flags"][mine]
        if hour.messages == 0:
            hour.index_first, hour.first_id = int(index[0]), int(ids[0])
        hour.index_last, hour.last_id = int(index[-1]), int(ids[-1])
        hour.messages += len(index)
        is_applied = flags & Flag.UNAPPLIED == 0
        hour.unapplied += int((~is_applied).sum())
        if self.channel is Channel.BOOK:
            hour.snapshots += int(heads["is_snapshot"][mine].sum())
            hour.checksums += int((is_applied & (flags & Flag.CHECKED != 0)).sum())
        times = np.maximum.accumulate(heads["ts_recv_ns"][mine])
        if hour.ts_last_ns is not None:
            times = np.maximum(times, hour.ts_last_ns)
            hour.silence_ns = max(hour.silence_ns, int(times[0] - hour.ts_last_ns))
        if len(times) > 1:
            hour.silence_ns = max(hour.silence_ns, int(np.diff(times).max()))
        hour.ts_last_ns = int(times[-1])

    def _count_rows(
        self, key: tuple[int, int], columns: dict[str, np.ndarray], rows: np.ndarray, line_names: list[str]
    ) -> None:
        hour = self._hour(key)
        hour.rows += int(rows.sum())
        is_all = bool(rows.all())
        crcs = np.array([crc32(name.encode()) for name in line_names] or [0], np.uint32)
        for name, values in columns.items():
            part = values if is_all else values[rows]
            if name == "trade_id":
                texts = [str(text).encode() for text in part.tolist()]
                hour.hash("trade_id", np.frombuffer(b"\n".join([*texts, b""]), np.uint8))
            else:
                hour.hash(name, crcs[part] if name == "line" else part)
        index, lines = columns["index"], columns["line"]
        is_end = np.append(index[1:] != index[:-1], True) & rows
        for code, count in zip(*np.unique(lines[is_end], return_counts=True), strict=True):
            name = line_names[int(code)]
            hour.lines[name] = hour.lines.get(name, 0) + int(count)

    # The state of the book.

    def _fold(
        self,
        columns: dict[str, np.ndarray],
        heads: dict[str, np.ndarray],
        ends: np.ndarray,
        keys: list[tuple[int, int]],
    ) -> None:
        """Fold up to each checkpoint: the last message before the venue's time enters another ten seconds."""
        is_applied = heads["flags"] & Flag.UNAPPLIED == 0
        applied = np.flatnonzero(is_applied)
        if not len(applied):
            return
        times = np.where(heads["ts_venue_ns"] > 0, heads["ts_venue_ns"], heads["ts_recv_ns"])[applied] // CHECKPOINT_NS
        times = np.maximum.accumulate(np.maximum(times, self._checkpoint or 0))
        before = np.concatenate(([self._checkpoint if self._checkpoint is not None else times[0]], times[:-1]))
        torn = self._chain.torn if self._chain is not None else []
        folding = _Folding(columns, heads, is_applied, np.concatenate(([0], ends[:-1] + 1)), ends, torn)
        done = 0
        for number in np.flatnonzero(times > before).tolist():
            at = int(applied[number])
            self._fold_messages(folding, done, at)
            done = at
            if number:
                self._see(heads, int(applied[number - 1]))
            self._mark(keys[at])
        self._fold_messages(folding, done, len(is_applied))
        self._checkpoint = int(times[-1])
        self._see(heads, int(applied[-1]))
        self._note_head(columns, heads, int(applied[-1]), int(ends[applied[-1]]))

    def _note_head(self, columns: dict[str, np.ndarray], heads: dict[str, np.ndarray], at: int, row: int) -> None:
        known = self.head
        books = np.flatnonzero(columns["is_snapshot"] & (columns["flags"] & Flag.UNAPPLIED == 0))
        scales = [int(columns[name].max()) for name in ("price_scale", "size_scale")]
        self.head = Head(
            index=int(heads["index"][at]),
            id_last=int(heads["id"][at]),
            epoch=int(columns["epoch"][row]),
            ts_venue_ns=int(heads["ts_venue_ns"][at]),
            ts_recv_ns=int(heads["ts_recv_ns"][at]),
            price_scale=max(scales[0], known.price_scale if known is not None else 0),
            size_scale=max(scales[1], known.size_scale if known is not None else 0),
            depth=int(columns["depth"][books[-1]]) if len(books) else (known.depth if known is not None else 0),
        )

    def _see(self, heads: dict[str, np.ndarray], at: int) -> None:
        self._last = int(heads["index"][at]), int(heads["id"][at])

    def _mark(self, key: tuple[int, int]) -> None:
        """Note the state before the message that belongs to `key`."""
        if self._last is not None and self.book.is_whole:
            self._hour(key).states.append(Checkpoint(*self._last, self.book.state_hash()))

    def _fold_messages(self, folding: _Folding, first: int, last: int) -> None:
        if first == last:
            return
        is_applied = folding.is_applied
        snapshots = np.flatnonzero(folding.heads["is_snapshot"][first:last] & is_applied[first:last])
        begins = first + int(snapshots[-1]) if len(snapshots) else -1
        torn = max((at for at in folding.torn if first <= at < last), default=-1)
        if torn > begins:
            self.book.is_whole = False
        elif begins >= 0:
            first = begins
            self.book.clear()
        if not self.book.is_whole:
            return
        starts, ends = folding.starts, folding.ends
        rows = slice(int(starts[first]), int(ends[last - 1]) + 1)
        wanted = np.repeat(is_applied[first:last], ends[first:last] - starts[first:last] + 1)
        self.book.fold(*(folding.columns[name][rows][wanted] for name in ("side", "price", "size")))

    # Certificates.

    def certificate(self, key: tuple[int, int], copies: dict[str, int]) -> Certificate:
        """Give what is known of an hour as a certificate."""
        hour = self.hours[key]
        return Certificate(
            instrument=self.instrument,
            channel=self.channel.name.lower(),
            hour=hour_text(key[0]),
            index_first=hour.index_first,
            index_last=hour.index_last,
            first_id=hour.first_id,
            last_id=hour.last_id,
            messages=hour.messages,
            rows=hour.rows,
            snapshots=hour.snapshots,
            unapplied=hour.unapplied,
            missing=hour.missing,
            lines=dict(sorted(hour.lines.items())),
            copies=dict(sorted(copies.items())),
            silence_ns=hour.silence_ns,
            checksums=hour.checksums,
            states=hour.states,
            content=hour.content(),
        )


def _line_names(table: pa.Table) -> list[str]:
    return [str(name) for name in _encoded(table.column("line")).dictionary.to_pylist()]


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    found = encoded.unify_dictionaries().combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _column(name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Give a column as an array whose bytes do not depend on how the rows were cut into files."""
    values: np.ndarray
    if pa.types.is_dictionary(column.type):
        encoded = _encoded(column)
        indices = encoded.indices
        if name == "line":
            values = indices.to_numpy(zero_copy_only=False)
            return values
        codes = [_SIDES.get(str(text), 9) for text in encoded.dictionary.to_pylist()]
        values = np.array([*codes, 0], np.uint8)[indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)]
        return values
    if pa.types.is_decimal(column.type):
        whole = pa.concat_arrays(column.chunks)
        values = np.frombuffer(whole.buffers()[1], "V16")[whole.offset : whole.offset + len(whole)]
        if whole.null_count:
            values = values.copy()
            values[whole.is_null().to_numpy(zero_copy_only=False)] = np.void(b"\0" * 16)
        return values
    values = column.to_numpy()
    return values
