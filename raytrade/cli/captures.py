"""``raytrade import``: recorded raw frames into books and a recording."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from raytrade.cli.output import wide_console
from raytrade.cli.progress import bars
from raytrade.errors import ConfigError, StorageError
from raytrade.importer import Importer, JsonObject
from raytrade.storage.captures import Capture
from raytrade.storage.sink import ParquetSink

PIPED_COLUMNS = 200
"""Width of the tables where no terminal tells one, so that no name is cut."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_captures)


def import_captures(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="Recordings (.jsonl.gz).")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory of the Parquet recording.")],
    book: Annotated[Path | None, typer.Option("--book", metavar="FILE", help="Write the final books here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per capture.")] = False,
) -> None:
    """Run recorded frames through the venue machines and the arbiter into a recording, faster than real time.

    Every connection of a capture is a line; several are arbitrated. A damaged capture is imported as far as it is
    good, undecodable frames are passed over; either is reported and makes the exit status 1.

    Example: raytrade import btcusdt.jsonl.gz --out data --json
    """
    if book is not None:
        _check_writable(book)
    opened = [_open(path) for path in captures]
    sink = ParquetSink(out, certify=True)
    arrivals = sink.arrivals()
    books: JsonObject = {}
    problems: list[str] = []
    for capture in opened:
        importer = Importer(capture, sink, arrivals)
        _run(importer)
        books |= importer.final_books()
        _print(capture, importer.summary(), as_json)
        problems += _problems(importer)
    sink.close()
    if book is not None:
        _write_books(book, books)
    for problem in problems:
        print(f"raytrade: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def _check_writable(book: Path) -> None:
    if book.is_dir() or not book.parent.is_dir():
        problem = "is a directory" if book.is_dir() else f"no such directory: {book.parent}"
        raise ConfigError("import", "--book", f"{book}: {problem}")


def _problems(importer: Importer) -> list[str]:
    problems = []
    if importer.bad_frame is not None:
        others = importer.undecodable - 1
        problems.append(f"{importer.bad_frame}{f' ({others} more undecodable)' if others else ''}")
    if importer.problem is not None:
        problems.append(f"{importer.problem} (imported up to there)")
    return problems


def _open(path: Path) -> Capture:
    if not path.is_file():
        raise ConfigError(str(path), "", "is no file" if path.exists() else "no such file")
    capture = Capture(path)
    try:
        Importer(capture)
    except ConfigError as error:
        raise ConfigError(str(path), error.key, error.problem) from None
    return capture


def _run(importer: Importer) -> None:
    capture = importer.capture
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with bars(*columns) as progress:
        task = progress.add_task(capture.path.name, total=capture.bytes_total)
        importer.run(lambda done: progress.update(task, completed=done))


def _print(capture: Capture, summary: JsonObject, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(summary).decode())
        return
    console = wide_console()
    if not console.is_terminal:
        console = Console(width=PIPED_COLUMNS)
    console.print(f"{capture.path.name}: {summary['venue']}, {summary['undecodable']} undecodable frames")
    for title, rows in (("line", summary["lines"]), ("instrument", summary["instruments"])):
        assert isinstance(rows, dict)
        console.print(_table(title, rows))


def _table(title: str, rows: dict[str, dict[str, object]]) -> Table:
    table = Table()
    table.add_column(title, overflow="fold")
    names = [name for name in next(iter(rows.values()), {}) if name != "top"]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for key, row in rows.items():
        table.add_row(key, *(str(row[name]) for name in names))
    return table


def _write_books(path: Path, books: JsonObject) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(msgspec.json.encode(books))
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(str(path), f"cannot be written: {error.strerror}") from None
