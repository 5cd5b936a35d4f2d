"""Grids, folds, and what a sweep keeps of each run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from raytrade.backtest.run import interval_of, run
from raytrade.backtest.settings import BacktestSettings
from raytrade.backtest.sweep import WalkForward, best_of, folds, grid, latencies, run_inline
from raytrade.errors import ConfigError
from raytrade.storage.recording import open_recording
from tests.unit.backtest.markets import recorded_market
from tests.unit.backtest.test_run import settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_market(tmp_path_factory.mktemp("recording"))


def test_a_grid_has_every_combination() -> None:
    base = BacktestSettings(strategy="a:B", data="", parameters={"z": 1})
    jobs = grid(base, {"x": [1, 2], "y": ["a", "b", "c"]})
    assert [(job.parameters["x"], job.parameters["y"]) for job in jobs] == [(x, y) for x in (1, 2) for y in "abc"]
    assert all(job.parameters["z"] == 1 for job in jobs)
    assert grid(base, {}) == [base]
    with pytest.raises(ConfigError, match="more than"):
        grid(base, {name: list(range(100)) for name in "abc"})


def test_folds_cover_the_interval_once() -> None:
    parts = folds((0, 99), 4)
    assert [part.train_ns for part in parts] == [(0, 20), (20, 40), (40, 60), (60, 80)]
    assert [part.test_ns for part in parts] == [(20, 40), (40, 60), (60, 80), (80, 100)]
    assert folds((0, 100), 2)[-1].test_ns[1] == 101
    for interval, count in (((0, 3), 9), ((0, 99), -1)):
        with pytest.raises(ConfigError, match="walk-forward"):
            folds(interval, count)


def test_results_of_a_sweep_are_those_of_single_runs(data: Path) -> None:
    jobs = grid(settings(data), {"every": [5, 10, 20]})
    results = dict(run_inline(jobs))
    assert [results[number].hash for number in range(3)] == [run(job).hash for job in jobs]
    assert not results[0].curve.ts_ns and not results[0].fills
    assert results[0].fills_left_out == results[0].figures.fills > 0


def test_the_best_is_the_first_of_the_highest_profit_that_did_not_fail(data: Path) -> None:
    result = run(settings(data)).without_curve()

    def made(profit: int, traceback: str = "") -> object:
        figures = msgspec.structs.replace(result.figures, profit=Decimal(profit))
        return msgspec.structs.replace(result, figures=figures, traceback=traceback)

    assert best_of({3: made(5), 1: made(5), 0: made(1), 2: made(9, "failed")}) == 1  # type: ignore[dict-item]
    assert best_of({0: made(1, "failed")}) is None  # type: ignore[dict-item]
    assert best_of({}) is None


def test_walk_forward_tries_what_was_best_before(data: Path) -> None:
    jobs = grid(settings(data), {"every": [5, 20]})
    interval = interval_of(jobs[0], open_recording(data))
    walk = WalkForward(jobs, folds(interval, 2))
    trained = dict(run_inline(walk.training()))
    walk.choose(trained)
    assert len(trained) == 4
    walk.conclude(dict(run_inline(walk.testing())))
    for number, fold in enumerate(walk.folds):
        own = [trained[2 * number], trained[2 * number + 1]]
        assert fold.train is not None and fold.train.figures.profit == max(one.figures.profit for one in own)
        assert fold.test is not None and fold.test.settings.parameters == fold.parameters
        assert (fold.test.settings.start_ns, fold.test.settings.end_ns) == fold.test_ns
        assert fold.test == run(jobs[[5, 20].index(fold.parameters["every"])].between(*fold.test_ns)).without_curve()


def test_walk_forward_that_was_cut_short_says_what_it_knows(data: Path) -> None:
    jobs = grid(settings(data), {"every": [5, 20]})
    walk = WalkForward(jobs, folds(interval_of(jobs[0], open_recording(data)), 2))
    first = next(run_inline(walk.training()))
    walk.choose(dict([first]))
    assert walk.folds[0].parameters == {"every": 5} and walk.folds[1].train is None
    assert len(walk.testing()) == 1


def test_latencies(data: Path) -> None:
    assert [job.paper.order_latency_ns for job in latencies(settings(data), [0, 7])] == [0, 7]
