"""A sweep as tasks of a cluster: the results are those of runs here, and stopping early is clean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raytrade.backtest.sweep import grid, run_inline
from raytrade.errors import PipelineError
from tests.unit.backtest.markets import recorded_market
from tests.unit.backtest.test_run import settings

if TYPE_CHECKING:
    from raytrade.demo.nodes import Nodes


def test_a_sweep_on_a_cluster(nodes: Nodes, tmp_path: Path) -> None:
    from raytrade.backtest.cluster import run_jobs

    jobs = grid(settings(recorded_market(tmp_path, 100)), {"every": list(range(5, 17))})
    results = dict(run_jobs(jobs))
    assert [results[at].hash for at in range(12)] == [result.hash for _, result in run_inline(jobs)]
    early = run_jobs(jobs)
    number, result = next(early)
    assert result.hash == results[number].hash
    early.close()
    with pytest.raises(PipelineError, match="nothing is recorded then"):
        list(run_jobs([jobs[0].between(1, 2)]))
