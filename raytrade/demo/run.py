"""The course of the demo: start, stream, cut a socket, kill a collector, drain, check, report."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from raytrade.config import Config, check_config
from raytrade.core.clock import SECOND
from raytrade.core.instrument import split_instrument
from raytrade.demo.checker import covered, recorded
from raytrade.demo.exchange import Exchange
from raytrade.demo.nodes import Nodes
from raytrade.demo.offline import Offline, import_offline
from raytrade.demo.report import DemoResult, print_report
from raytrade.errors import PipelineError
from raytrade.pipeline import driver
from raytrade.storage.captures import Capture
from raytrade.transport.clock import SystemClock

UPDATES_MIN = 20_000
POLL_S = 0.5
LINK_TIMEOUT_S = 60.0
REDUNDANCY_TIMEOUT_S = 30.0
MARKETS = {"binance-spot": ["BTCUSDT", "ETHUSDT"], "hitbtc-v2": ["ETHBTC"]}


WATCH = "watch"
Page = Callable[[str, str], AbstractContextManager[str]]
"""Serves the page of the cluster at an address while it is entered, and gives its own; spares one actor."""


class DemoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Size of the demo: `rate` in updates per second and instrument, `updates` over all instruments.

    `stays`: it goes on until Ctrl-C, with a strategy that trades beside the one that watches.
    """

    updates: int = 24_000
    rate: float = 300.0
    directory: str = ""
    capture: str = ""
    speed: float = 1.0
    updates_min: int = UPDATES_MIN
    fault: str = ""
    stays: bool = False


class Demo:
    """One run; use `run_demo`."""

    def __init__(self, settings: DemoSettings, console: Console, stack: ExitStack, page: Page | None = None) -> None:
        self.settings = settings
        self._page = page
        self.console = console
        self.directory = Path(settings.directory or tempfile.mkdtemp(prefix="raytrade-demo-"))
        self.result = DemoResult(directory=str(self.directory / "recording"))
        self._clock = SystemClock()
        self._patience = threading.Event()
        self._is_ending = threading.Event()
        self._stack = stack
        self._offline = self._import_offline()
        self.exchanges = self._start_exchanges()
        self.console.print("starting three Ray nodes")
        session = tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True)
        self._nodes = Nodes(Path(stack.enter_context(session)))
        stack.callback(self._nodes.stop)
        self.config = self._config()

    def _import_offline(self) -> Offline | None:
        if not self.settings.capture:
            return None
        self.console.print("importing the capture, to know what it contains")
        return import_offline(Path(self.settings.capture), self.directory / "offline")

    def _start_exchanges(self) -> list[Exchange]:
        settings = self.settings
        exchanges = []
        if settings.capture:
            header = Capture(Path(settings.capture)).header
            arguments = ["--capture", settings.capture, "--speed", str(settings.speed)]
            exchanges.append((header.venue, arguments))
        else:
            symbols = sum(len(part) for part in MARKETS.values())
            for venue, part in MARKETS.items():
                share = 0 if settings.stays else settings.updates * len(part) // symbols
                arguments = ["--venue", venue, "--symbols", ",".join(part), "--rate", str(settings.rate)]
                exchanges.append((venue, [*arguments, "--updates", str(share), "--fault", "conn=1:drop=0.003"]))
        started = []
        for venue, arguments in exchanges:
            exchange = Exchange(venue, [*arguments, *(["--fault", settings.fault] if settings.fault else [])])
            self._stack.callback(exchange.stop)
            started.append(exchange)
        return started

    def _symbols(self, venue: str) -> list[str]:
        if self.settings.capture:
            return Capture(Path(self.settings.capture)).header.symbols
        return MARKETS[venue]

    def _config(self) -> Config:
        venues = {
            exchange.venue: {
                "symbols": self._symbols(exchange.venue),
                "ws_url": exchange.ws_url,
                "rest_url": exchange.rest_url,
            }
            for exchange in self.exchanges
        }
        recorder = {"directory": self.result.directory, "segment_age_s": 5, "labels": {"recorder": "yes"}}
        strategies = [self._strategy(WATCH, "raytrade.demo.watch:SpreadWatch")]
        if self.settings.stays:
            strategies.append(self._strategy("lean", "raytrade.demo.lean:Lean"))
        data = {
            "name": "demo",
            "venues": venues,
            "collectors": {"labels": {"collector": "yes"}},
            "dedup": {"labels": {"dedup": "yes"}, "replicas": 2},
            "strategies": strategies,
            "recorders": [recorder],
        }
        return check_config(data, "demo")

    @staticmethod
    def _strategy(name: str, strategy: str) -> dict[str, Any]:
        return {"name": name, "strategy": strategy, "labels": {"strategy": "yes"}}

    # The course.

    def run(self) -> DemoResult:
        """Run it all; gives the result."""
        strategies = "2 strategies" if self.settings.stays else "strategy"
        self.console.print(f"starting the pipeline: 3 collectors, 2 dedups, {strategies}, recorder")
        driver.start(self.config)
        self._until(self._is_linked, LINK_TIMEOUT_S, "the links did not come up")
        for exchange in self.exchanges:
            exchange.control("start")
        with self._served():
            self._stream()
        self._until(self._is_redundant, REDUNDANCY_TIMEOUT_S, "", on_failure=self._note_redundancy)
        self._until(self._has_all, REDUNDANCY_TIMEOUT_S, "", on_failure=lambda: None)
        self._take_status()
        sent = self._ids_sent()
        self.console.print("draining")
        self.result.problems += driver.stop(self.config.name)
        self._check(sent)
        return self.result

    def _served(self) -> AbstractContextManager[Any]:
        """Show the page, if there is one, until the stream has ended; Ctrl-C ends the stream, not the demo."""
        stack = ExitStack()
        if self._page is not None:
            page = stack.enter_context(self._page(self._nodes.address, self._watcher()))
            self.console.print(f"page at {page} - Ctrl-C ends the stream and checks", soft_wrap=True, highlight=False)
        if self.settings.stays:
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, lambda *_: self._finish())
                stack.callback(signal.signal, number, before)
        return stack

    def _watcher(self) -> str:
        return f"{self.config.name}-strategy-{WATCH}"

    def _finish(self) -> None:
        self._is_ending.set()

    def _ids_sent(self) -> dict[str, list[int]]:
        """Give the ids of all book updates per instrument: as the exchanges know them, or as the import found them."""
        if self._offline is not None:
            return self._offline.ids
        truths = {exchange.venue: exchange.truth() for exchange in self.exchanges}
        return {f"{venue}:{symbol}": ids for venue, truth in truths.items() for symbol, ids in truth["ids"].items()}

    def _status(self) -> dict[str, Any]:
        return dict(driver.status(self.config.name)["actors"])

    def _role(self, role: str) -> dict[str, dict[str, Any]]:
        return {name: actor for name, actor in self._status().items() if actor.get("role") == role}

    def _until(
        self,
        holds: Callable[[], bool],
        timeout_s: float,
        problem: str,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        deadline_ns = self._clock.now_ns() + int(timeout_s * SECOND)
        while not holds():
            if self._clock.now_ns() > deadline_ns:
                if on_failure is None:
                    raise PipelineError(problem)
                on_failure()
                return
            self._patience.wait(POLL_S)

    def _is_linked(self) -> bool:
        actors = self._status().values()
        consumers = [actor for actor in actors if actor.get("role") in ("dedup", "strategy", "recorder")]
        return (
            len(consumers) == 3 + len(self.config.strategies)
            and all(len(actor["up"]) >= 2 for actor in consumers)
            and self._is_redundant()
        )

    def _is_redundant(self) -> bool:
        """Tell whether three collectors run, their lines are up and both dedups hear all of them."""
        actors = self._status().values()
        collectors = [actor for actor in actors if actor.get("role") == "collector"]
        lines = [line for actor in collectors for line in actor["lines"].values()]
        dedups = [actor for actor in actors if actor.get("role") == "dedup"]
        return (
            len(collectors) == 3
            and all(line["status"]["is_up"] for line in lines)
            and len(dedups) == 2
            and all(len(actor["up"]) == 3 for actor in dedups)
        )

    def _note_redundancy(self) -> None:
        self.result.redundancy_returned = False

    def _sent(self) -> int:
        return sum(sum(e.control("status")["updates"].values()) for e in self.exchanges)

    def _is_finished(self) -> bool:
        return all(exchange.control("status")["is_finished"] for exchange in self.exchanges)

    def _has_all(self) -> bool:
        """Tell whether the strategy has reached the last id of every instrument."""
        coverage = self._role("strategy").get(self._watcher(), {}).get("coverage", {})
        last = {name: ids[-1] for name, ids in self._ids_sent().items()}
        return all(coverage.get(f"{name}/book", {}).get("last", 0) >= number for name, number in last.items())

    def _stream(self) -> None:
        """Watch the stream; cut a socket at 40 % and kill a collector at 50 % of the updates (or recorded frames)."""
        total = self.settings.updates if self._offline is None else self._offline.frames
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("streaming", total=None if self.settings.stays else total)
            while not self._is_finished():
                if self._is_ending.is_set():
                    self._finish_exchanges()
                sent = self._sent()
                progress.update(task, completed=sent)
                if sent >= 0.4 * total and not self.result.cut_line:
                    progress.update(task, description="cutting a socket")
                    self._cut()
                elif sent >= 0.5 * total and self.result.cut_line and not self.result.killed_pid:
                    progress.update(task, description="killing a collector")
                    self._kill()
                    progress.update(task, description="streaming on")
                self._patience.wait(POLL_S / 2)
            progress.update(task, completed=self._sent(), description="streamed")

    def _finish_exchanges(self) -> None:
        for exchange in self.exchanges:
            exchange.control("finish")

    def _lines(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {
            name: (collector, line)
            for collector, actor in self._role("collector").items()
            for name, line in actor["lines"].items()
        }

    def _cut(self) -> None:
        """Cut the last connection of the first exchange and see whose it was."""
        exchange = self.exchanges[0]
        before = {name: line["status"]["reconnects"] for name, (_, line) in self._lines().items()}
        exchange.control("cut", conn=max(exchange.control("status")["connections"]))

        def noticed() -> bool:
            for name, (_, line) in self._lines().items():
                if line["status"]["reconnects"] > before.get(name, 0):
                    self.result.cut_line = name
            return bool(self.result.cut_line)

        self._until(noticed, 10, "the cut of a socket was not noticed")

    def _kill(self) -> None:
        """SIGKILL a collector other than the one whose socket was cut."""
        collectors = self._role("collector")
        victims = [name for name in sorted(collectors) if not self.result.cut_line.startswith(name)]
        pid = collectors[victims[0]]["pid"]
        os.kill(pid, signal.SIGKILL)
        self.result.killed, self.result.killed_pid = victims[0], pid

    # The result.

    def _take_status(self) -> None:
        actors = self._status()
        result = self.result
        result.strategy = actors[self._watcher()]
        result.recorder = next(actor for actor in actors.values() if actor.get("role") == "recorder")
        dedups = [actor for actor in actors.values() if actor.get("role") == "dedup"]
        result.lines = max((dedup["lines"] for dedup in dedups), key=lambda lines: len(lines))
        killed = [actor for name, actor in actors.items() if name == result.killed]
        result.killed_came_back = any(actor.get("pid") not in (None, result.killed_pid) for actor in killed)

    def _check(self, sent: dict[str, list[int]]) -> None:
        coverage = self.result.strategy["coverage"]
        for instrument, ids in sent.items():
            self.result.updates += len(ids)
            mine = coverage.get(f"{instrument}/book")
            self.result.missed_by_strategy += len(covered(mine).missed(ids))
            self.result.repeated += mine["repeats"] if mine else 0
            files, repeats = recorded(Path(self.result.directory), *split_instrument(instrument))
            self.result.missed_by_files += len(files.missed(ids))
            self.result.repeated += repeats


def run_demo(settings: DemoSettings, console: Console, page: Page | None = None) -> int:
    """Run the demo, with its page if there is one, and print its report; gives the exit status.

    Raises:
        PipelineError: the pipeline did not come up.
    """
    with ExitStack() as stack:
        demo = Demo(settings, console, stack, page)
        result = demo.run()
    failures = result.failures(settings)
    print_report(console, result, failures)
    return 1 if failures else 0
