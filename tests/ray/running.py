"""A pipeline under test: emulators that know the truth, the pipeline over them, and what its consumers have."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import check_config
from raytrade.demo.checker import covered, recorded
from raytrade.emulator import EmulatorSettings, EmulatorThread, Truth, run_in_thread
from raytrade.pipeline import driver

MARKETS: dict[str, tuple[str, ...]] = {"binance-spot": ("BTCUSDT", "ETHUSDT"), "hitbtc-v2": ("ETHBTC",)}
BINANCE: dict[str, tuple[str, ...]] = {"binance-spot": ("BTCUSDT",)}
BY_ID = ("binance-spot", "hitbtc-v2")
"""Venues whose ids count for all lines, so that what is missing can be told by id."""
PATIENCE_S = 60.0


def until(
    holds: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S, explain: Callable[[], Any] = lambda: ""
) -> Any:
    """Poll until the condition holds; give its value. A failure is told with what `explain` gives."""
    end = time.monotonic() + timeout_s
    while not (value := holds()):
        assert time.monotonic() < end, f"not in {timeout_s:.0f} s: {what} {explain()}"
        time.sleep(0.1)
    return value


def data_of(
    name: str, exchanges: Mapping[str, EmulatorThread], directory: Path, symbols: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Give the configuration of a pipeline with one strategy and one recorder, one collector a node."""
    venues = {
        venue: {
            "symbols": list(symbols[venue]),
            "ws_url": exchange.url,
            "rest_url": exchange.url.replace("ws://", "http://"),
        }
        for venue, exchange in exchanges.items()
    }
    return {
        "name": name,
        "venues": venues,
        "collectors": {"labels": {"collector": "yes"}},
        "dedup": {"labels": {"dedup": "yes"}, "replicas": 2},
        "strategies": [watch("watch")],
        "recorders": [{"directory": str(directory), "segment_age_s": 1, "labels": {"recorder": "yes"}}],
    }


def watch(name: str, **more: Any) -> dict[str, Any]:
    """Give a strategy that only looks."""
    return {"name": name, "strategy": "raytrade.demo.watch:SpreadWatch", "labels": {"strategy": "yes"}, **more}


class Running:
    """A started pipeline."""

    def __init__(self, name: str, exchanges: dict[str, EmulatorThread], directory: Path) -> None:
        self.name = name
        self.exchanges = exchanges
        self.directory = directory

    # What runs.

    def status(self) -> dict[str, Any]:
        """Ask the supervisor."""
        return driver.status(self.name)

    def actors(self, role: str) -> dict[str, dict[str, Any]]:
        """Give the status of the actors of a role that answer."""
        return {name: actor for name, actor in self.status()["actors"].items() if actor.get("role") == role}

    def one(self, role: str, ending: str = "") -> dict[str, Any]:
        """Give the status of one actor, whichever generation of it runs; {} while it does not answer."""
        return self.actors(role).get(self.named(role, ending), {})

    def named(self, role: str, ending: str) -> str:
        """Give the name of an actor in the generation that runs."""
        return next((name for name in self.actors(role) if name.partition("~")[0].endswith(ending)), "")

    def handle(self, name: str) -> Any:
        """Give an actor."""
        return ray.get_actor(name, namespace=NAMESPACE)

    def is_redundant(self) -> bool:
        """Tell whether all lines are up, every dedup hears every collector and every consumer every dedup."""
        actors = list(self.status()["actors"].values())
        if any(actor["state"] != "alive" for actor in actors):
            return False
        collectors = [actor for actor in actors if actor["role"] == "collector"]
        dedups = [actor for actor in actors if actor["role"] == "dedup"]
        consumers = [actor for actor in actors if actor["role"] in ("strategy", "recorder")]
        return (
            all(line["status"]["is_up"] for actor in collectors for line in actor["lines"].values())
            and all(len(actor["up"]) == len(collectors) for actor in dedups)
            and all(len(actor["up"]) == len(dedups) for actor in consumers)
        )

    def begin(self) -> None:
        """Have the exchanges send, once everybody listens."""
        until(self.is_redundant, "all links and lines up")
        for exchange in self.exchanges.values():
            exchange.begin()

    def finish(self) -> dict[str, Truth]:
        """Have the exchanges end; give the truth."""
        for exchange in self.exchanges.values():
            exchange.finish()
        assert all(exchange.wait_finished(30) for exchange in self.exchanges.values())
        return {venue: exchange.truth() for venue, exchange in self.exchanges.items()}

    def updates(self) -> int:
        """Give how many updates were sent so far."""
        return sum(len(ids) for e in self.exchanges.values() for ids in e.truth().ids.values())

    def let_flow(self, updates: int = 150) -> None:
        """Wait until so many more updates were sent."""
        wanted = self.updates() + updates
        until(lambda: self.updates() >= wanted, f"{updates} more updates")

    def kill(self, role: str, ending: str = "") -> None:
        """SIGKILL an actor's process and wait until it is there again in another one."""
        pid = self.one(role, ending)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.one(role, ending).get("pid") not in (None, pid), f"{role} {ending} is back")

    # What the consumers have.

    def has_all(self, strategy: str, truths: Mapping[str, Truth]) -> bool:
        """Tell whether the strategy's books have come to the end of the stream."""
        coverage = self.one("strategy", strategy).get("coverage", {})
        for venue, truth in truths.items():
            for symbol, ids in truth.ids.items():
                mine = coverage.get(f"{venue}:{symbol}/book", {})
                if venue in BY_ID and mine.get("last", 0) < ids[-1]:
                    return False
        return True

    def check_strategy(self, strategy: str, truths: Mapping[str, Truth], whole: bool = True) -> None:
        """The strategy missed nothing since it began (`whole`: since the stream did); its books are the true ones."""
        until(
            lambda: self.has_all(strategy, truths),
            f"{strategy} has everything",
            explain=lambda: self.explain(strategy, truths),
        )
        coverage = self.one("strategy", strategy)["coverage"]
        for venue, truth in truths.items():
            for symbol, ids in truth.ids.items():
                mine = coverage[f"{venue}:{symbol}/book"]
                assert mine["repeats"] == 0, (strategy, symbol)
                if venue in BY_ID:
                    assert mine["holes"] == [], (strategy, symbol)
                    wanted = ids if whole else [number for number in ids if number > mine["first"]]
                    assert covered(mine).missed(wanted) == []
                    assert not whole or mine["first"] < ids[len(ids) // 4], "the first state came late"
        until(lambda: self.books_differ(strategy, truths) == [], f"the books of {strategy}")

    def explain(self, strategy: str, truths: Mapping[str, Truth]) -> str:
        """Say where a strategy and its links stand."""
        ends = {venue: {symbol: ids[-1] for symbol, ids in truth.ids.items()} for venue, truth in truths.items()}
        return json.dumps({"ends": ends, "strategy": self.one("strategy", strategy), "dedups": self.actors("dedup")})

    def books_differ(self, strategy: str, truths: Mapping[str, Truth]) -> list[str]:
        """Name the books that are not live or not the true ones, in full depth (or as deep as the venue sends)."""
        books = ray.get(self.handle(self.named("strategy", strategy)).books.remote(), timeout=30)
        differing = []
        for venue, truth in truths.items():
            for symbol, true in truth.books.items():
                mine = books[f"{venue}:{symbol}"]
                bids, asks = [tuple(level) for level in mine["bids"]], [tuple(level) for level in mine["asks"]]
                true = true if venue in BY_ID else true.cut(max(len(bids), len(asks)))
                if mine["state"] != "live" or (bids, asks) != (true.bids, true.asks):
                    differing.append(f"{venue}:{symbol} is {mine['state']}")
        return differing

    def check_files(self, truths: Mapping[str, Truth]) -> None:
        """The files hold every id once."""
        for venue, truth in truths.items():
            for symbol, ids in truth.ids.items():
                if venue in BY_ID:
                    files, repeats = recorded(self.directory, venue, symbol)
                    assert files.missed(ids) == [], (venue, symbol)
                    assert repeats == 0, (venue, symbol)
                trades = trade_ids(self.directory, venue, symbol)
                assert sorted(trades) == truth.trades[symbol], (venue, symbol)

    def stop(self) -> None:
        """Drain and stop."""
        problems = driver.stop(self.name)
        assert problems == [], problems


def trade_ids(directory: Path, venue: str, symbol: str) -> list[int]:
    """Give all trade ids in the files, as often as they are there."""
    import pyarrow.parquet as pq

    folder = directory / f"venue={venue}" / f"instrument={symbol.replace('/', '%2F')}" / "channel=trades"
    tables = [pq.read_table(path, columns=["trade_id"]) for path in folder.glob("date=*/*.parquet")]
    return [int(text) for table in tables for text in table.column("trade_id").to_pylist()]


def ids_in_files(directory: Path) -> list[int]:
    """Give the ids of all deltas of all books in the files, those too that no book could use."""
    import pyarrow.parquet as pq

    found: set[tuple[int, int]] = set()
    for path in directory.glob("venue=*/instrument=*/channel=book/date=*/*.parquet"):
        rows = pq.read_table(path, columns=["index", "id_last", "is_snapshot"]).to_pylist()
        found |= {(row["index"], row["id_last"]) for row in rows if not row["is_snapshot"]}
    return sorted(id_last for _, id_last in found)


def gap_rows(directory: Path) -> list[dict[str, Any]]:
    """Give the rows of the table of gaps."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in (directory / "gaps").glob("*.parquet")]
    return [row for table in tables for row in table.to_pylist()]


def start_exchanges(
    stack: ExitStack, markets: Mapping[str, tuple[str, ...]], rate: float = 40.0, **settings: Any
) -> dict[str, EmulatorThread]:
    """Start an emulator per venue; they send once `begin` is called."""
    exchanges = {}
    for venue, symbols in markets.items():
        wanted = EmulatorSettings(venue=venue, symbols=symbols, rate=rate, clients=1000, **settings)
        exchanges[venue] = stack.enter_context(run_in_thread(wanted))
    return exchanges


@contextmanager
def running(
    name: str,
    directory: Path,
    markets: Mapping[str, tuple[str, ...]] = MARKETS,
    change: Callable[[dict[str, Any]], None] = lambda data: None,
    **settings: Any,
) -> Iterator[Running]:
    """Run a pipeline over emulators; at the end it is gone, however the test ended."""
    with ExitStack() as stack:
        exchanges = start_exchanges(stack, markets, **settings)
        data = data_of(name, exchanges, directory, markets)
        change(data)
        stack.callback(end, name)
        driver.start(check_config(data, name))
        yield Running(name, exchanges, directory)


def end(name: str) -> None:
    """End a pipeline that may still run."""
    if name in driver.running_pipelines():
        driver.stop(name)
