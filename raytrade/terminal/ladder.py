"""One instrument's ladder and trades, as text for the screen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from raytrade.core.clock import SECOND

BAR_CELLS = 24


def ladder_table(ladder: dict[str, Any]) -> Table:
    """Show asks above bids, best in the middle, with a bar for each size; a book that is not live says so."""
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    title = f"{ladder['instrument']}  id {ladder['id_last']}"
    table.add_row("", "", Text(title, style="bold"))
    if not ladder["is_live"]:
        table.add_row("", "", Text(f"the book is {ladder['state']}: not usable", style="bold red"))
    sizes = [float(size) for _, size in (*ladder["bids"], *ladder["asks"])]
    greatest = max(sizes, default=0.0) or 1.0
    for price, size in reversed(ladder["asks"]):
        table.add_row(Text(price, style="red"), size, _bar(size, greatest, "red"))
    table.add_row("", "", "")
    for price, size in ladder["bids"]:
        table.add_row(Text(price, style="green"), size, _bar(size, greatest, "green"))
    return table


def _bar(size: str, greatest: float, style: str) -> Text:
    return Text("█" * max(1, round(BAR_CELLS * float(size) / greatest)), style=style)


def trade_table(ladder: dict[str, Any], count: int) -> Table:
    """Show the newest trades, newest first."""
    table = Table.grid(padding=(0, 2))
    for trade in list(reversed(ladder["trades"]))[:count]:
        at = datetime.fromtimestamp(trade["ts_recv_ns"] / SECOND, UTC).strftime("%H:%M:%S.%f")[:-3]
        style = "green" if trade["aggressor"] == "buy" else "red"
        table.add_row(at, Text(trade["price"], style=style), trade["size"])
    return table
