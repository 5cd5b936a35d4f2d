"""The table of arrivals: one row for every copy of every message, in ``arrivals/date=D/<segment>.parquet``.

`ts_arrived_ns` is the clock of the arbiter's host (`replica`): the only one by which lines of different hosts can be
compared. `copy` is what makes two rows copies of each other: the id where all lines share them, else a hash of the
venue's time with its checksum, or with the content. `content` is the CRC32 of the body: copies whose scales are equal
and whose contents differ disagree. A row of kind `missing` says that `id_last` blocks of a replica's log were not kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.arrivals import COPY, HEAD_END, HEAD_START, LOST, WON_LATE, ArrivalBlock, decode_block
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag
from raytrade.core.message import Kind
from raytrade.errors import StorageError
from raytrade.storage.decoding import HEADERS
from raytrade.storage.files import write_table
from raytrade.storage.names import segments_in

TABLE_VERSION = 1
FOLDER = "arrivals"
DAY_NS: Nanos = 86_400 * SECOND
FULL_TIMES = 4
"""How many segments may wait for a disk that cannot be written."""
_TEXT = pa.dictionary(pa.int32(), pa.string())
_VERSION_KEY = b"raytrade.arrivals_version"
_CURSORS_KEY = b"raytrade.arrivals_cursors"

ARRIVALS = pa.schema(
    [
        ("replica", _TEXT),
        ("line", _TEXT),
        ("instrument", _TEXT),
        ("channel", _TEXT),
        ("kind", _TEXT),
        ("epoch", pa.int64()),
        ("id_prev", pa.int64()),
        ("id_last", pa.int64()),
        ("copy", pa.int64()),
        ("content", pa.uint32()),
        ("scales", pa.int16()),
        ("ts_recv_ns", pa.int64()),
        ("ts_arrived_ns", pa.int64()),
        ("won", pa.bool_()),
        ("is_late", pa.bool_()),
    ],
    metadata={_VERSION_KEY: str(TABLE_VERSION).encode()},
)
"""`won`: this copy went out. `is_late`: it did so after it was held back (its first row says when it came)."""

_NAMES = [field.name for field in ARRIVALS if pa.types.is_dictionary(field.type)]
_PACKED = ["epoch", "id_prev", "id_last", "copy", "ts_recv_ns", "ts_arrived_ns"]
WRITING = {
    "compression": "zstd",
    "use_dictionary": [*_NAMES, "scales"],
    "column_encoding": dict.fromkeys(_PACKED, "DELTA_BINARY_PACKED"),
}

_KINDS = pa.array(["", *(kind.name.lower() for kind in Kind), "missing"])
_MISSING = len(_KINDS) - 1
_CHANNELS = pa.array([channel.name.lower() for channel in Channel])
_MIXER, _OTHER_MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def _head_type() -> np.dtype[np.void]:
    """The cut of a message's header that a block holds."""
    fields = [(name, *HEADERS.fields[name]) for name in HEADERS.names or () if HEADERS.fields is not None]
    inside = [(name, kind, at - HEAD_START) for name, kind, at, *_ in fields if HEAD_START <= at < HEAD_END]
    names, kinds, places = zip(*inside, strict=True)
    return np.dtype({"names": names, "formats": kinds, "offsets": places, "itemsize": HEAD_END - HEAD_START})


_HEADS = _head_type()
_COPIES = np.dtype([("line", "<u2"), ("instrument", "<u2"), ("content", "<u4"), ("outcome", "u1")])
assert _COPIES.itemsize == COPY.size

Cursors = dict[str, tuple[int, int]]
"""Per replica the incarnation and the number of the next block of its log."""


def rows_of(block: ArrivalBlock) -> pa.RecordBatch:
    """Turn a block into rows of `ARRIVALS`."""
    heads, copies = np.frombuffer(block.heads, _HEADS), np.frombuffer(block.copies, _COPIES)
    count = len(heads)
    counts = [number for number, _ in block.batches]
    arrived = np.repeat(np.array([at_ns for _, at_ns in block.batches], np.int64), counts)
    columns = [
        _texts(np.zeros(count), pa.array([block.replica])),
        _texts(copies["line"], pa.array(block.lines)),
        _texts(copies["instrument"], pa.array(block.instruments)),
        _texts(heads["channel"], _CHANNELS),
        _texts(heads["kind"], _KINDS),
        *(pa.array(np.ascontiguousarray(heads[name])) for name in ("epoch", "id_prev", "id_last")),
        pa.array(_copy_keys(heads, copies)),
        pa.array(np.ascontiguousarray(copies["content"])),
        pa.array(heads["price_scale"].astype(np.int16) * 256 + heads["size_scale"]),
        pa.array(np.ascontiguousarray(heads["ts_recv_ns"])),
        pa.array(arrived),
        pa.array(copies["outcome"] != LOST),
        pa.array(copies["outcome"] == WON_LATE),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ARRIVALS)


def _texts(codes: np.ndarray, values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values)


def _copy_keys(heads: np.ndarray, copies: np.ndarray) -> np.ndarray:
    is_checked = heads["flags"] & int(Flag.CHECKED) != 0
    told = np.where(is_checked, heads["state_hash"], copies["content"].astype(np.uint64))
    mixed = heads["ts_venue_ns"].astype(np.uint64) * _MIXER + told * _OTHER_MIXER
    has_ids = (heads["epoch"] == 0) & (heads["id_last"] > 0)
    keys: np.ndarray = np.where(has_ids, heads["id_last"], mixed.view(np.int64))
    return keys


def _missing_row(replica: str, blocks: int, now_ns: Nanos) -> pa.RecordBatch:
    row = {field.name: "" if pa.types.is_dictionary(field.type) else 0 for field in ARRIVALS}
    row |= {"replica": replica, "kind": "missing", "id_last": blocks, "ts_recv_ns": now_ns, "ts_arrived_ns": now_ns}
    return pa.RecordBatch.from_pylist([row | {"won": False, "is_late": False}], schema=ARRIVALS)


class ArrivalSink:
    """Keeps the logs of any number of replicas under one directory; each block is taken once."""

    def __init__(
        self,
        directory: Path,
        *,
        start: str = "",
        on_written: Callable[[pa.Table], None] = lambda table: None,
        rows_max: int = 500_000,
        age_s_max: int = 60,
    ) -> None:
        """`start`: the name of this start of the program in the names of segments; `on_written` sees what is safe."""
        self.directory = directory / FOLDER
        self.cursors: Cursors = read_cursors(directory)
        self.rows_written = 0
        self.bytes_written = 0
        self.blocks_missing = 0
        self._rows_max = rows_max
        self._age_ns = age_s_max * SECOND
        self._start = start or secrets.token_hex(4)
        self._on_written = on_written
        self._segments = 0
        self._waiting: list[pa.RecordBatch] = []
        self._rows_waiting = 0
        self._since_ns: Nanos = 0

    def write(self, blocks: list[bytes], now_ns: Nanos) -> None:
        """Take blocks; a block that is known already is passed over, one that is missing is counted.

        Raises:
            StorageError: a full segment could not be written; it is kept, and when too much waits nothing is taken.
        """
        if self._rows_waiting >= FULL_TIMES * self._rows_max:
            self.flush()
        for data in blocks:
            try:
                self._take(decode_block(data), now_ns)
            except (msgspec.MsgspecError, ValueError) as error:
                raise StorageError(str(self.directory), f"a block of arrivals is damaged: {error}") from None
        if self._rows_waiting >= self._rows_max:
            self.flush()

    def _take(self, block: ArrivalBlock, now_ns: Nanos) -> None:
        incarnation, expected = self.cursors.get(block.replica, (block.incarnation, block.number))
        if incarnation == block.incarnation and block.number != expected:
            if block.number < expected:
                return
            self.blocks_missing += block.number - expected
            self._add(_missing_row(block.replica, block.number - expected, now_ns), now_ns)
        self.cursors[block.replica] = (block.incarnation, block.number + 1)
        self._add(rows_of(block), now_ns)

    def _add(self, rows: pa.RecordBatch, now_ns: Nanos) -> None:
        if not self._waiting:
            self._since_ns = now_ns
        self._waiting.append(rows)
        self._rows_waiting += rows.num_rows

    def flush_due(self, now_ns: Nanos) -> None:
        """Write what is old enough.

        Raises:
            StorageError: it could not be written; it is kept.
        """
        if self._waiting and now_ns - self._since_ns >= self._age_ns:
            self.flush()

    def flush(self) -> None:
        """Write what there is, a segment for each day.

        Raises:
            StorageError: it could not be written; it is kept.
        """
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, ARRIVALS).unify_dictionaries()
        cursors = msgspec.json.encode(self.cursors)
        table = table.replace_schema_metadata({**(ARRIVALS.metadata or {}), _CURSORS_KEY: cursors})
        days = table.column("ts_arrived_ns").to_numpy() // DAY_NS
        for day in np.unique(days).tolist():
            part = table if days[0] == days[-1] == day else table.filter(pa.array(days == day))
            self.bytes_written += write_table(self._unused_path(day), part, **WRITING)
        self.rows_written += table.num_rows
        self._on_written(table)
        self._waiting, self._rows_waiting = [], 0

    def _unused_path(self, day: int) -> Path:
        self._segments += 1
        date = datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()
        return self.directory / f"date={date}" / f"{self._start}-{self._segments:06d}.parquet"


def segments_of(directory: Path) -> list[Path]:
    """Give the files of the table by their first arrival; one that cannot be read comes first."""
    return sorted(segments_in(directory / FOLDER, "date=*"), key=lambda path: (_first_arrival(path), path))


def _first_arrival(path: Path) -> Nanos:
    try:
        metadata = pq.read_metadata(path)
        at = metadata.schema.to_arrow_schema().get_field_index("ts_arrived_ns")
        groups = [metadata.row_group(number).column(at).statistics for number in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowException, IndexError):
        return 0
    return min((int(statistics.min) for statistics in groups if statistics is not None), default=0)


def read_cursors(directory: Path) -> Cursors:
    """Read where the logs go on, from the segments of the last two days; one that cannot be read is passed over."""
    cursors: Cursors = {}
    days = sorted((directory / FOLDER).glob("date=*"))[-2:]
    for path in sorted((path for day in days for path in segments_in(day)), key=lambda path: path.stat().st_mtime):
        try:
            found = (pq.read_schema(path).metadata or {}).get(_CURSORS_KEY, b"{}")
            cursors |= msgspec.json.decode(found, type=Cursors)
        except (OSError, pa.ArrowException, msgspec.MsgspecError):
            continue
    return cursors


def read_arrivals(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a segment.

    Raises:
        StorageError: it cannot be read, or is of another version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            version = (file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"")
            if version != str(TABLE_VERSION).encode():
                raise StorageError(str(path), f"is no segment of arrivals of version {TABLE_VERSION}")
            names = columns or ARRIVALS.names
            table = file.read(columns=names)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(str(path), f"cannot be read: {reason}") from None
    return table.select(names).cast(pa.schema([ARRIVALS.field(name) for name in names]))


def each_segment(directory: Path, columns: list[str] | None = None) -> Iterator[tuple[Path, pa.Table]]:
    """Read the table segment by segment.

    Raises:
        StorageError: a segment cannot be read.
    """
    for path in segments_of(directory):
        yield path, read_arrivals(path, columns)
