"""What the page costs: processor time of its server, and the pipeline's latency with it and without it, in one run.

    python -m benchmarks.page [--rate 5000] [--seconds 15] [--pairs 15] [--clients 9] [--no-browser] [--json FILE]

One collector, two dedups, a strategy, ten instruments. `--clients` websockets are pushed everything, and one Chromium
shows ladder and heat map; they run at the lowest priority: what they do to draw is not the server's. First the
processor time is taken over `--seconds`; then page and clients are stopped (SIGSTOP) and go on again, `--pairs` times
for a second and a half each, so that whatever else the machine does falls on both sides alike. Fails above
`--share-max` of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from benchmarks.processor import Usage
from raytrade.cli.serving import page_of
from raytrade.config import Config, check_config
from raytrade.core.clock import MILLISECOND
from raytrade.core.metrics import Histogram
from raytrade.demo.exchange import Exchange
from raytrade.demo.nodes import Nodes, every_role, free_port
from raytrade.observation.status import histogram_of, hops, since
from raytrade.pipeline import driver
from tests.ray.running import until

NAME = "page"
VENUE = "binance-spot"
SYMBOLS = tuple(f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "BNB", "DOGE", "LTC", "DOT", "TRX"))
WAY = "socket to strategy called"
SETTLE_S = 3.0
TURN_S, STRETCH_S = 0.2, 1.3


class Result(msgspec.Struct, kw_only=True):
    """Updates a second; shares of a core by who used it; what was pushed; latency by whether the page ran."""

    rate: float
    shares: dict[str, float]
    pushed_per_s: float = 0.0
    pushed_kb_per_s: float = 0.0
    running: Histogram = msgspec.field(default_factory=Histogram)
    stopped: Histogram = msgspec.field(default_factory=Histogram)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=5000.0, help="updates a second, of all instruments together")
    parser.add_argument("--seconds", type=float, default=15.0, help="for how long processor time is taken")
    parser.add_argument("--pairs", type=int, default=15, help="how often the page is stopped and goes on")
    parser.add_argument("--clients", type=int, default=9)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--share-max", type=float, default=0.05, help="of a core, for the page's server")
    parser.add_argument("--json", type=Path, help="raw results")
    options = parser.parse_args(arguments)
    if min(options.rate, options.seconds, options.pairs) <= 0:
        parser.error("rate, seconds and pairs must be positive")
    return options


class Bench:
    """A pipeline at work, with a page now and then."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True)))
        self._exchange = self._start_exchange()
        self._nodes = Nodes(directory, (every_role("here"),))
        stack.callback(self._nodes.stop)
        driver.start(self._config())
        stack.callback(driver.stop, NAME)
        until(self._is_linked, "everything is linked")
        self._exchange.control("start")
        until(lambda: self._latency().total > 0, "updates flow")

    def _start_exchange(self) -> Exchange:
        arguments = [
            "--venue",
            VENUE,
            "--symbols",
            ",".join(SYMBOLS),
            "--rate",
            f"{self._options.rate / len(SYMBOLS):g}",
        ]
        exchange = Exchange(VENUE, arguments)
        self._stack.callback(exchange.stop)
        return exchange

    def _config(self) -> Config:
        venue = {"symbols": list(SYMBOLS), "ws_url": self._exchange.ws_url, "rest_url": self._exchange.rest_url}
        watch = {"name": "watch", "strategy": "raytrade.demo.watch:SpreadWatch"}
        data = {"name": NAME, "venues": {VENUE: {**venue, "weight_per_minute": 1_000_000}}, "strategies": [watch]}
        return check_config(data, NAME)

    def _is_linked(self) -> bool:
        actors = driver.status(NAME)["actors"].values()
        strategies = [actor for actor in actors if actor.get("role") == "strategy"]
        lines = [line for actor in actors if actor.get("role") == "collector" for line in actor["lines"].values()]
        return bool(lines) and all(line["status"]["is_up"] for line in lines) and len(strategies[0]["up"]) == 2

    def _latency(self) -> Histogram:
        return histogram_of(hops(driver.counters(NAME)["actors"])[WAY])

    def _sent(self) -> int:
        return int(sum(self._exchange.control("status")["updates"].values()))

    def run(self) -> Result:
        """Measure the pipeline under a page that is looked at."""
        port = free_port()
        with page_of(self._nodes.address, NAME, "127.0.0.1", port) as address, self._looked_at(address) as clients:
            page = pid_of(f"--port\0{port}")
            pids = {"page": page}
            if not self._options.no_browser:
                pids["viewer"] = until(lambda: pids_of("ray::Viewer"), "a book is looked at")[-1]
            result = self._take_shares(pids)
            pushed, seconds = clients.pushed()
            result.pushed_per_s, result.pushed_kb_per_s = pushed["updates"] / seconds, pushed["bytes"] / 1000 / seconds
            for _ in range(self._options.pairs):
                result.running.merge(self._stretch())
                with stopped(page, clients.pid):
                    result.stopped.merge(self._stretch())
            clients.finish()
        return result

    def _take_shares(self, pids: dict[str, int]) -> Result:
        threading.Event().wait(SETTLE_S)
        usage, sent = {name: Usage(pid) for name, pid in pids.items()}, self._sent()
        seconds, _ = Usage(os.getpid()).over(self._options.seconds)
        return Result(rate=(self._sent() - sent) / seconds, shares={name: one.since() for name, one in usage.items()})

    def _stretch(self) -> Histogram:
        threading.Event().wait(TURN_S)
        before = self._latency()
        threading.Event().wait(STRETCH_S)
        return since(self._latency(), before)

    @contextmanager
    def _looked_at(self, address: str) -> Iterator[Clients]:
        words = [
            "nice",
            "-n",
            "19",
            sys.executable,
            "-m",
            "benchmarks.page_client",
            address,
            str(self._options.clients),
        ]
        words += [] if self._options.no_browser else ["browser"]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", "the clients did not come up"
                yield Clients(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def stopped(page: int, clients: int) -> Iterator[None]:
    """Have the page and its clients do nothing; not for so long that the websockets are given up."""
    os.killpg(clients, signal.SIGSTOP)
    os.kill(page, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(page, signal.SIGCONT)
        os.killpg(clients, signal.SIGCONT)


class Clients:
    """The process of the clients, in a group of its own with the browser."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._since_s = time.monotonic()
        self.pid = process.pid

    def pushed(self) -> tuple[dict[str, int], float]:
        """Give what they were pushed so far, and over how many seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline())), time.monotonic() - self._since_s

    def finish(self) -> None:
        """Have them go away; fails if one of them was dropped before."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0, "a client was dropped"


def pids_of(word: str) -> list[int]:
    """Give the processes whose command has the word in it."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and word.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return sorted(found)


def pid_of(word: str) -> int:
    """Give the one process."""
    (pid,) = pids_of(word)
    return pid


def report(result: Result, options: argparse.Namespace) -> int:
    """Print all of it and judge; gives the exit status."""
    shares = ", ".join(f"{name} {100 * share:.1f} % of a core" for name, share in result.shares.items())
    pushed = f"pushed {result.pushed_per_s:.0f} messages/s, {result.pushed_kb_per_s:.0f} kB/s"
    watchers = f"{options.clients} websockets{'' if options.no_browser else ' and a browser'}"
    print(f"{result.rate:.0f} updates/s, {watchers}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{shares}, {pushed}")
    for quantile in (0.5, 0.9, 0.99):
        with_ms, without_ms = (one.quantile_ns(quantile) / MILLISECOND for one in (result.running, result.stopped))
        ratio = f"{with_ms / without_ms:.2f}"
        print(f"{WAY}, p{100 * quantile:.0f}: {with_ms:.2f} ms with the page, {without_ms:.2f} ms without: {ratio}")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    if result.shares["page"] > options.share_max:
        print(f"FAILED: the page's server takes more than {100 * options.share_max:g} % of a core", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run, print, judge."""
    options = parse_arguments(arguments)
    with ExitStack() as stack:
        result = Bench(options, stack).run()
    return report(result, options)


if __name__ == "__main__":
    raise SystemExit(main())
