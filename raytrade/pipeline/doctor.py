"""`examine`: looks at this host, at every node of the joined cluster and at what a configuration needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from raytrade.config import Config
from raytrade.core.clock import Nanos
from raytrade.errors import ConfigError
from raytrade.observation.health import (
    DiskFacts,
    Finding,
    HostFacts,
    Level,
    judge_disk,
    judge_host,
    judge_offset,
    judge_own_port,
    judge_reached,
    judge_versions,
)
from raytrade.pipeline.planning import NODE_ID, Node, plan_what_fits
from raytrade.pipeline.problems import reason_of
from raytrade.pipeline.supervisor import live_nodes
from raytrade.transport.clock import SystemClock
from raytrade.transport.host import disk_facts, host_facts
from raytrade.transport.reach import closed, taken, unreachable
from raytrade.venues import find_venue
from raytrade.venues.sockets import sockets_of

TIMEOUT_S = 30.0
RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard"}
"""What `ray start --head` listens on; a local Ray takes any."""
HERE = "this host"


def examine_here(config: Config | None) -> list[Finding]:
    """Look at this host alone: what a local Ray would run on."""
    findings = judge_host(HERE, host_facts())
    page = config.page() if config is not None else None
    ports = RAY_PORTS | ({page.port: "the page"} if page is not None else {})
    findings += [judge_own_port(HERE, port, use, taken(port)) for port, use in ports.items()]
    if config is not None:
        findings += [judge_disk(HERE, disk_facts(part.directory)) for part in config.recorders]
        findings += judge_reach(HERE, unreachable(addresses(config)))
    return findings


def examine_cluster(config: Config | None) -> list[Finding]:
    """Look at every node of the joined cluster, and at whether the configuration fits on them."""
    here = host_facts()
    nodes = live_nodes()
    findings = [finding for node in nodes for finding in _examine_node(node, here, config)]
    if config is not None:
        plan = plan_what_fits(config, nodes)
        labels = "start a node with these labels (ray start --labels), or change the labels in the configuration"
        domains = "start nodes in other failure domains, or accept fewer with raytrade run --allow-degraded"
        findings += [_placement(problem, Level.BAD, labels) for problem in plan.problems]
        findings += [_placement(problem, Level.WARNING, domains) for problem in plan.degraded]
    return findings


def _placement(problem: ConfigError, level: Level, remedy: str) -> Finding:
    return Finding(subject="cluster", check="placement", level=level, text=str(problem), remedy=remedy)


def addresses(config: Config) -> list[str]:
    """Give every websocket address that the configuration leads to."""
    urls = []
    for venue, part in config.venues.items():
        sockets = sockets_of(find_venue(venue), part.ws_url, part.rest_url, part.subscriptions())
        urls += [endpoint.url for _, endpoint in sockets]
    return urls


def judge_reach(subject: str, problems: dict[str, str]) -> list[Finding]:
    """Judge which venues a host reaches."""
    remedy = "check DNS, the firewall and a proxy on that host; some venues refuse whole regions"
    return [
        Finding(
            subject=subject,
            check="venue",
            level=Level.BAD if problem else Level.OK,
            text=f"{url}: {problem or 'reached'}",
            remedy=remedy if problem else "",
        )
        for url, problem in problems.items()
    ]


class _Report(msgspec.Struct, frozen=True):
    """What a node finds."""

    facts: HostFacts
    disks: list[DiskFacts]
    venues: dict[str, str]
    ports: dict[str, str]


def _report_node(urls: list[str], directories: list[str], ports: list[tuple[str, int]]) -> _Report:
    """Run on the node that is looked at."""
    disks = [disk_facts(directory) for directory in directories]
    return _Report(host_facts(), disks, unreachable(urls), closed(ports))


def _ports_of_others(node: Node) -> list[tuple[str, int]]:
    """Give where Ray listens on the other nodes: raylets and object managers."""
    others = [one for one in ray.nodes() if one["Alive"] and one["NodeID"] != node.node_id]  # type: ignore[no-untyped-call]
    return [(one["NodeManagerAddress"], one[key]) for one in others for key in ("NodeManagerPort", "ObjectManagerPort")]


def _now_ns() -> Nanos:
    return SystemClock().now_ns()


def _examine_node(node: Node, here: HostFacts, config: Config | None) -> Iterator[Finding]:
    subject = f"node {node.node_id[:8]}"
    urls, directories = [], []
    if config is not None and node.has(config.collectors.labels):
        urls = addresses(config)
    if config is not None:
        directories = [part.directory for part in config.recorders if node.has(part.labels)]
    try:
        report = _run_on(node, _report_node, urls, directories, _ports_of_others(node))
        offset_ns, bound_ns = _offset(node)
    except RayError as error:
        text = f"does not answer: {reason_of(error)}"
        remedy = "see `ray status` and the node's logs; raytrade must be installed on it"
        yield Finding(subject=subject, check="answer", level=Level.BAD, text=text, remedy=remedy)
        return
    yield from judge_host(subject, report.facts)
    yield judge_versions(subject, here, report.facts)
    yield judge_offset(subject, offset_ns, bound_ns)
    if report.ports:
        yield judge_reached(subject, report.ports)
    yield from (judge_disk(subject, disk) for disk in report.disks)
    yield from judge_reach(subject, report.venues)


def _run_on(node: Node, function: Any, *arguments: Any) -> Any:
    options = {"num_cpus": 0, "max_retries": 0, "label_selector": {NODE_ID: node.node_id}}
    return ray.get(ray.remote(function).options(**options).remote(*arguments), timeout=TIMEOUT_S)


def _offset(node: Node) -> tuple[Nanos, Nanos]:
    """Give the node's clock minus ours, and half the fastest round trip: it cannot be wrong by more."""
    best: tuple[Nanos, Nanos] | None = None
    for _ in range(5):
        before_ns = _now_ns()
        there_ns = _run_on(node, _now_ns)
        after_ns = _now_ns()
        bound_ns = (after_ns - before_ns) // 2
        if best is None or bound_ns < best[1]:
            best = there_ns - (before_ns + bound_ns), bound_ns
    assert best is not None
    return best
