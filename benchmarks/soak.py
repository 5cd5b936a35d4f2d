"""A long run of the whole pipeline at one rate: nothing may be lost, and nothing may grow.

    python -m benchmarks.soak --minutes 30 --rate 2000 --json soak.json

Memory of its own (anonymous and shared), descriptors and threads of every process but the exchange, and Ray's
object store, every five seconds; slopes by least squares after the first fifth. What is bounded by its nature is kept
small, to be full before that: rings of 16 MB, segments of five seconds. The strategy only counts. Gives 1 if memory
grows by more than 1 MB a minute in total, the object store grows, or anything is lost.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.pipeline_systems.market import FIRST_ID, Market, digest
from benchmarks.pipeline_systems.probe import Counts
from benchmarks.pipeline_systems.ray_pipeline import RaytradeSystem, pipeline_config
from benchmarks.pipeline_systems.results import aligned
from benchmarks.pipeline_systems.running import ExchangeProcess, recorded_numbers, wait_until
from benchmarks.pipeline_systems.sampling import Sample, take_sample
from benchmarks.pipeline_systems.soaking import (
    JUDGED_S_MIN,
    growth_problems,
    judged,
    loss_problems,
    slopes,
    store_slope,
    table,
)
from benchmarks.pipeline_systems.system import Failed, Task

RING_MB = 16
SEGMENT_AGE_S = 5
SUBSCRIBE_TIMEOUT_S = 60.0
LAG_TIMEOUT_S = 60.0
SAMPLE_S = 5.0
QUICK_SECONDS = 12.0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2000.0, help="updates a second")
    parser.add_argument("--sample", type=float, default=SAMPLE_S, help="seconds between two samples")
    parser.add_argument("--json", type=Path, help="all samples")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} seconds: too short for slopes")
    options = parser.parse_args(arguments)
    if options.quick:
        options.minutes, options.sample = QUICK_SECONDS / 60, 1.0
    if min(options.minutes, options.rate, options.sample) <= 0:
        parser.error("minutes, rate and sample must be positive")
    return options


def soak_config(task: Task, counts: Path) -> dict[str, Any]:
    """Give the benchmark's pipeline with a strategy that keeps nothing, and with small bounds."""
    config = pipeline_config(task, "shm", 1)
    params = {"counts": str(counts), "last_id": task.last_id}
    counter = {"name": "counter", "strategy": "benchmarks.pipeline_systems.probe:Counter", "params": params}
    recorders = [recorder | {"segment_age_s": SEGMENT_AGE_S} for recorder in config["recorders"]]
    return config | {
        "strategies": [counter],
        "recorders": recorders,
        "links": config["links"] | {"ring_mb": RING_MB},
    }


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self.updates = max(1, int(options.minutes * 60 * options.rate))
        directory = Path(tempfile.mkdtemp(prefix="rb-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        self.exchange = ExchangeProcess(directory / "sent", self.updates)
        stack.callback(self.exchange.stop)
        self.task = Task(self.exchange.port, directory, self.updates, FIRST_ID + self.updates - 1)
        self.counts_path = directory / "counts"
        self.system = RaytradeSystem(self.task, soak_config(self.task, self.counts_path))
        stack.callback(self.system.stop)

    def run(self) -> None:
        """Send, sample, and check.

        Raises:
            Failed: the pipeline does not come up, or does not get to the end.
        """
        self.system.start()
        wait_until(self._is_subscribed, SUBSCRIBE_TIMEOUT_S, "no subscribers")
        self._sample(self.system.metrics_port())
        wait_until(self.counts_path.exists, LAG_TIMEOUT_S, "the strategy did not get the last update")
        self.system.drain()
        self._check()

    def _is_subscribed(self) -> bool:
        return self.exchange.status()["subscribers"] == self.task.shape.collectors

    def _sample(self, metrics_port: int) -> None:
        """Send everything, and take samples meanwhile."""
        roots, every_s = self.system.roots(), self.options.sample
        start_s = time.monotonic()
        self.exchange.send(self.updates, self.options.rate)
        while True:
            self.samples.append(take_sample(time.monotonic() - start_s, roots, metrics_port))
            left_s = start_s + every_s * len(self.samples) - time.monotonic()
            if self.exchange.is_done(max(0.0, left_s)):
                break
        lost = self.exchange.sent(LAG_TIMEOUT_S)["lost"]
        if lost:
            self.problems.append(f"{lost} connections lost")

    def _check(self) -> None:
        counts = msgspec.json.decode(self.counts_path.read_bytes(), type=Counts)
        self.problems += loss_problems(counts, self.task.last_id)
        if self.system.digests() != [digest(Market().books(self.updates))]:
            self.problems.append("the final book is not the exchange's")
        numbers = recorded_numbers(self.task, self.system.id_column)
        missing = sum(number not in numbers for number in range(counts.first + 1, self.task.last_id + 1))
        if missing:
            self.problems.append(f"{missing} updates not recorded")
        print(f"{counts.updates} updates applied, each once; {len(numbers)} recorded", flush=True)

    def report(self) -> None:
        """Print slopes and problems; write the samples."""
        samples = judged(self.samples)
        if len(samples) > 1:
            rows, store_mb_per_min = slopes(samples), store_slope(samples)
            seconds = samples[-1].at_s - samples[0].at_s
            self.problems += growth_problems(rows[-1], store_mb_per_min, seconds)
            print(f"After the first fifth, {seconds:.0f} s and {len(samples)} samples:")
            print(aligned(table(rows)))
            print(f"object store: {samples[-1].store_mb:.2f} MB, {store_mb_per_min:+.3f} MB/min")
            if seconds < JUDGED_S_MIN:
                print(f"Less than {JUDGED_S_MIN:.0f} s: slopes of memory are shown, not judged.")
        for problem in self.problems:
            print(f"PROBLEM: {problem}")
        if self.options.json:
            content = {"problems": self.problems, "samples": self.samples}
            self.options.json.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))


def main(arguments: list[str] | None = None) -> int:
    """Run and report; gives 1 if anything is lost or grows."""
    with ExitStack() as stack:
        soak = Soak(parse_arguments(arguments), stack)
        try:
            soak.run()
        except (Failed, OSError) as error:
            soak.problems.append(str(error))
        soak.report()
    return 1 if soak.problems else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
