"""A recording in PostgreSQL too, for those who keep their market data there.

The files are the recording; what they hold once they are closed is copied in bulk (ADBC, Arrow to ``COPY``), in the
same way whether it was recorded now or a year ago. Every row has a key (start of the recorder, index, row of the
message), so nothing is there twice however often a file is copied; ``raytrade_segments`` names the files that are done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from raytrade.core.events import Channel
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.names import segments_in, start_of
from raytrade.storage.remote import Uploaded
from raytrade.storage.schema import GAPS
from raytrade.storage.segments import SCHEMAS, open_file, read_gaps, unreadable

ROWS_AT_ONCE = 131_072
STAGING = "raytrade_staging"
_TYPES = {
    "int64": "bigint",
    "int32": "integer",
    "int16": "smallint",
    "int8": "smallint",
    "uint32": "bigint",
    "bool": "boolean",
    "string": "text",
}
_KEYS = {
    "book": ("instrument", "start", "index", "row"),
    "trades": ("instrument", "start", "index"),
    "gaps": ("start", "ts_recv_ns", "instrument", "channel", "kind", "epoch", "id_prev", "id_last", "cause"),
}
_SCHEMAS = {"book": SCHEMAS[Channel.BOOK], "trades": SCHEMAS[Channel.TRADES], "gaps": GAPS}


class PostgresSink:
    """Copies the closed segments of a directory into a database; `run` is called again and again."""

    def __init__(self, directory: Path, address: str) -> None:
        """`address`: as in ``postgresql://user@host/database``.

        Raises:
            ConfigError: the driver is not installed.
        """
        try:
            from adbc_driver_postgresql import dbapi
        except ImportError:
            raise ConfigError("", "database", "needs the extra postgres: pip install 'raytrade[postgres]'") from None
        self.directory = directory
        self.counts = Uploaded()
        self.name = "the database"
        self._address = address
        self._dbapi: Any = dbapi
        self._connection: Any = None
        self._done: set[str] = set()

    def run(self) -> Uploaded:
        """Copy what is not there yet; what fails is tried again by the next call."""
        counts = self.counts
        try:
            if self._connection is None:
                self._connect()
            left = [name for name in _names(self.directory) if name not in self._done]
            counts.waiting, counts.problem = len(left), ""
            for name in left:
                self._copy(name)
                counts.waiting -= 1
        except StorageError as error:
            counts.problem = str(error)
        except self._dbapi.Error as error:
            counts.problem = f"{self.name}: {' '.join(str(error).split())[:200]}"
            self._disconnect()
        return counts

    def close(self) -> None:
        """Let go of the connection."""
        self._disconnect()

    def _connect(self) -> None:
        self._connection = self._dbapi.connect(self._address)
        with self._connection.cursor() as cursor:
            for table, schema in _SCHEMAS.items():
                cursor.execute(_create(table, schema))
            cursor.execute("CREATE TABLE IF NOT EXISTS raytrade_segments (name text PRIMARY KEY, rows bigint)")
            cursor.execute("SELECT name FROM raytrade_segments")
            self._done = {str(row[0]) for row in cursor.fetchall()}
        self._connection.commit()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._dbapi.Error):
                connection.close()

    def _copy(self, name: str) -> None:
        """Copy a segment, each piece in a transaction of its own; with the last it is done."""
        path = self.directory / name
        table = "gaps" if name.startswith("gaps/") else path.parent.parent.name.partition("=")[2]
        rows = 0
        try:
            for piece in _pieces(path, table):
                self._ingest(table, piece)
                rows += piece.num_rows
        except StorageError:
            if path.exists():
                raise
            return  # compacted or removed meanwhile
        with self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO raytrade_segments VALUES ($1, $2) ON CONFLICT DO NOTHING", (name, rows))
        self._connection.commit()
        self._done.add(name)
        self.counts.files += 1
        self.counts.bytes += path.stat().st_size if path.exists() else 0

    def _ingest(self, table: str, piece: pa.Table) -> None:
        names = ", ".join(f'"{name}"' for name in piece.column_names)
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(STAGING, piece, mode="create", temporary=True)
            cursor.execute(
                f"INSERT INTO raytrade_{table} ({names}) SELECT {names} FROM {STAGING} ON CONFLICT DO NOTHING"
            )
            cursor.execute(f"DROP TABLE {STAGING}")
        self._connection.commit()


def _create(table: str, schema: pa.Schema) -> str:
    columns = ["start text", "instrument text"] if table != "gaps" else ["start text"]
    columns += ['"row" integer'] if table == "book" else []
    columns += [f'"{field.name}" {_type(field.type)}' for field in schema]
    key = ", ".join(f'"{name}"' for name in _KEYS[table])
    return f"CREATE TABLE IF NOT EXISTS raytrade_{table} ({', '.join(columns)}, PRIMARY KEY ({key}))"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    return _TYPES[str(kind.value_type if pa.types.is_dictionary(kind) else kind)]


def _names(directory: Path) -> list[str]:
    folders = sorted(directory.glob("venue=*/instrument=*/channel=*/date=*"))
    paths = [path for folder in [*folders, directory / "gaps"] for path in segments_in(folder)]
    return [path.relative_to(directory).as_posix() for path in paths]


def _pieces(path: Path, table: str) -> Iterator[pa.Table]:
    """Give the rows of a segment as the database takes them.

    Raises:
        StorageError: it cannot be read.
    """
    if table == "gaps":
        yield _named(read_gaps(path), {"start": start_of(path)})
        return
    venue, symbol = (unquote(part.partition("=")[2]) for part in path.parts[-5:-3])
    index_before, row_before = -1, -1
    with open_file(path, SCHEMAS[Channel[table.upper()]]) as file:
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                rows = pa.Table.from_batches([batch])
                index = rows.column("index").to_numpy()
                if table == "book":
                    number = _numbers(index, index_before, row_before)
                    index_before, row_before = int(index[-1]), int(number[-1])
                    rows = rows.append_column("row", pa.array(number, pa.int32()))
                yield _named(rows, {"start": start_of(path), "instrument": f"{venue}:{symbol}"})
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from None


def _numbers(index: np.ndarray, index_before: int, row_before: int) -> np.ndarray:
    """Number the rows of each message, going on with the one that the piece before ended in."""
    places = np.arange(len(index))
    starts = np.concatenate(([True], index[1:] != index[:-1]))
    number = places - np.maximum.accumulate(np.where(starts, places, 0))
    if int(index[0]) == index_before:
        number[index == index_before] += row_before + 1
    return number


def _named(rows: pa.Table, names: dict[str, str]) -> pa.Table:
    """Add columns of one text each, and bring the others to types that the database has."""
    for name, text in names.items():
        rows = rows.append_column(name, pa.array([text] * rows.num_rows, pa.string()))
    fields = []
    for field in rows.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = {pa.int8(): pa.int16(), pa.uint32(): pa.int64()}.get(kind, kind)
        fields.append(pa.field(field.name, kind))
    return rows.cast(pa.schema(fields))


def address_of(text: str) -> str:
    """Give the address that is written down, or that ``env:NAME`` or ``file:/path`` (mode 600) holds.

    Raises:
        ConfigError: there is none.
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not os.environ.get(name):
            raise ConfigError("", "database", f"the variable {name} is not set")
        return os.environ[name]
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            mode, address = path.stat().st_mode, path.read_text().strip()
        except OSError as error:
            raise ConfigError("", "database", f"{path}: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError("", "database", f"{path}: others can read it: chmod 600 {path}")
        return address
    return text
