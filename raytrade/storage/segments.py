"""Segments: the Parquet files of a recording, opened, checked and known by their statistics.

A segment is known by its row groups: which indexes, times and ids they span. Everything that reads a recording decides
from these which files to open. A file that is not whole, or not one of ours, is a `StorageError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raytrade.core.clock import Nanos
from raytrade.core.events import Channel
from raytrade.errors import StorageError
from raytrade.storage.names import start_of
from raytrade.storage.schema import ADDED, BOOK, GAPS, OLDEST_VERSION, STATES, TABLE_VERSION, TRADES

SCHEMAS = {Channel.BOOK: BOOK, Channel.TRADES: TRADES}
STREAM_BUFFER_BYTES = 64 * 1024
"""What one column of one open file holds of the disk when rows are streamed: bounds the memory of a wide merge."""
_ID_COLUMN = {Channel.BOOK: "id_last", Channel.TRADES: "sequence"}
_VERSION_KEY = b"raytrade.table_version"
_VERSIONS = {str(version) for version in range(OLDEST_VERSION, TABLE_VERSION + 1)}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One row group: the bounds (both inside) of what its rows hold. Times are receive times in ns."""

    number: int
    rows: int
    index_first: int
    index_last: int
    ts_first_ns: Nanos
    ts_last_ns: Nanos
    id_first: int
    id_last: int
    has_epochs: bool
    has_snapshot: bool


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One file; `start` tells which start of a recorder wrote it."""

    path: Path
    channel: Channel
    start: str
    groups: tuple[Group, ...]


def open_file(path: Path, wanted: pa.Schema) -> pq.ParquetFile:
    """Open a file and check that it has the columns that are wanted.

    Raises:
        StorageError: it cannot be read, is no Parquet file, or not of a recording.
    """
    try:
        file = pq.ParquetFile(path, buffer_size=STREAM_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        _check_schema(path, file.schema_arrow, wanted)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    return file


def unreadable(path: Path, error: Exception) -> StorageError:
    """Say in one line why a segment cannot be read."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StorageError(str(path), f"cannot be read: {' '.join(str(reason).split())[:200]}")


def _check_schema(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    version = table_version(found)
    if version not in _VERSIONS:
        problem = f"has table version {version}, this program reads {OLDEST_VERSION} to {TABLE_VERSION}"
        raise StorageError(str(path), problem)
    for field in wanted:
        at = found.get_field_index(field.name)
        if at < 0 and field.name in ADDED:
            continue
        if at < 0:
            raise StorageError(str(path), f"is no segment of a recording: no column {field.name}")
        if _plain(found.field(at).type) != _plain(field.type):
            problem = f"column {field.name} is {found.field(at).type}, not {field.type}"
            raise StorageError(str(path), f"is no segment of a recording: {problem}")


def table_version(schema: pa.Schema) -> str:
    """Give the version that a file says it has."""
    return bytes((schema.metadata or {}).get(_VERSION_KEY, str(TABLE_VERSION).encode())).decode(errors="replace")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def read_segment(path: Path, channel: Channel) -> Segment:
    """Read what a segment spans, from the statistics of its row groups.

    Raises:
        StorageError: it cannot be read or is not one of ours.
    """
    with open_file(path, SCHEMAS[channel]) as file:
        try:
            groups = tuple(_read_group(file, number, channel) for number in range(file.metadata.num_row_groups))
        except (OSError, pa.ArrowException, ValueError) as error:
            raise unreadable(path, error) from None
    return Segment(path=path, channel=channel, start=start_of(path), groups=tuple(g for g in groups if g.rows))


def _read_group(file: pq.ParquetFile, number: int, channel: Channel) -> Group:
    metadata = file.metadata.row_group(number)
    places = {metadata.column(at).path_in_schema: at for at in range(metadata.num_columns)}

    def bounds(column: str) -> tuple[Any, Any]:
        statistics = metadata.column(places[column]).statistics
        if statistics is not None and statistics.has_min_max:
            return statistics.min, statistics.max
        values = pc.min_max(file.read_row_group(number, columns=[column]).column(0)).as_py()
        return values["min"] or 0, values["max"] or 0

    is_book = channel is Channel.BOOK
    index, times, ids = bounds("index"), bounds("ts_recv_ns"), bounds(_ID_COLUMN[channel])
    return Group(
        number=number,
        rows=metadata.num_rows,
        index_first=index[0],
        index_last=index[1],
        ts_first_ns=times[0],
        ts_last_ns=times[1],
        id_first=ids[0],
        id_last=ids[1],
        has_epochs=is_book and bounds("epoch") != (0, 0),
        has_snapshot=is_book and bool(bounds("is_snapshot")[1]),
    )


def stream_rows(segment: Segment, groups: list[int], columns: list[str], rows_max: int) -> Iterator[pa.RecordBatch]:
    """Give the rows of some row groups in pieces of at most `rows_max`, reading only what each piece needs.

    Raises:
        StorageError: the file is damaged.
    """
    with open_file(segment.path, SCHEMAS[segment.channel]) as file:
        try:
            yield from file.iter_batches(rows_max, row_groups=groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(segment.path, error) from None


def read_rows(
    segment: Segment, groups: list[int], columns: list[str] | None = None, *, use_threads: bool = False
) -> pa.Table:
    """Read some row groups whole.

    Raises:
        StorageError: the file is damaged.
    """
    schema = SCHEMAS[segment.channel]
    wanted = columns or schema.names
    try:
        with pq.ParquetFile(segment.path, page_checksum_verification=True) as file:
            table = file.read_row_groups(groups, columns=wanted, use_threads=use_threads)
            for name in ADDED.intersection(wanted).difference(table.column_names):
                table = table.append_column(name, pa.array(np.zeros(table.num_rows, np.uint32)))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(segment.path, error) from None
    return table.select(wanted).cast(pa.schema([schema.field(name) for name in wanted]))


def read_gaps(path: Path) -> pa.Table:
    """Read a segment of the gaps.

    Raises:
        StorageError: it cannot be read or is not one of ours.
    """
    with open_file(path, GAPS) as file:
        try:
            return file.read(columns=GAPS.names).select(GAPS.names).cast(GAPS)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from None


def read_states(path: Path) -> pa.Table:
    """Read a segment of the states.

    Raises:
        StorageError: it cannot be read or is not one of ours.
    """
    with open_file(path, STATES) as file:
        try:
            return file.read(columns=STATES.names).select(STATES.names).cast(STATES)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from None


def verify(path: Path, wanted: pa.Schema) -> None:
    """Decode the whole file and throw the rows away.

    Raises:
        StorageError: some of it cannot be read.
    """
    with open_file(path, wanted) as file:
        try:
            for _ in file.iter_batches(use_threads=False):
                pass
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from None
