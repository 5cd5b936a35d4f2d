"""One measured run: the exchange, one system, warm-up, a quiet interval, the traffic, and the checks afterwards."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from .exchange import BURST, UNPACED, run_exchange
from .market import FIRST_ID, Market, digest, symbol_names
from .processes import Usage, memory_mb
from .results import Measurement, join_times, latency_figures, thirds_p99_ms
from .system import Failed, Shape, System, Task, Unavailable
from .timelog import AppliedLog, SentLog

WARM_UPDATES = 200
WARM_S = 1.0
WARM_ROUNDS = 3
"""Updates of each symbol in the warm-up, at the least."""
START_TIMEOUT_S = 20.0
SUBSCRIBE_TIMEOUT_S = 60.0
LAG_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 10.0
POLL_S = 0.005
WAIT_POLL_S = 0.02
SPARE = 10_000
"""Room in the log for what comes twice, so that it is seen."""

MakeSystem = Callable[[Task], System]


@dataclass(frozen=True)
class Load:
    """What is sent: `updates` at `rate` a second, in a burst, or as fast as it is taken; `name` says so for people."""

    name: str
    updates: int
    rate: float

    @classmethod
    def parse(cls, name: str, seconds: float, burst_updates: int, most_updates: int) -> Load:
        """Read ``200`` (a rate), ``burst`` or ``max``."""
        if name == "burst":
            return cls(name, burst_updates, BURST)
        if name == "max":
            return cls(name, most_updates, UNPACED)
        return cls(name, max(1, int(float(name) * seconds)), float(name))


class ExchangeProcess:
    """The exchange, in a process of its own."""

    def __init__(self, sent_path: Path, capacity: int, symbols: int = 1) -> None:
        self._control, child = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (child, str(sent_path), capacity, symbols)
        self._process: Any = context.Process(target=run_exchange, args=arguments, daemon=True)
        self._process.start()
        child.close()
        self.port = int(self._answer(START_TIMEOUT_S))

    @property
    def roots(self) -> dict[int, str]:
        return {self._process.pid: "exchange"}

    def _answer(self, timeout_s: float) -> Any:
        if not self._control.poll(timeout_s):
            raise Failed("the exchange does not answer")
        return self._control.recv()

    def status(self) -> dict[str, int]:
        self._control.send(("status",))
        return dict(self._answer(START_TIMEOUT_S))

    def send(self, count: int, rate: float) -> None:
        """Begin to send; `sent` waits for the end."""
        self._control.send(("send", count, rate))

    def is_done(self, wait_s: float) -> bool:
        """Wait for the end of what was sent, and tell whether it has come."""
        return self._control.poll(wait_s)

    def sent(self, timeout_s: float) -> dict[str, int]:
        return dict(self._answer(timeout_s))

    def stop(self) -> None:
        self._control.close()
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(3)


class Run:
    """Measures `make` under `load`; use `measure`."""

    def __init__(self, make: MakeSystem, load: Load, shape: Shape, stack: ExitStack) -> None:
        self.load = load
        self.warm = max(WARM_UPDATES, WARM_ROUNDS * shape.instruments)
        self.directory = Path(tempfile.mkdtemp(prefix="rb-"))
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        total = self.warm + load.updates
        self.exchange = ExchangeProcess(self.directory / "sent", total, shape.instruments)
        stack.callback(self.exchange.stop)
        self.task = Task(self.exchange.port, self.directory, total + SPARE, FIRST_ID + total - 1, shape)
        self.sent_log = SentLog(self.directory / "sent", total)
        self.applied_logs = [AppliedLog(path, total + SPARE) for path in self.task.applied_paths]
        self.system = make(self.task)
        stack.callback(self.system.stop)

    def run(self, measurement: Measurement, idle_s: float) -> None:
        """Fill in the measurement."""
        self.system.start()
        wait_until(self._is_subscribed, SUBSCRIBE_TIMEOUT_S, "no subscribers")
        self._warm_up()
        roots = self.system.roots()
        measurement.idle_cpu_ms_per_s = self._idle(roots, idle_s)
        before, exchange_before = Usage(roots), Usage(self.exchange.roots)
        self._send_measured(measurement)
        exchange_spent = Usage(self.exchange.roots).since(exchange_before)
        applied = Usage(roots)
        self.system.drain()
        drained = Usage(roots)
        spent = drained.since(before)
        measurement.drain_cpu_ms = {role: seconds * 1e3 for role, seconds in drained.since(applied).items()}
        updates = measurement.updates = self.load.updates
        measurement.cpu_us = {role: seconds * 1e6 / updates for role, seconds in spent.items()}
        measurement.exchange_cpu_us = sum(exchange_spent.values()) * 1e6 / updates
        measurement.memory_mb = memory_mb(roots)
        self._join(measurement)
        self._check(measurement)

    def _is_subscribed(self) -> bool:
        return self.exchange.status()["subscribers"] == self.task.shape.collectors

    def _warm_up(self) -> None:
        self.exchange.send(self.warm, self.warm / WARM_S)
        self.exchange.sent(WARM_S + START_TIMEOUT_S)
        wait_until(self._is_warm, START_TIMEOUT_S, "the first updates did not arrive")

    def _is_warm(self) -> bool:
        """Tell whether every strategy has every symbol's last update so far: in its book, or in the snapshot it got."""
        last = set(range(FIRST_ID + self.warm - self.task.shape.instruments, FIRST_ID + self.warm))
        return all(last <= {number for number, _ in log.pairs()} for log in self.applied_logs)

    def _reached(self, count: int) -> bool:
        return self._last_id() >= FIRST_ID + count - 1

    def _last_id(self) -> int:
        """Give where the slowest strategy is."""
        return min(log.last_id() for log in self.applied_logs)

    @staticmethod
    def _idle(roots: dict[int, str], idle_s: float) -> dict[str, float]:
        if not idle_s:
            return {}
        time.sleep(0.2)
        before, start_s = Usage(roots), time.monotonic()
        time.sleep(idle_s)
        seconds = time.monotonic() - start_s
        return {role: spent * 1000 / seconds for role, spent in Usage(roots).since(before).items()}

    def _send_measured(self, measurement: Measurement) -> None:
        load = self.load
        self.exchange.send(load.updates, load.rate)
        length_s = load.updates / load.rate if load.rate > 0 else 0.0
        status = self.exchange.sent(length_s * 3 + LAG_TIMEOUT_S)
        if status["lost"]:
            measurement.problems.append(f"{status['lost']} connections lost")
        self._wait_applied()

    def _wait_applied(self) -> None:
        """Wait for the last update; give up when nothing has moved for a while."""
        last, moved_s, deadline_s = 0, time.monotonic(), time.monotonic() + LAG_TIMEOUT_S
        while not self._reached(self.warm + self.load.updates):
            now_s, at = time.monotonic(), self._last_id()
            if at != last:
                last, moved_s = at, now_s
            if now_s > deadline_s or now_s - moved_s > STALL_TIMEOUT_S:
                raise Failed(f"stuck {self.task.last_id - at} updates before the end")
            time.sleep(POLL_S)

    def _join(self, measurement: Measurement) -> None:
        sent = self.sent_log.times(self.warm, self.load.updates)
        last_ns = 0
        for log in reversed(self.applied_logs):
            pairs = log.pairs()
            delays, problems = join_times(sent, pairs, FIRST_ID + self.warm, self.task.shape.instruments)
            measurement.problems += problems
            last_ns = max(last_ns, *(applied_ns for _, applied_ns in pairs))
        measurement.latency_ms = latency_figures(delays)
        measurement.latency_thirds_p99_ms = thirds_p99_ms(delays)
        measurement.seconds = (last_ns - sent[0]) / 1e9
        # The first update marks the beginning of the interval and the last one its end: a rate counts the steps.
        measurement.achieved = max(1, self.load.updates - 1) / measurement.seconds

    def _check(self, measurement: Measurement) -> None:
        total = self.warm + self.load.updates
        true_digest = digest(Market().books(total, self.task.shape.instruments))
        wrong = sum(given != true_digest for given in self.system.digests())
        if wrong:
            measurement.problems.append(f"the final book is not the exchange's in {wrong} strategies")
        wanted = set(range(FIRST_ID + self.warm, FIRST_ID + total))
        missing = len(wanted - recorded_numbers(self.task, self.system.id_column))
        if missing:
            measurement.problems.append(f"{missing} updates not recorded")


def wait_until(holds: Callable[[], bool], timeout_s: float, problem: str) -> None:
    """Come back when it holds.

    Raises:
        Failed: it did not in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise Failed(problem)
        time.sleep(WAIT_POLL_S)


def recorded_numbers(task: Task, column: str) -> set[int]:
    """Give the numbers of the recorded updates among those of all symbols; `column` has their ids.

    Raises:
        Failed: an instrument was not recorded at all.
    """
    names = symbol_names(task.shape.instruments)
    folders = [task.recording]
    if any(task.recording.glob("venue=*")):
        folders = [
            folder for name in names for folder in task.recording.glob(f"venue=*/instrument={name}/channel=book")
        ]
    if len(folders) != len(names):
        raise Failed(f"{len(folders)} of {len(names)} instruments recorded")
    numbers: set[int] = set()
    for at, folder in enumerate(folders):
        table = ds.dataset(folder, format="parquet").to_table(columns=[column])
        ids = table.column(column).unique().to_pylist()
        numbers.update((id_ - FIRST_ID) * len(names) + at + FIRST_ID for id_ in ids)
    return numbers


def measure(
    name: str, make: MakeSystem, load: Load, repeat: int, idle_s: float, shape: Shape | None = None
) -> Measurement:
    """Measure one run; what failed is in its problems. Raises `Unavailable`."""
    shape = shape or Shape()
    measurement = Measurement(system=name, rate=load.name, repeat=repeat, shape=shape)
    with ExitStack() as stack:
        try:
            Run(make, load, shape, stack).run(measurement, idle_s)
        except Unavailable:
            raise
        except (Failed, OSError) as error:
            measurement.problems.append(str(error))
    return measurement
