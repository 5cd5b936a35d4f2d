"""``raytrade export``: a recording in other tools' formats."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from raytrade.cli.progress import through_time
from raytrade.core.events import Channel
from raytrade.errors import ConfigError


class Format(StrEnum):
    """What can be written."""

    TARDIS = "tardis"
    HFTBACKTEST = "hftbacktest"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the recording.")],
    kind: Annotated[Format, typer.Option("--format", help="tardis: CSV; hftbacktest: .npz.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on; books open with an image.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to before this time.")] = None,
    instruments: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="<venue>:<symbol>; repeatable.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out segments that cannot be read.")] = False,
) -> None:
    """Write a recording as files of Tardis (CSV: book updates, top 25, trades, quotes) or of hftbacktest (.npz).

    One file per kind, instrument and day; each is there whole or not at all. Prints the files.

    Example: raytrade export data --format tardis --out csv --instruments 'binance-spot:BTC*'
    """
    from raytrade.storage.hftbacktest import export_hftbacktest
    from raytrade.storage.recording import open_recording
    from raytrade.storage.tardis import export_tardis

    if out.exists() and not out.is_dir():
        raise ConfigError("export", "--out", f"{out}: is no directory")
    recording = open_recording(directory, skip_bad=skip_bad)
    names = sorted({name for name, _ in recording.streams(instruments)})
    writes = {Format.TARDIS: export_tardis, Format.HFTBACKTEST: export_hftbacktest}[kind]
    count = 0
    for name in names:
        channels = [channel for instrument, channel in recording.streams() if instrument == name]
        messages = recording.messages(
            start, end, [name], sorted(channels, reverse=True), images=Channel.BOOK in channels
        )
        for path in writes(name, through_time(name, messages), out):
            print(path)
            count += 1
    for problem in recording.skipped:
        print(f"raytrade: skipped: {problem}", file=sys.stderr)
    if not count:
        raise ConfigError("export", str(directory), "nothing is recorded in this interval")
