"""What the samples of a soak say: slopes after the warm-up, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .fits import fit_line
from .probe import Counts
from .sampling import ProcessSample, Sample

WARM_SHARE = 0.2
"""What is filled at the beginning (rings, caches, Ray's own tables) is no leak."""
MB_PER_MIN_MAX = 1.0
STORE_MB_PER_MIN_MAX = 0.1
DESCRIPTORS_PER_MIN_MAX = 1.0
JUDGED_S_MIN = 120.0
"""In less time than this the allocators' steps look like slopes."""


class Slope(msgspec.Struct, frozen=True):
    """A process, or all of them: its value at the end, and what it grew by in a minute."""

    name: str
    own_mb: float
    own_mb_per_min: float
    pss_mb: float
    rss_mb: float
    descriptors: int
    descriptors_per_min: float
    threads: int


def judged(samples: list[Sample]) -> list[Sample]:
    """Give the samples after the warm-up."""
    start_s = samples[-1].at_s * WARM_SHARE if samples else 0.0
    return [sample for sample in samples if sample.at_s >= start_s]


def slopes(samples: list[Sample]) -> list[Slope]:
    """Give a line for each process that lived through all (judged) samples, the fastest first, then the total."""
    lasting = set.intersection(*(set(sample.processes) for sample in samples))
    rows = [_slope(samples, f"{samples[-1].processes[pid].role} {pid}", [pid]) for pid in lasting]
    rows.sort(key=lambda row: -row.own_mb_per_min)
    return [*rows, _slope(samples, "total", None)]


def _slope(samples: list[Sample], name: str, pids: list[int] | None) -> Slope:
    minutes = [sample.at_s / 60 for sample in samples]

    def series(read: Callable[[ProcessSample], float]) -> list[float]:
        return [
            sum(read(process) for pid, process in sample.processes.items() if pids is None or pid in pids)
            for sample in samples
        ]

    own, descriptors = series(lambda one: one.own_mb), series(lambda one: one.descriptors)
    return Slope(
        name,
        own[-1],
        fit_line(minutes, own).slope,
        series(lambda one: one.pss_mb)[-1],
        series(lambda one: one.rss_mb)[-1],
        int(descriptors[-1]),
        fit_line(minutes, descriptors).slope,
        int(series(lambda one: one.threads)[-1]),
    )


def store_slope(samples: list[Sample]) -> float:
    """Give what the object store grew by, in megabytes a minute."""
    return fit_line([sample.at_s / 60 for sample in samples], [sample.store_mb for sample in samples]).slope


def growth_problems(total: Slope, store_mb_per_min: float, seconds: float) -> list[str]:
    """Give what grows beyond its bound; over less than `JUDGED_S_MIN` only the object store is judged."""
    grown = {f"the object store grows by {store_mb_per_min:.2f} MB/min": store_mb_per_min > STORE_MB_PER_MIN_MAX}
    if seconds >= JUDGED_S_MIN:
        grown[f"memory grows by {total.own_mb_per_min:.2f} MB/min"] = total.own_mb_per_min > MB_PER_MIN_MAX
        grown[f"descriptors grow by {total.descriptors_per_min:.1f} a minute"] = (
            total.descriptors_per_min > DESCRIPTORS_PER_MIN_MAX
        )
    return [problem for problem, is_so in grown.items() if is_so]


def loss_problems(counts: Counts, last_id: int) -> list[str]:
    """Give what the strategy missed or got twice."""
    seen = {
        "updates were jumped over": counts.last - counts.first + 1 - (counts.updates - counts.repeats),
        "updates were applied twice": counts.repeats,
        "gaps": counts.gaps,
        "updates are missing at the end": last_id - counts.last,
    }
    return [f"{count} {what}" for what, count in seen.items() if count]


def table(rows: list[Slope]) -> list[list[str]]:
    """Give the lines of the table, heading first."""
    lines = [["process", "", "own MB", "MB/min", "PSS MB", "RSS MB", "descriptors", "a minute", "threads"]]
    for row in rows:
        memory = [f"{row.own_mb:.1f}", f"{row.own_mb_per_min:+.3f}", f"{row.pss_mb:.1f}", f"{row.rss_mb:.1f}"]
        counts = [str(row.descriptors), f"{row.descriptors_per_min:+.2f}", str(row.threads)]
        lines.append([row.name, "", *memory, *counts])
    return lines
