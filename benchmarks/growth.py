"""What the pipeline costs by the number of collectors, of consumers (strategies), and of instruments at one total rate.

    python -m benchmarks.growth --axes collectors,consumers,instruments --json growth.json

CPU of an update over all processes but the exchange; what Ray uses without traffic is reported apart. Each axis is
varied alone, from a base of two collectors, one consumer and one instrument. As in `benchmarks.pipeline` a run counts
only if no strategy loses or repeats an update, all final books are the exchange's, and everything is recorded. The
exchange of the benchmark has no request budget, so the collectors' is lifted where there are several instruments.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.pipeline_systems.costs import AXES, QUICK_AXES, Cost, cost_of, shapes, table, verdict
from benchmarks.pipeline_systems.ray_pipeline import raytrade
from benchmarks.pipeline_systems.results import Measurement, aligned, medians
from benchmarks.pipeline_systems.running import Load, measure
from benchmarks.pipeline_systems.system import Shape

IDLE_S = 2.0
QUICK_IDLE_S = 0.5


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--axes", help=f"of {', '.join(AXES)}; all of them, or with --quick the last")
    parser.add_argument("--rate", type=float, default=1000.0, help="updates a second, of all instruments together")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a run")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path, help="raw results")
    parser.add_argument("--quick", action="store_true", help="the base and one more point on an axis, two seconds each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.repeat = 2.0, 1
    options.axes = options.axes.split(",") if options.axes else list(AXES)[-1 if options.quick else 0 :]
    unknown = [axis for axis in options.axes if axis not in AXES]
    if unknown:
        parser.error(f"no such axis: {', '.join(unknown)}; there are {', '.join(AXES)}")
    if min(options.rate, options.seconds, options.repeat) <= 0:
        parser.error("rate, seconds and repeat must be positive")
    return options


def run(options: argparse.Namespace, results: list[Measurement]) -> None:
    """Measure every point, repeat by repeat, and add it to the results."""
    counts = QUICK_AXES if options.quick else AXES
    idle_s = QUICK_IDLE_S if options.quick else IDLE_S
    load = Load.parse(f"{options.rate:g}", options.seconds, 0, 0)
    for repeat in range(options.repeat):
        for shape in shapes(options.axes, counts):
            start_s = time.monotonic()
            result = measure(_name(shape), raytrade, load, repeat, idle_s, shape)
            results.append(result)
            problems = "".join(f" PROBLEM: {problem}" for problem in result.problems)
            figure = f"{result.cpu_us_total:.0f} us CPU in all" if result.cpu_us else "no figure"
            print(f"#{repeat} {result.system}: {figure}, {time.monotonic() - start_s:.0f} s{problems}", flush=True)


def _name(shape: Shape) -> str:
    return f"{shape.collectors} collectors, {shape.consumers} consumers, {shape.instruments} instruments"


def report(options: argparse.Namespace, results: list[Measurement]) -> None:
    """Print table and verdicts; write the raw results."""
    costs: list[Cost] = [cost_of(row) for row in medians(results)]
    print(f"\nAt {options.rate:g} updates a second in all; {os.cpu_count()} cores.")
    print(aligned(table(costs)))
    for axis in options.axes:
        print(verdict(axis, costs))
    if options.json:
        content = {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "options": {name: str(value) for name, value in vars(options).items()},
            "costs": costs,
            "runs": results,
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))


def main(arguments: list[str] | None = None) -> int:
    """Run and report, what was measured so far if it is ended; gives 1 if any run had a problem."""
    options = parse_arguments(arguments)
    results: list[Measurement] = []
    try:
        run(options, results)
    finally:
        if results:
            report(options, results)
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
