"""The tables of a soak."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from raytrade.chaos.history import Soak, by_kind, figures


def print_report(console: Console, soak: Soak) -> list[str]:
    """Print figures and verdict; gives the failures."""
    failures = soak.failures()
    console.print(_kinds_table(soak))
    console.print(_counts_table(soak))
    for remark in soak.remarks:
        console.print(remark, soft_wrap=True, highlight=False)
    for failure in failures:
        console.print(f"FAILED: {failure}", style="red", soft_wrap=True)
    console.print(f"updates missed by consumers: {soak.missed_by_strategies}", highlight=False)
    return failures


def _kinds_table(soak: Soak) -> Table:
    columns = ("count", "stall ms p50", "p99", "max", "while restarting max", "redundant again s p50", "max")
    table = Table("fault", *columns, title="Worst delivery gap of a surviving strategy in the second after the fault")
    quiet = figures(soak.quiet_ms)
    table.add_row("none", str(quiet.count), *_texts(quiet.p50, quiet.p99, quiet.highest), "", "", "")
    for kind, entries in by_kind(soak.history).items():
        stalls = figures([entry.stall_ms for entry in entries])
        restarts = figures([entry.restart_ms for entry in entries])
        restored = figures([entry.restored_s for entry in entries if entry.restored_s is not None])
        cells = _texts(stalls.p50, stalls.p99, stalls.highest, restarts.highest, restored.p50, restored.highest)
        table.add_row(kind, str(stalls.count), *cells)
    return table


def _texts(*values: float) -> list[str]:
    return [f"{value:.1f}" for value in values]


def _counts_table(soak: Soak) -> Table:
    table = Table("what", "how much", title=f"{soak.seconds / 60:.1f} minutes at {soak.rate:.0f} updates/s")
    rows: list[tuple[str, object]] = [
        ("updates and trades sent", f"{soak.updates} and {soak.trades}"),
        ("kills, faults in all", f"{soak.kills}, {len(soak.history)}"),
        ("missed by the strategies", soak.missed_by_strategies),
        ("of all that is missing, told by no gap", soak.untold),
        ("seen twice, or books out of order", soak.repeated),
        ("trades seen after a later one", soak.late_trades),
        ("missing from the union of the recorders", soak.missed_by_union),
        *((f"missing from {name} alone", missed) for name, missed in sorted(soak.missed_by_recorder.items())),
        ("recorded twice", soak.repeated_in_files),
        ("files, unreadable", f"{soak.files}, {len(soak.unreadable)}"),
        ("gaps in the files", soak.gaps_in_files),
    ]
    for what, value in rows:
        table.add_row(what, str(value))
    return table
