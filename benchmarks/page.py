"""What the page costs: processor time of its server, and the pipeline's latency with it and without it, in one run.

    python -m benchmarks.page [--rate 5000] [--seconds 15] [--repeat 2] [--clients 9] [--no-browser] [--json FILE]

One collector, two dedups, a strategy, ten instruments. Stretches without and with the page take turns; those with it
have `--clients` websockets that are pushed everything, and one Chromium that shows ladder and heat map. Clients and
browser run at the lowest priority: what they do to draw is not the server's. Fails above `--share-max` of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
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
from raytrade.observation.status import hops, since
from raytrade.pipeline import driver
from tests.ray.running import until

NAME = "page"
VENUE = "binance-spot"
SYMBOLS = tuple(f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "BNB", "DOGE", "LTC", "DOT", "TRX"))
WAY = "socket to strategy called"
SETTLE_S = 3.0


class Stretch(msgspec.Struct, kw_only=True):
    """One stretch: updates a second, latency in milliseconds, shares of a core by who used it."""

    with_page: bool
    rate: float
    p50_ms: float
    p99_ms: float
    shares: dict[str, float] = {}
    pushed_per_s: float = 0.0
    pushed_kb_per_s: float = 0.0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=5000.0, help="updates a second, of all instruments together")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a stretch")
    parser.add_argument("--repeat", type=int, default=2, help="stretches with the page")
    parser.add_argument("--clients", type=int, default=9)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--share-max", type=float, default=0.05, help="of a core, for the page's server")
    parser.add_argument("--json", type=Path, help="raw results")
    options = parser.parse_args(arguments)
    if min(options.rate, options.seconds, options.repeat) <= 0:
        parser.error("rate, seconds and repeat must be positive")
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
        return hops(driver.status(NAME)["actors"])[WAY]

    def _sent(self) -> int:
        return int(sum(self._exchange.control("status")["updates"].values()))

    def _measure(self, with_page: bool, shares: Callable[[], dict[str, float]]) -> Stretch:
        threading.Event().wait(SETTLE_S)
        shares()
        before, sent = self._latency(), self._sent()
        seconds, _ = Usage(os.getpid()).over(self._options.seconds)
        used, latency = shares(), since(self._latency(), before)
        p50_ns, p99_ns = latency.quantile_ns(0.5), latency.quantile_ns(0.99)
        return Stretch(
            with_page=with_page,
            rate=(self._sent() - sent) / seconds,
            p50_ms=p50_ns / MILLISECOND,
            p99_ms=p99_ns / MILLISECOND,
            shares=used,
        )

    def without_page(self) -> Stretch:
        """Measure the pipeline alone."""
        return self._measure(False, dict)

    def with_page(self) -> Stretch:
        """Measure it with a page that is looked at."""
        port = free_port()
        with page_of(self._nodes.address, NAME, "127.0.0.1", port) as address, self._looked_at(address) as clients:
            shares = Shares({"page": pid_of(f"--port\0{port}"), **self._viewers()})
            stretch = self._measure(True, shares.read)
            pushed = clients.finish()
            stretch.pushed_per_s = pushed["updates"] / (self._options.seconds + SETTLE_S)
            stretch.pushed_kb_per_s = pushed["bytes"] / 1000 / (self._options.seconds + SETTLE_S)
            return stretch

    def _viewers(self) -> dict[str, int]:
        pids = pids_of("ray::Viewer")
        return {"viewer": pids[0]} if pids else {}

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
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", "the clients did not come up"
                yield Clients(process)
            finally:
                process.kill()


class Clients:
    """The process of the clients."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def finish(self) -> dict[str, int]:
        """Have them go away; gives what they were pushed."""
        out, _ = self._process.communicate(timeout=30)
        return dict(json.loads(out))


class Shares:
    """Processor time of processes between two readings, as shares of a core."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._usage = {name: Usage(pid) for name, pid in pids.items()}

    def read(self) -> dict[str, float]:
        """Give the shares since the reading before."""
        return {name: usage.since() for name, usage in self._usage.items()}


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


def median(stretches: list[Stretch], key: str) -> float:
    """Give the middle one of a figure."""
    return float(statistics.median(getattr(one, key) for one in stretches))


def report(stretches: list[Stretch], options: argparse.Namespace) -> int:
    """Print all of it and judge; gives the exit status."""
    for one in stretches:
        figures = f"{one.rate:.0f} updates/s, {WAY} p50 {one.p50_ms:.2f} ms p99 {one.p99_ms:.2f} ms"
        shares = "".join(f", {name} {100 * share:.1f} % of a core" for name, share in one.shares.items())
        pushed = f", pushed {one.pushed_per_s:.0f} messages/s {one.pushed_kb_per_s:.0f} kB/s" if one.with_page else ""
        print(f"{'with page' if one.with_page else 'without':10} {figures}{shares}{pushed}")
    parts = {flag: [one for one in stretches if one.with_page is flag] for flag in (True, False)}
    p50, p99 = ({flag: median(part, key) for flag, part in parts.items()} for key in ("p50_ms", "p99_ms"))
    share = sum(one.shares["page"] for one in parts[True]) / len(parts[True])
    print(f"latency with page / without: p50 {p50[True] / p50[False]:.2f}, p99 {p99[True] / p99[False]:.2f}")
    print(f"page server: {100 * share:.1f} % of a core ({os.cpu_count()} cores, {options.clients} clients)")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(stretches)))
    if share > options.share_max:
        print(f"FAILED: more than {100 * options.share_max:g} %", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run, print, judge."""
    options = parse_arguments(arguments)
    stretches: list[Stretch] = []
    with ExitStack() as stack:
        bench = Bench(options, stack)
        for _ in range(options.repeat):
            stretches += [bench.without_page(), bench.with_page()]
        stretches.append(bench.without_page())
    return report(stretches, options)


if __name__ == "__main__":
    raise SystemExit(main())
