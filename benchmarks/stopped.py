"""A consumer that is stopped (SIGSTOP) for a while: what the other consumers feel, and what is lost.

    python -m benchmarks.stopped --rate 1000 --seconds 10 --json stopped.json

One stream, phase after phase of the same length: quiet, one of two strategies stopped, quiet, the recorder stopped,
quiet. Shown is the other strategy's delay from the exchange's socket to its book by phase; the first second behind
each phase stands apart, as whoever goes on then catches up on the same cores. Gives 1 if a strategy loses or repeats an
update, a book is not the exchange's in the end, or anything is not recorded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.pipeline_systems.market import FIRST_ID, Market, digest
from benchmarks.pipeline_systems.ray_pipeline import RaytradeSystem, pipeline_config
from benchmarks.pipeline_systems.results import aligned, join_times, latency_figures
from benchmarks.pipeline_systems.running import ExchangeProcess, recorded_numbers, wait_until
from benchmarks.pipeline_systems.system import Failed, Shape, Task
from benchmarks.pipeline_systems.timelog import AppliedLog, SentLog

VICTIMS = ("", "strategy-probe-1", "", "recorder-recorder-0", "")
"""Who is stopped in each phase."""
BEHIND_NS = 1_000_000_000
TIMEOUT_S = 60.0
QUICK_SECONDS = 1.5


class Phase(msgspec.Struct):
    """The delays of the strategy that is never stopped, of what was sent from `start_ns` on before `end_ns`."""

    name: str
    start_ns: int
    end_ns: int
    updates: int = 0
    delay_ms: dict[str, float] = {}


def phases_of(marks: Sequence[int]) -> list[Phase]:
    """Give the phases between the marks, each but the first with its first second cut off as one of its own."""
    found: list[Phase] = []
    for at, victim in enumerate(VICTIMS):
        start_ns, end_ns = marks[at], marks[at + 1]
        if at and VICTIMS[at - 1]:
            behind_ns = min(start_ns + BEHIND_NS, end_ns)
            found.append(Phase(f"{VICTIMS[at - 1]} goes on", start_ns, behind_ns))
            start_ns = behind_ns
        found.append(Phase(f"{victim} stopped" if victim else "quiet", start_ns, end_ns))
    return found


def measured(phases: list[Phase], sent: Sequence[int], delays: Sequence[int]) -> list[Phase]:
    """Fill in the delays (ns) of the updates by when they were sent (ns)."""
    for phase in phases:
        inside = [delay for at, delay in zip(sent, delays, strict=True) if phase.start_ns <= at < phase.end_ns]
        phase.updates = len(inside)
        phase.delay_ms = latency_figures(inside)
    return phases


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopped", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=1000.0, help="updates a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a phase")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help=f"phases of {QUICK_SECONDS} seconds")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds = QUICK_SECONDS
    if min(options.rate, options.seconds) <= 0:
        parser.error("rate and seconds must be positive")
    return options


class Stopped:
    """One run."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self.updates = int(options.rate * options.seconds * (len(VICTIMS) + 0.5))
        directory = Path(tempfile.mkdtemp(prefix="rb-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        self.exchange = ExchangeProcess(directory / "sent", self.updates)
        stack.callback(self.exchange.stop)
        last_id, shape = FIRST_ID + self.updates - 1, Shape(consumers=2)
        self.task = Task(self.exchange.port, directory, self.updates + 10_000, last_id, shape)
        self.sent_log = SentLog(directory / "sent", self.updates)
        self.logs = [AppliedLog(path, self.task.capacity) for path in self.task.applied_paths]
        self.system = RaytradeSystem(self.task, pipeline_config(self.task, "shm", 1))
        stack.callback(self.system.stop)

    def run(self) -> tuple[list[Phase], list[str]]:
        """Send, stop and let go on, and check; gives the phases and the problems.

        Raises:
            Failed: the pipeline does not come up, or does not get to the end.
        """
        self.system.start()
        wait_until(lambda: self.exchange.status()["subscribers"] == 2, TIMEOUT_S, "no subscribers")
        pids = self.system.pids()
        self.exchange.send(self.updates, self.options.rate)
        marks = [time.time_ns()]
        marks += [self._phase(pids[f"bench-{victim}"] if victim else 0) for victim in VICTIMS]
        self.exchange.sent(TIMEOUT_S)
        wait_until(
            lambda: all(log.last_id() >= self.task.last_id for log in self.logs), TIMEOUT_S, "a strategy is late"
        )
        self.system.drain()
        return self._figures(marks), self._problems()

    def _phase(self, pid: int) -> int:
        """Wait for the length of a phase, with a process stopped; gives when it was over."""
        if pid:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(self.options.seconds)
        finally:
            if pid:
                os.kill(pid, signal.SIGCONT)
        return time.time_ns()

    def _figures(self, marks: list[int]) -> list[Phase]:
        """What was sent before the strategy's first update came with its snapshot."""
        pairs = self.logs[0].pairs()
        first = pairs[0][0] - FIRST_ID + 1
        sent = self.sent_log.times(first, self.updates - first)
        delays, _ = join_times(sent, pairs, FIRST_ID + first)
        return measured(phases_of(marks), sent, delays)

    def _problems(self) -> list[str]:
        problems, firsts = [], []
        for at, log in enumerate(self.logs):
            pairs = log.pairs()
            first = pairs[0][0] - FIRST_ID + 1
            firsts.append(first)
            _, found = join_times(self.sent_log.times(first, self.updates - first), pairs, FIRST_ID + first)
            problems += [f"strategy {at}: {problem}" for problem in found]
        if set(self.system.digests()) != {digest(Market().books(self.updates))}:
            problems.append("a final book is not the exchange's")
        wanted = set(range(FIRST_ID + min(firsts), FIRST_ID + self.updates))
        missing = len(wanted - recorded_numbers(self.task, self.system.id_column))
        return [*problems, f"{missing} updates not recorded"] if missing else problems


def report(phases: list[Phase], problems: list[str]) -> None:
    """Print a row for each phase."""
    names = list(phases[0].delay_ms)
    rows = [["", "updates", *(f"{name}, ms" for name in names)]]
    rows += [[p.name, str(p.updates), *(f"{p.delay_ms[name]:.2f}" for name in names)] for p in phases]
    print(aligned(rows))
    for problem in problems:
        print(f"PROBLEM: {problem}")


def main(arguments: list[str] | None = None) -> int:
    """Run and report; gives 1 if anything is lost."""
    options = parse_arguments(arguments)
    with ExitStack() as stack:
        try:
            phases, problems = Stopped(options, stack).run()
        except (Failed, OSError) as error:
            print(f"PROBLEM: {error}")
            return 1
        report(phases, problems)
    if options.json:
        content: dict[str, Any] = {"rate": options.rate, "phases": phases, "problems": problems}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
