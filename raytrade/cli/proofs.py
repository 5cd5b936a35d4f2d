"""``raytrade league``, ``verify`` and ``repair``: what a recording proves, of the lines and of itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from raytrade.cli.output import wide_console
from raytrade.cli.progress import steps, waiting
from raytrade.core.clock import MILLISECOND
from raytrade.storage.times import interval_ns

JsonObject = dict[str, Any]
RANGES_SHOWN = 5
LIES_SHOWN = 20

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the recording.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("league")(run_league)
    app.command("verify")(run_verify)
    app.command("repair")(run_repair)


# League.


def run_league(
    directory: Directory,
    without: Annotated[str | None, typer.Option(metavar="LINE", help="What this line is worth.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to before this time.")] = None,
    instruments: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="<venue>:<symbol>; repeatable.")] = None,
    clock_error_ms: Annotated[float, typer.Option(min=0, help="Wins by less than this are doubtful.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compare the lines by the log of arrivals: who was first, by how much, what was lost and healed.

    Times are those of the dedup's host, one clock for all lines. With --without, the log is played again without one
    line: by how much its wins would have come later, and what nobody else brought.

    Example: raytrade league data --instruments 'binance-spot:*' --without majors-collector-a-0/binance-spot
    """
    from raytrade.storage.league import league_of

    with waiting("reading the arrivals"):
        league = league_of(directory, interval_ns(start, end), instruments or ["*"], without)
    if without is None:
        bound_ns = int(clock_error_ms * MILLISECOND)
        rows = [
            _standing(key, standing, bound_ns) for key, standing in sorted(league.standings.items(), key=_by_stream)
        ]
        title = f"{league.rows} arrivals"
    else:
        rows = [_absence(key, absence) for key, absence in sorted(league.absences.items())]
        title = f"without {without}"
    if league.blocks_missing:
        title += f"; {league.blocks_missing} blocks of the log are missing"
    if as_json:
        print(msgspec.json.encode({"blocks_missing": league.blocks_missing, "rows": rows}).decode())
    else:
        _print_rows(title, rows)


# Verify.


def run_verify(
    directory: Directory,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move files that cannot be read to DIR/quarantine.")
    ] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Write the certificates that a killed recorder could not write.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute every certificate again from the files alone; exit status 1 if anything is not as it is said to be.

    Beside the certificates: ids that are missing though nothing says so, the venue's own checksums, files that cannot
    be read. Rows that no certificate speaks of yet (of an hour that is not over) are counted as uncertified.

    Example: raytrade verify data --json
    """
    from raytrade.storage.verification import verify_recording

    with steps("streams") as progress:
        found = verify_recording(directory, quarantine=quarantine, certify=certify, progress=progress)
    rows: list[JsonObject] = [msgspec.to_builtins(report) for report in found.streams]
    if as_json:
        print(msgspec.json.encode({"ok": not found.lies, **msgspec.to_builtins(found)}).decode())
    else:
        _print_rows("not as it is said to be" if found.lies else "everything is as it is said to be", rows)
        for path in found.quarantined:
            print(f"moved to {path}")
        for path in found.recovered:
            print(f"certified now: {path}")
    for lie in found.lies[:LIES_SHOWN]:
        print(f"raytrade: {lie}", file=sys.stderr)
    if len(found.lies) > LIES_SHOWN:
        print(f"raytrade: and {len(found.lies) - LIES_SHOWN} more", file=sys.stderr)
    if found.lies:
        raise typer.Exit(1)


# Repair.


def run_repair(
    first: Annotated[Path, typer.Argument(metavar="A", help="Directory of a recording.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Directory of another recorder of the same pipeline.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be filled.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fill two recordings of one pipeline from each other: what only one has is copied to the other.

    No file is changed: what is filled in stands in files of its own, with certificates, and readers merge it by id.
    Where the two contradict each other nothing is written, and the exit status is 1.

    Example: raytrade repair /data/recorder-a /data/recorder-b --dry-run
    """
    from raytrade.storage.repair import repair

    with steps("streams") as progress:
        report = repair(first, second, is_dry=dry_run, progress=progress)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    rows: list[JsonObject] = [
        {
            "instrument": stream.instrument,
            "channel": stream.channel,
            "provable": "yes" if stream.is_provable else "no",
            "compared": stream.compared,
            "into A": stream.first.messages,
            "ids A": stream.first.ranges,
            "into B": stream.second.messages,
            "ids B": stream.second.ranges,
            "in neither": stream.missing,
        }
        for stream in report.streams
    ]
    _print_rows("would be filled" if dry_run else "filled", rows)


def _by_stream(item: tuple[tuple[str, str, str], Any]) -> tuple[str, str, str]:
    line, instrument, channel = item[0]
    return instrument, channel, line


def _standing(key: tuple[str, str, str], standing: Any, bound_ns: int) -> JsonObject:
    leads = standing.leads()
    return {
        "instrument": key[1],
        "channel": key[2],
        "line": key[0],
        "messages": standing.messages,
        "wins": standing.wins,
        "share": _share(standing.wins, standing.messages),
        "lead_p50_ms": _quantile_ms(leads, 0.5),
        "lead_p99_ms": _quantile_ms(leads, 0.99),
        "doubtful": int((leads < bound_ns).sum()),
        "lost": standing.lost,
        "loss": _share(standing.lost, standing.messages),
        "healed": standing.healed,
        "disagreements": standing.disagreements,
        "reconnects": standing.reconnects,
        "transit_min_ms": None if standing.transit_ns is None else standing.transit_ns / MILLISECOND,
    }


def _absence(key: tuple[str, str], absence: Any) -> JsonObject:
    delays = absence.delays()
    return {
        "instrument": key[0],
        "channel": key[1],
        "messages": absence.messages,
        "later": len(delays),
        "later_share": _share(len(delays), absence.messages),
        "delay_p50_ms": _quantile_ms(delays, 0.5),
        "delay_p99_ms": _quantile_ms(delays, 0.99),
        "delay_max_ms": _quantile_ms(delays, 1.0),
        "delay_mean_ms": round(float(delays.sum()) / absence.messages / MILLISECOND, 6) if absence.messages else None,
        "lost": absence.lost,
        "ranges": absence.ranges,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _quantile_ms(values: np.ndarray, share: float) -> float | None:
    return round(float(np.quantile(values, share)) / MILLISECOND, 6) if len(values) else None


def _print_rows(title: str, rows: list[JsonObject]) -> None:
    """Print rows with the same keys."""
    table = Table(title=title)
    for name in rows[0] if rows else ():
        is_text = isinstance(rows[0][name], str)
        table.add_column(name.replace("_", " "), justify="left" if is_text else "right", no_wrap=is_text)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    wide_console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        shown = [f"{first}..{last}" for first, last in value[:RANGES_SHOWN]]
        return " ".join([*shown, "..."] if len(value) > RANGES_SHOWN else shown)
    return str(value)
