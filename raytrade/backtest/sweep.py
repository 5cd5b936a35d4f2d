"""Many backtests: a grid of parameters, order latencies, walk-forward. What to run, and what of it was best.

Who runs the jobs is another matter: one after the other here (`run_inline`), or as tasks of a Ray cluster
(`raytrade.backtest.cluster`). Both give the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from raytrade.backtest.results import Result
from raytrade.backtest.run import run
from raytrade.backtest.settings import BacktestSettings
from raytrade.core.clock import Nanos
from raytrade.errors import ConfigError
from raytrade.storage.recording import Recording, open_recording

JOBS_MAX = 100_000

Outcome = tuple[int, Result]
"""The number of a job, and its result without its curve."""

RunJobs = Callable[[Sequence[BacktestSettings]], Iterator[Outcome]]
"""Runs jobs in any order, giving each as it ends."""


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """One step of walk-forward: parameters are chosen in the first interval and tried in the one behind it."""

    train_ns: tuple[Nanos, Nanos]
    test_ns: tuple[Nanos, Nanos]
    parameters: dict[str, Any] = {}
    train: Result | None = None
    test: Result | None = None


def grid(settings: BacktestSettings, axes: Mapping[str, Sequence[Any]]) -> list[BacktestSettings]:
    """Give a run for every combination of the axes' values; the last axis turns fastest.

    Raises:
        ConfigError: there are too many.
    """
    jobs: list[BacktestSettings] = []
    for values in product(*axes.values()):
        if len(jobs) == JOBS_MAX:
            raise ConfigError("", "--grid", f"more than {JOBS_MAX} runs")
        jobs.append(settings.with_parameters(dict(zip(axes, values, strict=True))))
    return jobs


def latencies(settings: BacktestSettings, latencies_ns: Iterable[Nanos]) -> list[BacktestSettings]:
    """Give the same run for each order latency."""
    return [settings.with_order_latency(latency_ns) for latency_ns in latencies_ns]


def folds(interval: tuple[Nanos, Nanos], count: int) -> list[Fold]:
    """Cut an interval into ``count + 1`` equal parts; each but the last is trained on, the one behind it tested.

    Raises:
        ConfigError: the interval is too short for so many.
    """
    first_ns, last_ns = interval
    step_ns = (last_ns + 1 - first_ns) // (max(count, 0) + 1)
    if count < 1 or step_ns < 1:
        raise ConfigError("", f"--walk-forward {count}", "is not a number of folds that the recording has room for")
    cuts = [first_ns + step_ns * number for number in range(count + 1)] + [last_ns + 1]
    return [
        Fold(train_ns=(cuts[number], cuts[number + 1]), test_ns=(cuts[number + 1], cuts[number + 2]))
        for number in range(count)
    ]


def best_of(results: Mapping[int, Result]) -> int | None:
    """Give the number of the run with the highest profit that did not fail; the first of equals."""
    good = [number for number, result in sorted(results.items()) if not result.has_failed]
    return max(good, key=lambda number: results[number].figures.profit, default=None)


def run_inline(jobs: Sequence[BacktestSettings]) -> Iterator[Outcome]:
    """Run the jobs here, one after the other.

    Raises:
        ConfigError: a job is wrong, or nothing is recorded in its interval.
        StorageError: a segment cannot be read.
    """
    recordings: dict[str, Recording] = {}
    for number, job in enumerate(jobs):
        if job.data not in recordings:
            recordings[job.data] = open_recording(job.data)
        yield number, run(job, recordings[job.data]).without_curve()


class WalkForward:
    """Chooses parameters in each fold's first interval and tries them in its second."""

    def __init__(self, jobs: Sequence[BacktestSettings], parts: Sequence[Fold]) -> None:
        self.folds = list(parts)
        self._jobs = jobs

    def training(self) -> list[BacktestSettings]:
        """Give the runs that parameters are chosen by, fold by fold."""
        return [job.between(*fold.train_ns) for fold in self.folds for job in self._jobs]

    def choose(self, results: Mapping[int, Result]) -> None:
        """Take the results of `training`, as many as there are."""
        size = len(self._jobs)
        for number, fold in enumerate(self.folds):
            own = {at - number * size: result for at, result in results.items() if at // size == number}
            best = best_of(own)
            if best is not None:
                chosen = self._jobs[best].parameters
                self.folds[number] = msgspec.structs.replace(fold, parameters=chosen, train=own[best])

    def testing(self) -> list[BacktestSettings]:
        """Give the runs that try what was chosen."""
        return [fold.train.settings.between(*fold.test_ns) for fold in self.folds if fold.train is not None]

    def conclude(self, results: Mapping[int, Result]) -> None:
        """Take the results of `testing`, as many as there are."""
        chosen = [number for number, fold in enumerate(self.folds) if fold.train is not None]
        for at, result in results.items():
            number = chosen[at]
            self.folds[number] = msgspec.structs.replace(self.folds[number], test=result)
