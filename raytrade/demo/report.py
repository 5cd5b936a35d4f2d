"""The demo's result, what counts as failed, and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from raytrade.core.clock import MILLISECOND
from raytrade.core.metrics import Histogram

if TYPE_CHECKING:
    from raytrade.demo.run import DemoSettings


class DemoResult(msgspec.Struct):
    """What happened. Counts are of book updates as the exchanges sent them."""

    directory: str
    updates: int = 0
    missed_by_strategy: int = 0
    missed_by_files: int = 0
    repeated: int = 0
    cut_line: str = ""
    killed: str = ""
    killed_pid: int = 0
    killed_came_back: bool = False
    redundancy_returned: bool = True
    lines: dict[str, dict[str, Any]] = {}
    strategy: dict[str, Any] = {}
    recorder: dict[str, Any] = {}
    problems: list[str] = []

    def failures(self, settings: DemoSettings) -> list[str]:
        """Name everything that must not be."""
        found = list(self.problems)
        if not settings.capture and not settings.stays and self.updates < settings.updates_min:
            found.append(f"only {self.updates} updates flowed, {settings.updates_min} are needed")
        for count, what in (
            (self.missed_by_strategy, "updates missed by the strategy"),
            (self.missed_by_files, "updates missed by the files"),
            (self.repeated, "updates came twice"),
        ):
            if count:
                found.append(f"{count} {what}")
        if not self.cut_line and not settings.stays:
            found.append("no socket was cut")
        if not self.killed_pid and not settings.stays:
            found.append("no collector was killed")
        elif self.killed_pid and not self.killed_came_back:
            found.append("the killed collector did not come back")
        if not self.redundancy_returned:
            found.append("redundancy did not return")
        if not settings.stays:
            found += [f"line {name} never won" for name, line in self.lines.items() if not line["wins"]]
        return found


def milliseconds(duration_ns: int) -> str:
    """Write a duration for people."""
    return f"{duration_ns / MILLISECOND:.1f}"


def short(name: str) -> str:
    """Leave out of a line's or an actor's name what all of them begin with."""
    return name.removeprefix("demo-collector-")


def print_report(console: Console, result: DemoResult, failures: list[str]) -> None:
    """Print tables and verdict."""
    console.print(_lines_table(result))
    console.print(_summary_table(result))
    console.print(f"Parquet lies in {result.directory}; to query it:", soft_wrap=True)
    files = f"{result.directory}/venue=*/instrument=*/channel=book/date=*/*.parquet"
    query = f"SELECT instrument, count(*) FROM read_parquet('{files}', hive_partitioning=true) GROUP BY 1"
    console.print(f'  duckdb -c "{query}"', soft_wrap=True, highlight=False)
    for failure in failures:
        console.print(f"FAILED: {failure}", style="red")
    if not failures:
        console.print("Nothing was missed.", style="green")


def _lines_table(result: DemoResult) -> Table:
    columns = ("updates", "wins", "duplicates dropped", "gaps seen", "gaps healed", "lead p50 ms", "lead p99 ms")
    table = Table("line", *columns, title="Lines")
    for name, line in sorted(result.lines.items()):
        lead = msgspec.convert(line["lead"], Histogram, strict=False)
        counts = [str(line[key]) for key in ("updates", "wins", "duplicates", "gaps_seen", "gaps_healed")]
        quantiles = [milliseconds(lead.quantile_ns(share)) for share in (0.5, 0.99)]
        table.add_row(short(name), *counts, *quantiles)
    return table


def _summary_table(result: DemoResult) -> Table:
    latency = msgspec.convert(result.strategy["engine"]["latency"], Histogram, strict=False)
    p50_ns, p99_ns = latency.quantile_ns(0.5), latency.quantile_ns(0.99)
    rows = [
        ("updates sent by the exchanges", result.updates),
        ("updates missed by the strategy", result.missed_by_strategy),
        ("updates missed by the files", result.missed_by_files),
        ("updates that came twice", result.repeated),
        ("duplicates dropped", sum(line["duplicates"] for line in result.lines.values())),
        ("socket cut", short(result.cut_line)),
        ("collector killed (SIGKILL) and back", f"{short(result.killed)} (pid {result.killed_pid})"),
        ("latency socket to strategy, p50 / p99 ms", f"{milliseconds(p50_ns)} / {milliseconds(p99_ns)}"),
        ("rows recorded", result.recorder["sink"]["rows"] + result.recorder["sink"]["messages_pending"]),
    ]
    table = Table("what", "how much", title="Result")
    for what, value in rows:
        table.add_row(what, str(value))
    return table
