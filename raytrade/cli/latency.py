"""Where an update's time goes, from the histograms that the actors keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from rich.table import Table

from raytrade.core.clock import MILLISECOND
from raytrade.core.metrics import Histogram

Actors = dict[str, dict[str, Any]]


def _merged(parts: Iterable[Any]) -> Histogram:
    total = Histogram()
    for part in parts:
        total.merge(msgspec.convert(part, Histogram, strict=False))
    return total


def _of_role(actors: Actors, role: str) -> list[dict[str, Any]]:
    return [actor for actor in actors.values() if actor.get("role") == role]


def hops(actors: Actors) -> dict[str, Histogram]:
    """Give the histograms of every place on an update's way, in the order of the way."""
    collectors, dedups = _of_role(actors, "collector"), _of_role(actors, "dedup")
    strategies, recorders = _of_role(actors, "strategy"), _of_role(actors, "recorder")

    def links(group: list[dict[str, Any]], key: str, figure: str) -> Histogram:
        return _merged(counts[figure] for actor in group for counts in actor.get(key, {}).values())

    return {
        "socket to collector out": links(collectors, "links", "age"),
        "collector out to dedup in": links(dedups, "upstreams", "transit"),
        "socket to dedup out": links(dedups, "links", "age"),
        "dedup out to strategy in": links(strategies, "upstreams", "transit"),
        "dedup out to recorder in": links(recorders, "upstreams", "transit"),
        "socket to strategy called": _merged(actor["engine"]["latency"] for actor in strategies),
    }


def latency_table(actors: Actors) -> Table:
    """Show p50, p99 and the greatest value of every hop in milliseconds."""
    table = Table("hop", "batches or updates", "p50 ms", "p99 ms", "max ms", title="Latency")
    for name, histogram in hops(actors).items():
        figures = [histogram.quantile_ns(0.5), histogram.quantile_ns(0.99), histogram.max_ns]
        table.add_row(name, str(histogram.total), *(f"{figure / MILLISECOND:.2f}" for figure in figures))
    return table
