"""SQL over a recording: an embedded DuckDB with one view per table.

* ``book``, ``trades``: the rows of the files, each message once, exact ``DECIMAL``s; with `instrument`
  (``venue:symbol``), `venue`, `symbol`, `date` and `run`. The order of a stream is ``ORDER BY run, index, row``.
* ``gaps``: what was recorded as missing.
* ``coverage``: per instrument, channel and date what is there and which ranges of the index are not.
* ``bbo``: best bid and ask after every message of the book. It is computed from the books when a query asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.events import Channel
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.coverage import COVERAGE
from raytrade.storage.quotes import BBO, quotes_of
from raytrade.storage.recording import Recording
from raytrade.storage.runs import INDEX_MAX, Run
from raytrade.storage.schema import ADDED, BOOK, TRADES
from raytrade.storage.segments import SCHEMAS, verify
from raytrade.storage.source import TIME_MIN

VIEWS = ("book", "trades", "gaps", "coverage", "bbo")
TIME_MAX = -TIME_MIN
_MISTAKES = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException)
"""What no damage of a file can cause."""
_TABLES = {"book": (Channel.BOOK, BOOK), "trades": (Channel.TRADES, TRADES)}
_SQL_TYPES = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "int16": "SMALLINT",
    "int8": "TINYINT",
    "uint32": "UINTEGER",
    "bool": "BOOLEAN",
}


class Database:
    """A recording as tables of SQL.

    Raises:
        StorageError: a segment cannot be read (unless the recording leaves such out).
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._connection = duckdb.connect()
        self._connection.execute("SET enable_progress_bar = false; SET python_enable_replacements = false")

    def query(self, text: str) -> pa.Table:
        """Run one statement.

        Raises:
            ConfigError: the statement is wrong.
            StorageError: a segment cannot be read.
        """
        try:
            return self._run(text)
        except StorageError as damage:
            if not self._recording.leave_out(damage):
                raise
            return self._run(text)

    def _run(self, text: str) -> pa.Table:
        for name in sorted(self._names(text)):
            self._define(name)
        try:
            found = self._connection.sql(text)
            return pa.table({}) if found is None else found.to_arrow_table()
        except duckdb.Error as error:
            damage = None if isinstance(error, _MISTAKES) else self._damage()
            if damage is not None:
                raise damage from None
            raise ConfigError("", "", _one_line(error)) from None

    def _names(self, text: str) -> set[str]:
        """Give the views that the statement names; where it cannot be read, DuckDB itself will say so."""
        with suppress(duckdb.Error):
            return {name.lower() for name in self._connection.get_table_names(text)} & set(VIEWS)
        return {name for name in VIEWS if re.search(rf"\b{name}\b", text, re.IGNORECASE)}

    def _damage(self) -> StorageError | None:
        """Find the segment that cannot be read: what DuckDB says of it need not name it."""
        for instrument, channel in self._recording.streams():
            for path in self._recording.segment_paths(instrument, channel):
                try:
                    verify(path, SCHEMAS[channel])
                except StorageError as damage:
                    return damage
        return None

    def _define(self, name: str) -> None:
        recording, connection = self._recording, self._connection
        if name in _TABLES:
            channel, schema = _TABLES[name]
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {self._rows(channel, schema)}")
        elif name == "gaps":
            connection.register("gaps", recording.gaps())
        elif name == "coverage":
            connection.register("coverage", recording.coverage() if recording.streams() else COVERAGE.empty_table())
        else:
            self._define_bbo()

    def _rows(self, channel: Channel, schema: pa.Schema) -> str:
        streams = [self._recording.stream(*key) for key in self._recording.streams(channels=[channel])]
        whole: list[Path] = []
        parts: list[str] = []
        for stream in streams:
            for number, run in enumerate(stream.runs):
                paths = _paths(run)
                if run.index_from or run.index_to < INDEX_MAX:
                    parts.append(_select(paths, schema, number, (run.index_from, run.index_to)))
                elif number:
                    parts.append(_select(paths, schema, number, None))
                else:
                    whole += paths
        if whole:
            parts.insert(0, _select(whole, schema, 0, None))
        return " UNION ALL BY NAME ".join(parts) or _nothing(schema)

    def _define_bbo(self) -> None:
        """Computed once and kept in a table, so that a statement may read it as often as it likes."""
        connection, recording = self._connection, self._recording
        connection.register("_empty_bbo", BBO.empty_table())
        connection.execute("CREATE OR REPLACE TEMP TABLE bbo AS SELECT * FROM _empty_bbo")
        for instrument, channel in recording.streams(channels=[Channel.BOOK]):
            messages = recording.stream(instrument, channel).messages()
            for batch in quotes_of(instrument, messages, TIME_MIN, TIME_MAX):
                connection.register("_bbo_part", pa.Table.from_batches([batch]))
                connection.execute("INSERT INTO bbo SELECT * FROM _bbo_part")
                connection.unregister("_bbo_part")


def _paths(run: Run) -> list[Path]:
    return sorted({segment.path for unit in run.taken for segment, _ in unit.pieces})


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _select(paths: Iterable[Path], schema: pa.Schema, number: int, bounds: tuple[int, int] | None) -> str:
    """Give the statement over some files; names are those of the directories."""
    paths = list(paths)
    files = ", ".join(_quoted(str(path)) for path in paths)
    lacking = {name for name in ADDED.intersection(schema.names) if not any(_has(path, name) for path in paths)}
    columns = ", ".join(f'0 AS "{name}"' if name in lacking else f'"{name}"' for name in schema.names)
    where = f" WHERE index BETWEEN {bounds[0]} AND {bounds[1]}" if bounds is not None else ""
    return (
        f"SELECT venue || ':' || instrument AS instrument, venue, instrument AS symbol, date, {number} AS run, "
        f"{columns}, file_row_number AS row FROM read_parquet([{files}], hive_partitioning = true, "
        f"hive_types = {{'venue': VARCHAR, 'instrument': VARCHAR, 'channel': VARCHAR, 'date': VARCHAR}}, "
        f"file_row_number = true, union_by_name = true){where}"
    )


def _has(path: Path, column: str) -> bool:
    """Tell whether a file has a column; DuckDB itself will say so if it cannot be read."""
    with suppress(OSError, pa.ArrowException):
        return column in pq.read_schema(path).names
    return False


def _nothing(schema: pa.Schema) -> str:
    names = ("instrument", "venue", "symbol", "date")
    columns = [*(f"NULL::VARCHAR AS {name}" for name in names), "NULL::INTEGER AS run"]
    columns += [f'NULL::{_sql_type(field.type)} AS "{field.name}"' for field in schema]
    return f"SELECT {', '.join([*columns, 'NULL::BIGINT AS row'])} WHERE false"


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return _SQL_TYPES.get(str(kind), "VARCHAR")


def _one_line(error: Exception) -> str:
    """Give the first line of what DuckDB says, and its hint."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, duckdb.CatalogException) and "Table with name" in lines[0]:
        return f"{lines[0].partition('!')[0]}; there are {', '.join(VIEWS)}"
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return " ".join([lines[0] if lines else type(error).__name__, *hints[:1]])
