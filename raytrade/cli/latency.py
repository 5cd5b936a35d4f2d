"""Where an update's time goes, from the histograms that the actors keep."""

from __future__ import annotations

from rich.table import Table

from raytrade.core.clock import MILLISECOND
from raytrade.observation.status import Actors, hops


def latency_table(actors: Actors) -> Table:
    """Show p50, p99 and the greatest value of every hop in milliseconds."""
    table = Table("hop", "batches or updates", "p50 ms", "p99 ms", "max ms", title="Latency")
    for name, histogram in hops(actors).items():
        figures = [histogram.quantile_ns(0.5), histogram.quantile_ns(0.99), histogram.max_ns]
        table.add_row(name, str(histogram.total), *(f"{figure / MILLISECOND:.2f}" for figure in figures))
    return table
