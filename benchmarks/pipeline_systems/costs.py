"""What a pipeline costs by how many there are of its parts: figures, table and verdicts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from .fits import exponent
from .results import Measurement
from .system import Shape

BASE = Shape()
AXES: dict[str, tuple[int, ...]] = {
    "collectors": (1, 2, 4, 8),
    "consumers": (1, 2, 4, 8),
    "instruments": (1, 10, 100, 1000),
}
QUICK_AXES: dict[str, tuple[int, ...]] = {"collectors": (2, 4), "consumers": (1, 4), "instruments": (1, 100)}
EXPONENTS_MAX = {"collectors": 1.1, "consumers": 1.1, "instruments": 0.05}
"""Beyond these something grows: faster than its copies, or (by more than 41 % over 1 to 1,000) with the instruments."""
SHARE_MIN = 0.1
"""A role that takes less than this of the CPU at an axis's end is not judged by itself: it is mostly noise."""
SEGMENT_S = 60.0
"""How often a recorder closes a file of each stream, by default."""
ROLES = {
    "ray::Collector": "collector",
    "ray::Dedup": "dedup",
    "ray::StrategyActor": "strategy",
    "ray::Recorder": "recorder",
    "ray::Supervisor": "supervisor",
}


def with_count(axis: str, count: int) -> Shape:
    """Give the base with another count on one axis."""
    return replace(BASE, **{axis: count})


def shapes(axes: Iterable[str], counts: dict[str, tuple[int, ...]]) -> list[Shape]:
    """Give the base and the points of the axes, each once."""
    return list(dict.fromkeys([BASE, *(with_count(axis, count) for axis in axes for count in counts[axis])]))


def role_of(process: str) -> str:
    """Give the part of the pipeline a process plays: `collector`, `dedup`, ... or `ray` for what is Ray's own."""
    return ROLES.get(process.partition(".")[0], "ray")


def by_role(values: dict[str, float]) -> dict[str, float]:
    """Add up by role."""
    roles: dict[str, float] = {}
    for process, value in values.items():
        roles[role_of(process)] = roles.get(role_of(process), 0.0) + value
    return roles


class Cost(msgspec.Struct, frozen=True):
    """One point: microseconds of CPU an update by role, without Ray's standing cost and the recorder's files."""

    shape: Shape
    us: dict[str, float]
    ray_idle_ms_per_s: float
    files_us: float
    memory_mb: float
    problems: list[str]

    @property
    def total_us(self) -> float:
        """The sum over the roles."""
        return sum(self.us.values())


def cost_of(row: Measurement) -> Cost:
    """Read a measurement.

    Ray's standing cost is what its own processes use without traffic. Closing files costs by their number and not by
    updates: `files_us` is that cost spread over the updates of `SEGMENT_S` at the measured rate.
    """
    spent, idle = by_role(row.cpu_us), by_role(row.idle_cpu_ms_per_s)
    drained = by_role(row.drain_cpu_ms)
    updates = max(1, row.updates)
    us = {role: value - drained.get(role, 0.0) * 1e3 / updates for role, value in spent.items()}
    ray_idle = idle.get("ray", 0.0)
    if "ray" in us:
        us["ray"] = max(0.0, us["ray"] - ray_idle * row.seconds * 1e3 / updates)
    files_us = drained.get("recorder", 0.0) * 1e3 / (SEGMENT_S * row.achieved) if row.achieved else 0.0
    return Cost(row.shape, us, ray_idle, files_us, row.memory_mb, row.problems)


COLUMNS = (
    "collectors, consumers, instruments",
    "",
    "CPU us/update",
    "to base",
    "a collector",
    "a consumer",
    "dedup",
    "recorder",
    "ray",
    "files us",
    "Ray idle ms/s",
    "PSS MB",
)


def table(costs: list[Cost]) -> list[list[str]]:
    """Give the lines of the table, heading first; the base is the first."""
    base_us = costs[0].total_us
    return [list(COLUMNS), *(_line(cost, base_us) for cost in costs)]


def _line(cost: Cost, base_us: float) -> list[str]:
    shape, us = cost.shape, cost.us
    name = f"{shape.collectors}, {shape.consumers}, {shape.instruments}"
    if not us:
        return [name, f"failed: {'; '.join(cost.problems)}", *[""] * (len(COLUMNS) - 2)]
    ratio = f"{cost.total_us / base_us:.2f}x" if base_us else ""
    each = [us.get("collector", 0.0) / shape.collectors, us.get("strategy", 0.0) / shape.consumers]
    rest = [us.get(role, 0.0) for role in ("dedup", "recorder", "ray")]
    cells = [f"{value:.1f}" for value in (*each, *rest, cost.files_us, cost.ray_idle_ms_per_s)]
    mark = "PROBLEM" if cost.problems else ""
    return [name, mark, f"{cost.total_us:.1f}", ratio, *cells, f"{cost.memory_mb:.0f}"]


def verdict(axis: str, costs: list[Cost]) -> str:
    """Say whether anything grows with an axis beyond what it may."""
    points = [cost for cost in costs if cost.us and cost.shape == with_count(axis, count_of(cost.shape, axis))]
    counts = [count_of(cost.shape, axis) for cost in points]
    if len(set(counts)) < 2:
        return f"{axis}: too few points"
    last = max(points, key=lambda cost: count_of(cost.shape, axis))
    roles = [role for role, us in last.us.items() if us >= SHARE_MIN * last.total_us]
    reads: dict[str, Callable[[Cost], float]] = {"total": lambda cost: cost.total_us}
    reads |= {role: _reader(role) for role in sorted(roles)}
    found = {name: _exponent(counts, [read(cost) for cost in points]) for name, read in reads.items()}
    most = EXPONENTS_MAX[axis]
    beyond = [name for name, value in found.items() if value > most]
    said = f"grows beyond {most:g}: {', '.join(beyond)}" if beyond else f"nothing grows beyond {most:g}"
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in found.items())
    return f"{axis} {min(counts)} to {max(counts)}: {said}; exponents {listed}"


def count_of(shape: Shape, axis: str) -> int:
    """Give a shape's count on an axis."""
    return int(getattr(shape, axis))


def _reader(role: str) -> Callable[[Cost], float]:
    return lambda cost: cost.us.get(role, 0.0)


def _exponent(counts: list[int], costs: list[float]) -> float:
    """Where a part had no measurable cost at all, it counts as a hundredth of a microsecond."""
    return exponent(counts, [max(0.01, cost) for cost in costs])
