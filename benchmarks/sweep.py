"""What a sweep gains from a cluster: the same runs as tasks of a local Ray and one after the other.

    python -m benchmarks.sweep [--runs N] [--seconds S] [--json FILE]

Each run is a backtest of the market maker in `examples` over a synthetic market whose length is chosen so that one run
takes about `--seconds` on this machine. Workers are started, and have imported what they need, before the clock runs.
The results of both ways must be equal, hash by hash.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.replay import INSTRUMENT, record
from raytrade.backtest.settings import BacktestSettings
from raytrade.backtest.sweep import grid, run_inline

STRATEGY = Path(__file__).parents[1] / "examples" / "strategies" / "market_maker.py"
EVENTS_AT_FIRST = 10_000


def settings_for(directory: Path) -> BacktestSettings:
    """Give the run that is varied."""
    parameters = {"instrument": INSTRUMENT, "quantity": "0.01", "tick": "0.01"}
    return BacktestSettings(strategy=f"{STRATEGY}:MarketMaker", data=str(directory), parameters=parameters)


def timed(run: Any) -> tuple[float, dict[int, str]]:
    """Run jobs and give the time, and the hash of each result."""
    began = perf_counter()
    hashes = {number: result.hash for number, result in run}
    return perf_counter() - began, hashes


def measure(runs: int, seconds: float, directory: Path) -> dict[str, Any]:
    """Measure one after the other, then on the cluster."""
    record(directory / "short", EVENTS_AT_FIRST)
    short = settings_for(directory / "short")
    once, _ = timed(run_inline([short]))
    record(directory / "long", round(EVENTS_AT_FIRST * seconds / once))
    jobs = grid(settings_for(directory / "long"), {"gamma": [0.01 * (1 + number) for number in range(runs)]})
    serial, expected = timed(run_inline(jobs))
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from raytrade.pipeline import environment

    environment.prepare()
    from raytrade.backtest import cluster

    cluster.connect("local")
    try:
        list(cluster.run_jobs([short] * 8))
        parallel, found = timed(cluster.run_jobs(jobs))
    finally:
        cluster.disconnect()
    assert found == expected
    figures = {"runs": runs, "cores": os.cpu_count(), "seconds_a_run": serial / runs}
    return figures | {"serial_s": serial, "cluster_s": parallel, "times_as_fast": serial / parallel}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="about what one run takes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options.runs, options.seconds, Path(directory))
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
