"""The whole pipeline against others, pair by pair in one run, over the same exchange and with the same work.

    python -m benchmarks.pipeline --systems raytrade,zeromq,redis,nats,kafka --json results.json

Work: two collectors on one websocket feed, arbitration by id, a book in a strategy, Parquet. The clock starts when the
exchange hands an update to its sockets and stops when the update is in the strategy's book. Rates are paced, or
``burst`` (50,000 updates in 50 ms) or ``max`` (as fast as the collectors take it: back-pressure at the exchange's
sockets). Each run is a fresh system; a run counts only if no update is lost or applied twice, the final book is the
exchange's and all updates are in the Parquet files. Figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.pipeline_systems.plot import plot
from benchmarks.pipeline_systems.registry import SYSTEMS
from benchmarks.pipeline_systems.results import (
    Measurement,
    aligned,
    cpu_table,
    highest_sustained,
    is_sustained,
    medians,
    table,
)
from benchmarks.pipeline_systems.running import Load, measure
from benchmarks.pipeline_systems.system import Unavailable

RATES = "200,1000,5000,10000,15000,max,burst"
REFERENCE = "zeromq"
SEARCH = (4_000, 64_000, 1_000)
"""Lowest and highest rate of the search for saturation, and its step."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--rates", default=RATES, help="updates a second, and 'max' and 'burst'")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a paced run")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--idle", type=float, default=3.0, help="seconds without traffic, for the standing cost")
    parser.add_argument("--burst-updates", type=int, default=50_000)
    parser.add_argument("--max-updates", type=int, default=100_000)
    parser.add_argument("--saturation", action="store_true", help="search the highest paced rate that is sustained")
    parser.add_argument("--json", type=Path, help="raw results")
    parser.add_argument("--plot", type=Path, help="picture (PNG); beside the JSON file unless given")
    parser.add_argument("--quick", action="store_true", help="two systems, two rates, two seconds")
    options = parser.parse_args(arguments)
    if options.quick:
        options.systems, options.rates, options.seconds, options.repeat = "raytrade,zeromq", "200,1000", 2.0, 1
        options.idle = 0.5
    unknown = [name for name in options.systems.split(",") if name not in SYSTEMS]
    if unknown:
        parser.error(f"no such system: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    return options


class Session:
    """All runs of one call."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results: list[Measurement] = []
        self.skipped: dict[str, str] = {}
        self.saturation: dict[str, int] = {}

    def _measure(self, system: str, load: Load, repeat: int) -> Measurement | None:
        """Measure, print a line and keep the result; None if the system cannot run here."""
        if system in self.skipped:
            return None
        try:
            result = measure(system, SYSTEMS[system], load, repeat, self.options.idle)
        except Unavailable as error:
            self.skipped[system] = str(error)
            print(f"{system} is skipped: {error}", flush=True)
            return None
        self.results.append(result)
        figures = ", ".join(f"{name} {value:.2f}" for name, value in result.latency_ms.items())
        problems = "".join(f" PROBLEM: {problem}" for problem in result.problems)
        print(
            f"#{repeat} {system} {load.name}: ms {figures}; {result.achieved:.0f}/s, "
            f"{result.cpu_us_total:.0f} us CPU{problems}",
            flush=True,
        )
        return result

    def run(self) -> None:
        """Repeat by repeat, rate by rate, one system after the other, so that the machine's moods meet them all."""
        options = self.options
        for repeat in range(options.repeat):
            for rate in filter(None, options.rates.split(",")):
                load = Load.parse(rate, options.seconds, options.burst_updates, options.max_updates)
                for system in options.systems.split(","):
                    self._measure(system, load, repeat)
        if options.saturation:
            for system in options.systems.split(","):
                self.saturation[system] = highest_sustained(partial(self._holds, system), *SEARCH)

    def _holds(self, system: str, rate: int) -> bool:
        load = Load.parse(str(rate), self.options.seconds, 0, 0)
        result = self._measure(system, load, 0)
        return result is not None and is_sustained(result, rate)

    def report(self) -> None:
        """Print tables; write raw results and picture."""
        rows = medians(self.results)
        print(f"\nMilliseconds from the exchange's socket to the strategy's book; in brackets to {REFERENCE}.")
        print(aligned(table(rows, REFERENCE)))
        print(f"\n{aligned(cpu_table(rows))}")
        for system, reason in self.skipped.items():
            print(f"{system} was skipped: {reason}")
        for system, rate in self.saturation.items():
            print(f"{system} sustains {rate}/s (paced; 98 % achieved, no growing queue)")
        if self.options.json:
            self._write(rows)
        picture = self.options.plot or (self.options.json.with_suffix(".png") if self.options.json else None)
        if picture:
            print(plot(rows, picture))

    def _write(self, rows: list[Measurement]) -> None:
        content: dict[str, Any] = {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "options": {name: str(value) for name, value in vars(self.options).items()},
            "medians": msgspec.to_builtins(rows),
            "runs": msgspec.to_builtins(self.results),
            "skipped": self.skipped,
            "saturation": self.saturation,
        }
        self.options.json.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))


def main(arguments: list[str] | None = None) -> int:
    """Run and report; gives 1 if any run had a problem."""
    session = Session(parse_arguments(arguments))
    try:
        session.run()
    finally:
        if session.results:
            session.report()
    return 1 if any(result.problems for result in session.results) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
