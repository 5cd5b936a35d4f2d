"""The picture: delay and CPU over the rate, one line per system."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .results import Measurement


def plot(rows: list[Measurement], path: Path) -> str:
    """Draw the paced rates; gives a line for people."""
    try:
        matplotlib: Any = import_module("matplotlib")
    except ImportError:
        return "no picture: matplotlib is not installed"
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(1, 3, figsize=(16, 5))
    panels = [("p50", "p50 (ms)"), ("p99", "p99 (ms)"), ("cpu", "CPU per update (us)")]
    for axis, (key, title) in zip(axes, panels, strict=True):
        for system, points in _series(rows, key).items():
            axis.plot(*zip(*points, strict=True), marker="o", label=system)
        axis.set(xscale="log", yscale="log", title=title, xlabel="updates per second")
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].legend()
    figure.suptitle("From the exchange's socket to the strategy's book")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return f"picture: {path}"


def _series(rows: list[Measurement], key: str) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.latency_ms and row.rate.replace(".", "", 1).isdigit():
            value = row.cpu_us_total if key == "cpu" else row.latency_ms[key]
            series.setdefault(row.system, []).append((float(row.rate), value))
    return {system: sorted(points) for system, points in series.items()}
