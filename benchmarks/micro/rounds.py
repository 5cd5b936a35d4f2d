"""Interleaved rounds: every contender works on the same input in each round, in a turning order.

On a shared machine the speed changes from second to second; neighbours in one round share it, so ratios hold where
absolute figures do not. Time is the processor time of this process.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

Work = Callable[[], object]


class Contender(NamedTuple):
    """A way to do the work of a benchmark. `prepare` gives the work of one round, and is not measured."""

    name: str
    prepare: Callable[[], Work]
    note: str = ""


class Benchmark(NamedTuple):
    """Contenders for the same work; the first is ours. `units` are what the time is divided by."""

    name: str
    title: str
    unit: str
    units: int
    source: str
    contenders: list[Contender]
    missing: list[str] = []


class Row(msgspec.Struct):
    """One contender: median time per unit, and how many times ours it takes (median of the rounds' ratios)."""

    name: str
    us: float
    ratio: float
    note: str


class Result(msgspec.Struct):
    """One benchmark."""

    name: str
    title: str
    unit: str
    units: int
    source: str
    rounds: int
    rows: list[Row]
    missing: list[str]


def measure(benchmark: Benchmark, rounds: int) -> Result:
    """Run all contenders `rounds` times, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in benchmark.contenders]
    for number in range(rounds + 1):
        for place in range(len(seconds)):
            at = (place + number) % len(seconds)
            taken = _timed(benchmark.contenders[at].prepare())
            if number:
                seconds[at].append(taken)
    rows = [
        Row(
            contender.name,
            statistics.median(taken) / benchmark.units * 1e6,
            statistics.median(_ratios(taken, seconds[0])),
            contender.note,
        )
        for contender, taken in zip(benchmark.contenders, seconds, strict=True)
    ]
    head = (benchmark.name, benchmark.title, benchmark.unit, benchmark.units, benchmark.source)
    return Result(*head, rounds, rows, benchmark.missing)


def _ratios(seconds: Iterable[float], ours: Iterable[float]) -> list[float]:
    return [theirs / own for theirs, own in zip(seconds, ours, strict=True)]


def _timed(work: Work) -> float:
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        gc.enable()
