"""What is hit: emulators, labelled nodes on this machine, and the pipeline over them."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from raytrade.chaos.redundancy import lacking
from raytrade.config import Config, check_config
from raytrade.core.clock import SECOND
from raytrade.demo.exchange import Exchange
from raytrade.demo.nodes import REGIONS, Labels, Nodes, every_role
from raytrade.errors import PipelineError
from raytrade.pipeline import driver
from raytrade.pipeline.head import head_environment
from raytrade.transport.clock import SystemClock

MARKETS = {"binance-spot": ["BTCUSDT", "ETHUSDT"], "hitbtc-v2": ["ETHBTC"]}
"""Venues whose ids count for all lines, so that every single update can be held against the truth."""
COPIES = 2
"""Of dedups, strategies and recorders each."""
HEAD: Labels = {"role": "head"}
POLL_S = 0.5
START_TIMEOUT_S = 90.0
NAME = "soak"


def start_nodes(stack: ExitStack, regions: Sequence[str] = REGIONS, is_durable: bool = False) -> Nodes:
    """Start a head that carries nothing and a node per region that may carry every role; the stack ends them.

    `is_durable`: the head keeps its tables on disk, and may die and come back.
    """
    session = tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True)
    directory = Path(stack.enter_context(session))
    os.environ.update(head_environment(directory / "gcs" if is_durable else None))
    nodes = Nodes(directory, [HEAD, *map(every_role, regions)], num_cpus=1)
    stack.callback(nodes.stop)
    return nodes


class Ground:
    """Started on construction; the stack ends it."""

    def __init__(self, stack: ExitStack, directory: Path, rate: float, seed: int, collectors: int) -> None:
        """On the cluster that is joined; `rate`: updates per second over all instruments."""
        self.directory = directory
        self.waited_for: list[str] = []
        self.wanted = {"collector": collectors, "dedup": COPIES, "strategy": COPIES, "recorder": COPIES}
        self._clock = SystemClock()
        self._patience = threading.Event()
        self.exchanges = self._start_exchanges(stack, rate, seed)
        self.config = self._config()
        driver.start(self.config)
        stack.callback(self._end)

    def _start_exchanges(self, stack: ExitStack, rate: float, seed: int) -> list[Exchange]:
        each = rate / sum(map(len, MARKETS.values()))
        exchanges = []
        for venue, symbols in MARKETS.items():
            arguments = ["--venue", venue, "--symbols", ",".join(symbols), "--rate", str(each), "--seed", str(seed)]
            exchanges.append(Exchange(venue, arguments))
            stack.callback(exchanges[-1].stop)
        return exchanges

    def _config(self) -> Config:
        venues = {
            exchange.venue: {
                "symbols": MARKETS[exchange.venue],
                "ws_url": exchange.ws_url,
                "rest_url": exchange.rest_url,
            }
            for exchange in self.exchanges
        }
        data = {
            "name": NAME,
            "venues": venues,
            "collectors": {"labels": {"collector": "yes"}},
            "dedup": {"labels": {"dedup": "yes"}, "replicas": COPIES},
            "strategies": [self._strategy(f"witness-{number + 1}", REGIONS[number]) for number in range(COPIES)],
            "recorders": [self._recorder(f"recorder-{number + 1}") for number in range(COPIES)],
        }
        return check_config(data, NAME)

    def _strategy(self, name: str, region: str) -> dict[str, Any]:
        """Give a witness with a place of its own, so that one of them outlives the death of a node."""
        return {
            "name": name,
            "strategy": "raytrade.chaos.witness:Witness",
            "params": {"directory": str(self.directory / "seen" / name)},
            "labels": {"strategy": "yes", "region": region},
        }

    def _recorder(self, name: str) -> dict[str, Any]:
        directory = str(self.directory / "recorded" / name)
        return {"name": name, "directory": directory, "segment_age_s": 5, "labels": {"recorder": "yes"}}

    def _end(self) -> None:
        """Stop the pipeline, if this is still connected: Ray would look for any other cluster by itself."""
        with suppress(PipelineError):
            if driver.is_joined() and NAME in driver.running_pipelines():
                driver.stop(NAME)

    # What runs.

    def status(self) -> dict[str, Any]:
        """Ask the supervisor."""
        return dict(driver.status(NAME))

    def lacking(self, gone: set[int]) -> str:
        """Say what is lacking for full redundancy, "" if nothing is."""
        try:
            status = self.status()
        except PipelineError as error:
            return str(error)
        return (
            "the supervisor is the old one" if status["pid"] in gone else lacking(status["actors"], self.wanted, gone)
        )

    def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until the condition holds; False if it did not in time."""
        deadline_ns = self._clock.now_ns() + int(timeout_s * SECOND)
        while not holds():
            if self._clock.now_ns() > deadline_ns:
                return False
            self._patience.wait(POLL_S)
        return True

    def until_redundant(self, gone: set[int], timeout_s: float) -> str:
        """Wait until every role has its spare; gives what is lacking when the time is over.

        `waited_for` says what it waited for, one after the other.
        """
        self.waited_for = []

        def is_whole() -> bool:
            problem = self.lacking(gone)
            if problem and problem not in self.waited_for[-1:]:
                self.waited_for.append(problem)
            return not problem

        return "" if self.until(is_whole, timeout_s) else self.waited_for[-1]

    def wait(self, seconds: float) -> None:
        """Let it flow."""
        self._patience.wait(seconds)

    # The exchanges.

    def begin(self) -> None:
        """Have the exchanges send, once everybody listens.

        Raises:
            PipelineError: the pipeline did not come up.
        """
        problem = self.until_redundant(set(), START_TIMEOUT_S)
        if problem:
            raise PipelineError(f"the pipeline did not come up: {problem}")
        for exchange in self.exchanges:
            exchange.control("start")

    def finish(self) -> dict[str, dict[str, Any]]:
        """Have the exchanges end; gives the truth per venue."""
        for exchange in self.exchanges:
            exchange.control("finish")
        for exchange in self.exchanges:
            if not self.until(lambda exchange=exchange: exchange.control("status")["is_finished"], 30):  # type: ignore[misc]
                raise PipelineError(f"the emulator of {exchange.venue} does not end")
        return {exchange.venue: exchange.truth() for exchange in self.exchanges}
