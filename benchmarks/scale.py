"""Many virtual nodes on one machine: `python -m benchmarks.scale [--nodes 16] [--instruments 200]`.

Starts a Ray of so many labelled nodes and a pipeline with a collector on each and a line to each of four emulated
venues; measures how long until every line and link is up, and what the supervisor costs from then on. Exit status 1 if
it does not settle or the supervisor takes 5 % of a core or more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

WRITING = {"binance-spot": "S{}USDT", "binance-us": "S{}USD", "hitbtc-v2": "S{}BTC", "bitcoincom": "S{}BTC"}
NAME = "scale"
SETTLE_S_MAX = 150.0
WATCH_S = 20.0
SHARE_MAX = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Give the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Give what a process alone holds in memory (proportional set size)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def start_nodes(stack: ExitStack, count: int) -> None:
    """Start a head and so many nodes, each apart from any other Ray here."""
    import ray
    from ray.cluster_utils import Cluster

    from raytrade.actors.upstreams import NAMESPACE
    from raytrade.demo.nodes import free_port

    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True))
    os.environ["RAY_TMPDIR"] = directory
    Path(directory, "ray").mkdir()
    options: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}
    head = {**options, "redis_port": free_port(), "labels": {"role": "head"}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    stack.callback(cluster.shutdown)
    for number in range(count):
        labels = {"collector": "yes", "region": f"r{number}"}
        if number < 2:
            labels |= {"dedup": "yes", "strategy": "yes"}
        cluster.add_node(wait=False, labels=labels, **options)
    cluster.wait_for_nodes(180)
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    stack.callback(ray.shutdown)


def start_pipeline(stack: ExitStack, instruments: int, rate: float) -> list[Any]:
    """Start emulators, which wait to be begun, and the pipeline over them; gives the emulators."""
    from raytrade.config import check_config
    from raytrade.demo.exchange import Exchange
    from raytrade.pipeline import driver

    venues, exchanges = {}, []
    for venue, writing in WRITING.items():
        symbols = [writing.format(f"{number:03}") for number in range(instruments // len(WRITING))]
        options = ["--venue", venue, "--symbols", ",".join(symbols), "--rate", str(rate)]
        exchange = Exchange(venue, options)
        stack.callback(exchange.stop)
        exchanges.append(exchange)
        venues[venue] = {"symbols": symbols, "ws_url": exchange.ws_url, "rest_url": exchange.rest_url}
    data = {
        "name": NAME,
        "venues": venues,
        "collectors": {"labels": {"collector": "yes"}},
        "dedup": {"labels": {"dedup": "yes"}, "replicas": 2},
        "strategies": [{"name": "watch", "strategy": "raytrade.demo.watch:SpreadWatch", "labels": {"strategy": "yes"}}],
    }
    driver.start(check_config(data, NAME))
    return exchanges


def settled(status: dict[str, Any], nodes: int) -> bool:
    """Tell whether every collector's lines are up and everybody hears everybody."""
    actors = status["actors"].values()
    lines = [line for actor in actors if actor.get("role") == "collector" for line in actor["lines"].values()]
    return (
        len(lines) == nodes * len(WRITING)
        and all(line["status"]["is_up"] for line in lines)
        and all(len(actor["up"]) == nodes for actor in actors if actor.get("role") == "dedup")
        and all(len(actor["up"]) == 2 for actor in actors if actor.get("role") == "strategy")
    )


def watch_costs(status: dict[str, Any]) -> float:
    """Measure every process for a while without asking it anything; gives the supervisor's share of a core."""
    pids = {"supervisor": [status["pid"]]}
    for actor in status["actors"].values():
        pids.setdefault(actor["role"], []).append(actor["pid"])
    before = {role: sum(map(cpu_s, numbers)) for role, numbers in pids.items()}
    time.sleep(WATCH_S)
    shares = {}
    for role, numbers in pids.items():
        shares[role] = (sum(map(cpu_s, numbers)) - before[role]) / WATCH_S
        memory_mb = sum(map(resident_mb, numbers)) / len(numbers)
        print(f"{role:12} {len(numbers):3} x {shares[role] / len(numbers):6.1%} of a core, {memory_mb:4.0f} MB each")
    return shares["supervisor"]


def main() -> int:
    """Run it; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1.0, help="updates per second and instrument")
    arguments = parser.parse_args()
    from raytrade.pipeline import driver

    with ExitStack() as stack:
        began = time.monotonic()
        start_nodes(stack, arguments.nodes)
        print(f"{arguments.nodes} nodes started after {time.monotonic() - began:.1f} s", flush=True)
        began = time.monotonic()
        exchanges = start_pipeline(stack, arguments.instruments, arguments.rate)
        print(f"pipeline started after {time.monotonic() - began:.1f} s", flush=True)
        while not settled(driver.status(NAME), arguments.nodes):
            if time.monotonic() - began > SETTLE_S_MAX:
                print("it did not settle")
                return 1
            time.sleep(1.0)
        print(f"settled after {time.monotonic() - began:.1f} s", flush=True)
        for exchange in exchanges:
            exchange.control("start")
        before = sum(sum(exchange.control("status")["updates"].values()) for exchange in exchanges)
        began = time.monotonic()
        share = watch_costs(driver.status(NAME))
        sent = sum(sum(exchange.control("status")["updates"].values()) for exchange in exchanges) - before
        print(f"{sent / (time.monotonic() - began):.0f} updates/s, each on {arguments.nodes} lines")
        driver.stop(NAME)
    return 0 if share < SHARE_MAX else 1


if __name__ == "__main__":
    raise SystemExit(main())
