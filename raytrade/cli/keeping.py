"""``raytrade compact``, ``prune`` and ``recover``: what a recording needs while it grows old."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from raytrade.cli.progress import naming, waiting

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the recording.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compact")(run_compact)
    app.command("prune")(run_prune)
    app.command("recover")(run_recover)


def run_compact(
    directory: Directory,
    before: Annotated[str, typer.Option(metavar="DATE", help="Days before this one (UTC); default: today.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make one file of the segments of each day, stream and start of a recorder.

    Rows and certificates stay as they are. Each result is read back and compared with its sources before they are
    removed; killed at any moment, it leaves the sources or the result. A recorder may go on writing meanwhile. Files of
    an older table version are written anew. What cannot be read is named and left as it is; the exit status is then 1.

    Example: raytrade compact data
    """
    from raytrade.storage.compaction import compact
    from raytrade.storage.times import instant_ns

    if before:
        instant_ns(before)
    with naming("compacting") as name:
        done = compact(directory, before, advance=lambda folder: name(str(folder.relative_to(directory))))
    if as_json:
        print(msgspec.json.encode(done).decode())
    else:
        sizes = f"{done.bytes_before} bytes to {done.bytes_after}"
        print(f"{done.sources} segments to {done.results}, {done.rows} rows, {sizes}")
        if done.recovered:
            print(f"{done.recovered} messages recovered from the log of a killed recorder")
    for problem in done.problems:
        print(f"raytrade: left as it is: {problem}", file=sys.stderr)
    if done.problems:
        raise typer.Exit(1)


def run_prune(
    directory: Directory,
    keep: Annotated[str, typer.Option(metavar="DAYS", help="How far back to keep: 30d.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the days that ended longer ago than that; certificates stay, and verify knows that it was meant.

    A recorder does the same by itself where its configuration has `retention: 30d`.

    Example: raytrade prune data --keep 30d --dry-run
    """
    from raytrade.storage.retention import days_of, prune
    from raytrade.transport.clock import SystemClock

    with waiting("removing days"):
        done = prune(directory, days_of(keep), SystemClock().now_ns(), is_dry=dry_run)
    if as_json:
        print(msgspec.json.encode(done).decode())
    else:
        verb = "would be removed" if dry_run else "removed"
        print(f"{verb}: {done.days} days before {done.before}, {done.files} files, {done.bytes} bytes")


def run_recover(directory: Directory, as_json: AsJson = False) -> None:
    """Make segments of what a killed recorder had taken and not yet put into one.

    A recorder that starts in the directory does this by itself, and so does compact. Broken off, it can be done again.

    Example: raytrade recover data
    """
    from raytrade.errors import ConfigError
    from raytrade.storage.recovery import recover

    if not directory.is_dir():
        raise ConfigError("", str(directory), "is no directory" if directory.exists() else "no such directory")
    with waiting("reading the logs"):
        done = recover(directory)
    if as_json:
        print(msgspec.json.encode(done).decode())
    else:
        print(
            f"{done.messages} messages and {done.notes} notes of {len(done.starts)} starts in {done.segments} segments"
        )
    for problem in done.damaged:
        print(f"raytrade: {problem}", file=sys.stderr)
    if done.damaged:
        raise typer.Exit(1)
