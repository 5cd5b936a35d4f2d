"""Compaction: the segments of a day become one file per stream and start of a recorder.

Rows stay as they are, in their order and under their start: certificates speak of rows, so they hold as before. A
result is written beside its sources, read back and compared with them column by column, and takes their place with one
rename (`raytrade.storage.names`); only then are the sources removed. The next call does whatever was not done.

Files of an older table version are written anew in the present one, even where there is only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.events import Channel
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.arrivals import ARRIVALS
from raytrade.storage.arrivals import FOLDER as ARRIVALS_FOLDER
from raytrade.storage.arrivals import WRITING as ARRIVALS_WRITING
from raytrade.storage.digests import RowsDigest
from raytrade.storage.files import PAGE_BYTES, discard, put_in_place, reason_of
from raytrade.storage.names import PATTERN, Span, compacted_name, segments_in, span_of, start_of
from raytrade.storage.recovery import recover
from raytrade.storage.schema import ADDED, BOOK, GAPS, STATES, TRADES, writing_of
from raytrade.storage.segments import open_file, table_version, unreadable

ROWS_AT_ONCE = 262_144
"""Rows of a row group, and about how many are in memory."""
LEVEL = 9
_BATCH_ROWS = 65_536


class Table(NamedTuple):
    """How the segments of one table are read and written."""

    schema: pa.Schema
    writing: dict[str, Any]
    version: str


_VERSION = table_version(BOOK)
_STREAMS = {
    Channel.BOOK: Table(BOOK, writing_of(BOOK), _VERSION),
    Channel.TRADES: Table(TRADES, writing_of(TRADES), _VERSION),
}
_NOTES = {"gaps": Table(GAPS, writing_of(GAPS), _VERSION), "states": Table(STATES, writing_of(STATES), _VERSION)}
_ARRIVALS = Table(ARRIVALS, ARRIVALS_WRITING, "")


class Compaction(msgspec.Struct):
    """What was done. `problems`: what was left as it is, and why."""

    folders: int = 0
    sources: int = 0
    results: int = 0
    rows: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    recovered: int = 0
    problems: list[str] = []


def today() -> str:
    """Give the present UTC day."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def compact(
    directory: Path, before: str = "", *, level: int = LEVEL, advance: Callable[[Path], None] = lambda folder: None
) -> Compaction:
    """Compact all days before one (by default: today). What a killed recorder left in its log comes first.

    Raises:
        ConfigError: there is no such directory.
        StorageError: a result could not be written; the sources are as they were.
    """
    if not directory.is_dir():
        raise ConfigError("", str(directory), "is no directory" if directory.exists() else "no such directory")
    done = Compaction(recovered=recover(directory).messages)
    for folder, table in _folders(directory, before or today()):
        advance(folder)
        _compact_folder(folder, table, level, done)
    return done


def _folders(directory: Path, before: str) -> Iterator[tuple[Path, Table]]:
    for channel, table in _STREAMS.items():
        pattern = f"venue=*/instrument=*/channel={channel.name.lower()}/date=*"
        yield from ((folder, table) for folder in sorted(directory.glob(pattern)) if _day(folder) < before)
    for folder in sorted((directory / ARRIVALS_FOLDER).glob("date=*")):
        if _day(folder) < before:
            yield folder, _ARRIVALS
    for name, table in _NOTES.items():
        if (directory / name).is_dir():
            yield directory / name, table


def _day(folder: Path) -> str:
    return folder.name.partition("=")[2]


def _compact_folder(folder: Path, table: Table, level: int, done: Compaction) -> None:
    done.folders += 1
    left = segments_in(folder)
    _remove(set(folder.glob(PATTERN)) - set(left))
    named = [path for path in left if span_of(path) is not None]
    for start, group in groupby(sorted(named, key=lambda path: (start_of(path), span_of(path))), key=start_of):
        sources = list(group)
        try:
            if len(sources) > 1 or _is_old(sources[0], table):
                _compact_sources(folder, start, sources, table, level, done)
        except _Unfit as unfit:
            done.problems.append(str(unfit))


class _Unfit(Exception):
    """Sources that are left as they are."""


def _is_old(path: Path, table: Table) -> bool:
    if not table.version:
        return False
    try:
        with open_file(path, table.schema) as file:
            return table_version(file.schema_arrow) != table.version
    except StorageError as error:
        raise _Unfit(str(error)) from None


def _compact_sources(folder: Path, start: str, sources: list[Path], table: Table, level: int, done: Compaction) -> None:
    spans = [span for path in sources if (span := span_of(path)) is not None]
    target = folder / compacted_name(start, _whole_span(spans))
    part = target.with_suffix(".part")
    taken = RowsDigest()
    try:
        metadata = _write(part, sources, table, level, taken)
        found = _digest_of(part, metadata)
        if found.text() != taken.text():
            raise StorageError(str(part), "does not hold what its sources hold")
        before = sum(path.stat().st_size for path in sources)
        size = put_in_place(part, target)
    except BaseException as error:
        discard(part)
        if isinstance(error, OSError):
            raise StorageError(str(target), f"cannot be written: {reason_of(error)}") from None
        raise
    done.sources += len(sources)
    done.results += 1
    done.rows += taken.rows
    done.bytes_before += before
    done.bytes_after += size
    _remove({path for path in sources if path != target})


def _whole_span(spans: list[Span]) -> Span:
    return min(first for first, _ in spans), max(last for _, last in spans)


def _write(part: Path, sources: list[Path], table: Table, level: int, taken: RowsDigest) -> pa.Schema:
    schema = table.schema
    if table is _ARRIVALS:  # where the logs go on stands in the newest
        schema = schema.with_metadata(pq.read_schema(sources[-1]).metadata)
    options = {"compression": "zstd", "compression_level": level, "write_page_checksum": True} | table.writing
    options |= {"data_page_size": PAGE_BYTES, "dictionary_pagesize_limit": 32 * ROWS_AT_ONCE}
    with pq.ParquetWriter(part, schema, **options) as writer:
        for rows in _groups(_rows(sources, table.schema)):
            taken.update(rows)
            writer.write_table(rows.unify_dictionaries(), row_group_size=rows.num_rows)
    return schema


def _rows(sources: list[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Give the rows of all sources, which must be in the order of the index."""
    last = -1
    for path in sources:
        try:
            with open_file(path, schema) as file:
                for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                    rows = _present(pa.Table.from_batches([batch]), schema)
                    if "is_last" in schema.names or "trade_id" in schema.names:
                        first, last_before = rows.column("index")[0].as_py(), last
                        last = rows.column("index")[-1].as_py()
                        if first < last_before:
                            raise _Unfit(f"{path}: its messages begin before the end of the segment before it")
                    yield rows
        except StorageError as error:
            raise _Unfit(str(error)) from None
        except (OSError, pa.ArrowException) as error:
            raise _Unfit(str(unreadable(path, error))) from None


def _present(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring rows of an older version to the present one: columns that it has not are 0."""
    for name in ADDED.intersection(schema.names).difference(rows.column_names):
        rows = rows.append_column(name, pa.array([0] * rows.num_rows, schema.field(name).type))
    return rows.select(schema.names).cast(schema)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into groups of about `ROWS_AT_ONCE` that end with whole messages."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= ROWS_AT_ONCE:
            rows = pa.concat_tables(waiting)
            end = _last_end(rows)
            yield rows.slice(0, end)
            rest = rows.slice(end)
            waiting, count = [rest] if rest.num_rows else [], rest.num_rows
    if count:
        yield pa.concat_tables(waiting)


def _last_end(rows: pa.Table) -> int:
    if "is_last" not in rows.column_names:
        return int(rows.num_rows)
    is_last = rows.column("is_last").to_numpy()
    ends = np.flatnonzero(is_last)
    return int(ends[-1]) + 1 if len(ends) else int(rows.num_rows)


def _digest_of(path: Path, schema: pa.Schema) -> RowsDigest:
    found = RowsDigest()
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for number in range(file.metadata.num_row_groups):
            found.update(file.read_row_group(number, use_threads=False).select(schema.names))
    return found


def _remove(paths: set[Path]) -> None:
    for path in sorted(paths):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(str(path), f"cannot be removed: {reason_of(error)}") from None
