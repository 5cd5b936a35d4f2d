"""``raytrade sql``: a recording asked in SQL."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

import msgspec
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytrade.errors import ConfigError
from raytrade.storage.queries import Database
from raytrade.storage.recording import Recording, open_recording

ROWS_AT_ONCE = 10_000

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out segments that cannot be read, and name them.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sql")(run_sql)


def run_sql(
    query: Annotated[str, typer.Argument(metavar="SELECT...", help="One statement of SQL (DuckDB).")],
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="Directory of the recording, or a URI.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Ask a recording in SQL: views book, trades, gaps, coverage, bbo (best bid and ask after every message).

    Prices and sizes are exact decimals (text in JSON), times are nanoseconds since 1970. The order of a stream is
    ORDER BY run, index.

    Example: raytrade sql "SELECT instrument, count(*) FROM trades GROUP BY ALL" --data data
    """
    if as_json and as_csv:
        raise ConfigError("sql", "--csv", "not together with --json")
    recording = open_recording(data, skip_bad=skip_bad)
    table = Database(recording).query(query)
    if as_json:
        for row in _rows(table):
            print(json_text(dict(zip(table.column_names, row, strict=True))))
    elif as_csv:
        _print_csv(table)
    elif sys.stdout.isatty():
        _print_table(table)
    else:
        _print_plain(table)
    name_skipped(recording)


def _rows(table: pa.Table) -> Iterator[list[object]]:
    for batch in table.to_batches(ROWS_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield [_plain(value) for value in row]


def _plain(value: object) -> object:
    """Give a decimal as canonical text, all else as it is."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value


def json_text(value: object) -> str:
    """Write a value as JSON."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def _text(value: object) -> str:
    if value is None:
        return ""
    return json_text(value) if isinstance(value, list | dict) else str(value)


def _print_csv(table: pa.Table) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_text(value) for value in row] for row in _rows(table))


def _print_plain(table: pa.Table) -> None:
    """Print columns of equal width: for people, and for programs that split at blanks."""
    rows = [table.column_names, *([_text(value) for value in row] for row in _rows(table))]
    widths = [max(len(row[at]) for row in rows) for at in range(table.num_columns)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_table(table: pa.Table) -> None:
    shown = Table()
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        shown.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in _rows(table):
        shown.add_row(*(Text(_text(value)) for value in row))
    Console().print(shown)


def name_skipped(recording: Recording) -> None:
    """Say on standard error which segments were left out."""
    for problem in recording.skipped:
        print(f"raytrade: skipped: {problem}", file=sys.stderr)
