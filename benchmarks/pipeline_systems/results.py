"""From times to figures: joining, percentiles, medians over repeats, tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil
from statistics import median
from typing import Any

import msgspec

from .system import Shape

QUANTILES = {"p50": 0.50, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
SUSTAINED_SHARE = 0.98
GROWTH_MAX = 2.0
GROWTH_FLOOR_MS = 5.0


class Measurement(msgspec.Struct, kw_only=True):
    """One run. Times are from the exchange's socket to the strategy's book; CPU is microseconds an update."""

    system: str
    rate: str
    repeat: int
    updates: int = 0
    latency_ms: dict[str, float] = {}
    latency_thirds_p99_ms: list[float] = []
    achieved: float = 0.0
    seconds: float = 0.0
    shape: Shape = Shape()
    drain_cpu_ms: dict[str, float] = {}
    """From the strategies' last update on: what the recorder still had to take, and closing its files."""
    cpu_us: dict[str, float] = {}
    exchange_cpu_us: float = 0.0
    idle_cpu_ms_per_s: dict[str, float] = {}
    memory_mb: float = 0.0
    problems: list[str] = []

    @property
    def cpu_us_total(self) -> float:
        """CPU of an update over all processes but the exchange, the standing cost included."""
        return sum(self.cpu_us.values())

    @property
    def idle_total(self) -> float:
        """CPU in ms per second without any traffic."""
        return sum(self.idle_cpu_ms_per_s.values())


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the value that `share` of the (sorted) values do not exceed."""
    if not ordered:
        return 0.0
    rank = max(1, ceil(share * len(ordered)))
    return ordered[min(rank, len(ordered)) - 1]


def join_times(
    sent: Sequence[int], applied: Iterable[tuple[int, int]], first_id: int, symbols: int = 1
) -> tuple[list[int], list[str]]:
    """Give the delay of each update in order of id, and what is wrong: lost, repeated or out of order.

    `sent[n]` is the time of the id `first_id + n`; what was applied of other ids is passed over. The symbols take
    turns, and each has an order of its own.
    """
    delays: dict[int, int] = {}
    lasts = [0] * symbols
    repeated = disordered = 0
    for number, applied_ns in applied:
        at = number - first_id
        if not 0 <= at < len(sent):
            continue
        stream = number % symbols
        disordered += number < lasts[stream]
        lasts[stream] = max(lasts[stream], number)
        repeated += at in delays
        delays.setdefault(at, applied_ns - sent[at])
    counts = {"lost": len(sent) - len(delays), "applied twice": repeated, "out of order": disordered}
    return [delays[at] for at in sorted(delays)], [f"{count} updates {what}" for what, count in counts.items() if count]


def latency_figures(delays_ns: Sequence[int]) -> dict[str, float]:
    """Give the quantiles in milliseconds."""
    ordered = sorted(delays_ns)
    return {name: percentile(ordered, share) / 1e6 for name, share in QUANTILES.items()}


def thirds_p99_ms(delays_ns: Sequence[int]) -> list[float]:
    """Give the p99 of the first, second and last third of a run: whether a queue was growing."""
    size = len(delays_ns) // 3
    parts = [delays_ns[:size], delays_ns[size : 2 * size], delays_ns[2 * size :]]
    return [percentile(sorted(part), 0.99) / 1e6 for part in parts]


def is_sustained(measurement: Measurement, rate: float) -> bool:
    """Tell whether a system kept up with a paced rate: as much done as sent, and no growing queue."""
    if measurement.problems or measurement.achieved < SUSTAINED_SHARE * rate:
        return False
    first, _, last = measurement.latency_thirds_p99_ms or [0.0, 0.0, 0.0]
    return last <= max(GROWTH_FLOOR_MS, GROWTH_MAX * first)


def highest_sustained(holds: Callable[[int], bool], low: int, high: int, step: int) -> int:
    """Give the highest rate for which `holds`: doubling from `low`, then halving the interval down to `step`.

    0 if not even `low` holds. `high` bounds the search.
    """
    best, failing = 0, 0
    rate = low
    while not failing and rate <= high:
        if holds(rate):
            best, rate = rate, rate * 2
        else:
            failing = rate
    failing = failing or high + step
    while best and failing - best > step:
        middle = (best + failing) // 2 // step * step
        if middle <= best:
            break
        if holds(middle):
            best = middle
        else:
            failing = middle
    return best


def medians(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Give one measurement per system and rate: the median of each figure over the repeats without problems."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.system, one.rate), []).append(one)
    return [_median(group) for group in groups.values()]


def _median(group: list[Measurement]) -> Measurement:
    good = [one for one in group if not one.problems] or group
    problems = [problem for one in group for problem in one.problems]

    def middle(read: Callable[[Measurement], float]) -> float:
        return median(read(one) for one in good)

    def each(read: Callable[[Measurement], dict[str, float]]) -> dict[str, float]:
        keys = {key: None for one in good for key in read(one)}
        return {key: median(read(one).get(key, 0.0) for one in good) for key in keys}

    return Measurement(
        system=group[0].system,
        rate=group[0].rate,
        repeat=len(good),
        updates=int(middle(lambda one: one.updates)),
        latency_ms=each(lambda one: one.latency_ms),
        achieved=middle(lambda one: one.achieved),
        seconds=middle(lambda one: one.seconds),
        shape=group[0].shape,
        drain_cpu_ms=each(lambda one: one.drain_cpu_ms),
        cpu_us=each(lambda one: one.cpu_us),
        exchange_cpu_us=middle(lambda one: one.exchange_cpu_us),
        idle_cpu_ms_per_s=each(lambda one: one.idle_cpu_ms_per_s),
        memory_mb=middle(lambda one: one.memory_mb),
        problems=problems,
    )


COLUMNS = ("system", "rate", *(f"{name} ms" for name in QUANTILES), "achieved/s", "CPU us", "idle ms/s", "PSS MB")


def table(rows: list[Measurement], reference: str) -> list[list[str]]:
    """Give the lines of the result table, heading first; ratios (in brackets) are to `reference` at the same rate."""
    references = {row.rate: row for row in rows if row.system == reference}
    lines = [list(COLUMNS)]
    for row in rows:
        base = references.get(row.rate) if row.system != reference else None
        lines.append(_line(row, base))
    return lines


def _line(row: Measurement, base: Measurement | None) -> list[str]:
    if not row.latency_ms:
        return [row.system, row.rate, f"failed: {'; '.join(row.problems)}"] + [""] * (len(COLUMNS) - 3)
    cells = [_cell(value, base.latency_ms.get(name) if base else None, 2) for name, value in row.latency_ms.items()]
    cells.append(_cell(row.achieved, base.achieved if base else None, 0))
    cells.append(_cell(row.cpu_us_total, base.cpu_us_total if base else None, 0))
    return [row.system, row.rate, *cells, f"{row.idle_total:.1f}", f"{row.memory_mb:.0f}"]


def _cell(value: float, base: float | None, digits: int) -> str:
    ratio = f" ({value / base:.2f}x)" if base else ""
    return f"{value:.{digits}f}{ratio}"


def aligned(lines: list[list[str]]) -> str:
    """Write a table as text: the first two columns to the left, numbers to the right."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    rows = []
    for line in lines:
        cells = zip(line, widths, strict=True)
        rows.append(
            "  ".join(cell.rjust(width) if at > 1 else cell.ljust(width) for at, (cell, width) in enumerate(cells))
        )
    return "\n".join(row.rstrip() for row in rows)


def cpu_table(rows: list[Measurement]) -> list[list[str]]:
    """Give the CPU of an update by role, the largest first."""
    lines = [["system", "rate", "exchange us", "CPU us per update, by process"]]
    for row in rows:
        roles: list[tuple[str, Any]] = sorted(row.cpu_us.items(), key=lambda item: -item[1])
        text = ", ".join(f"{role} {value:.1f}" for role, value in roles if value >= 0.05)
        lines.append([row.system, row.rate, f"{row.exchange_cpu_us:.1f}", text])
    return lines
