"""Who runs where: a pure function of the configuration and the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import msgspec

from raytrade.actors.collector import CollectorPlan, LinePlan
from raytrade.actors.dedup import DedupPlan
from raytrade.actors.options import ActorPlan
from raytrade.actors.recorder import RecorderPlan
from raytrade.actors.strategy import StrategyPlan
from raytrade.config import MEGABYTE, Config, Labels, RecorderConfig, StrategyConfig
from raytrade.core.clock import SECOND
from raytrade.errors import ConfigError
from raytrade.links.policy import Policy
from raytrade.transport.egress import Egress
from raytrade.venues import find_venue
from raytrade.venues.sockets import sockets_of

NODE_ID = "ray.io/node-id"


class Node(msgspec.Struct, frozen=True):
    """A live node of the cluster."""

    node_id: str
    labels: Labels

    def has(self, labels: Labels) -> bool:
        """Tell whether the node carries all of `labels`."""
        return all(self.labels.get(key) == value for key, value in labels.items())


class Placement(msgspec.Struct, frozen=True):
    """An actor and the node it belongs on."""

    plan: ActorPlan
    node: Node


def plan_pipeline(config: Config, nodes: list[Node]) -> list[Placement]:
    """Place the actors of a pipeline: dedups first, then consumers, then collectors.

    Raises:
        ConfigError: no node carries the labels that an actor asks for; names both.
    """
    placements, problems = plan_what_fits(config, nodes, {})
    if problems:
        raise problems[0]
    return placements


def plan_what_fits(
    config: Config, nodes: list[Node], held: Mapping[str, str]
) -> tuple[list[Placement], list[ConfigError]]:
    """Place what can be placed, and tell what cannot; an actor stays on the node where `held` says that it runs."""
    places = _Places(nodes, held)
    collectors = [
        Placement(_collector(config, node, number), node)
        for node in places.fitting(config.collectors.labels, "collectors.labels")
        for number in range(config.collectors.per_node)
    ]
    placements = _dedups(config, places, [placement.plan.name for placement in collectors])
    for strategy in config.strategies:
        fitting = places.fitting(strategy.labels, f"strategies.{strategy.name}.labels")
        placements += places.place(_strategy(config, strategy), fitting, strategy.name)
    placements += _recorders(config, places)
    return placements + collectors, places.problems


class _Places:
    """The nodes there are, what runs on them, and what found none."""

    def __init__(self, nodes: list[Node], held: Mapping[str, str]) -> None:
        self.problems: list[ConfigError] = []
        self._nodes = sorted(nodes, key=lambda node: node.node_id)
        self._held = held

    def fitting(self, labels: Labels, key: str) -> list[Node]:
        """Give the nodes with these labels; notes a problem under `key` if there is none."""
        fitting = [node for node in self._nodes if node.has(labels)]
        if not fitting:
            wanted = _text_of(labels) or "any"
            there = "; ".join(_text_of(node.labels) or "no labels" for node in self._nodes)
            self.problems.append(ConfigError("", key, f"no node has the labels {wanted} (nodes: {there or 'none'})"))
        return fitting

    def node_held(self, name: str, fitting: list[Node]) -> Node | None:
        """Give the node that the actor runs on, if it is still there."""
        return next((node for node in fitting if node.node_id == self._held.get(name)), None)

    def place(self, plan: ActorPlan, fitting: list[Node], key: str, avoid: set[str] | None = None) -> list[Placement]:
        """Place an actor where it is, else by a stable hash of `key`; if it can, on none to be avoided."""
        if not fitting:
            return []
        first = crc32(key.encode()) % len(fitting)
        order = fitting[first:] + fitting[:first]
        free = [node for node in order if node.node_id not in (avoid or set())]
        return [Placement(plan, self.node_held(plan.name, fitting) or (free or order)[0])]


def _text_of(labels: Labels) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if not name.startswith("ray.io/"))


def _collector(config: Config, node: Node, number: int) -> CollectorPlan:
    name = f"{config.name}-collector-{node.node_id[:12]}-{number}"
    lines = []
    for venue, part in config.venues.items():
        egress = _egress(config, node, venue, number)
        for suffix, endpoint in sockets_of(find_venue(venue), part.ws_url, part.rest_url, part.subscriptions()):
            lines.append(LinePlan(f"{name}/{venue}{suffix}", venue, endpoint, egress))
    service_timeout_ns = int(config.collectors.service_timeout_s * SECOND)
    return CollectorPlan(name=name, lines=lines, links=config.links.settings(), service_timeout_ns=service_timeout_ns)


def _egress(config: Config, node: Node, venue: str, number: int) -> Egress:
    for part in config.collectors.egress:
        if part.covers(node.labels, venue, number):
            return Egress(source_address=part.source_address, interface=part.interface, proxy=part.proxy)
    return Egress()


def _dedups(config: Config, places: _Places, collectors: list[str]) -> list[Placement]:
    """Spread the replicas of a shard over different nodes, the shards over all of them."""
    fitting = places.fitting(config.dedup.labels, "dedup.labels")
    placements: list[Placement] = []
    for shard in range(config.dedup.shards):
        names = [_dedup_name(config, shard, replica) for replica in range(config.dedup.replicas)]
        taken = {node.node_id for name in names if (node := places.node_held(name, fitting)) is not None}
        for name in names:
            plan = DedupPlan(
                name=name,
                collectors=collectors,
                shard=(shard, config.dedup.shards),
                same_node=config.links.same_node,
                busy_poll=config.links.spins("dedup"),
                links=config.links.settings(),
                arrivals=any(recorder.arrivals for recorder in config.recorders),
            )
            placed = places.place(plan, fitting, f"{config.name}/{shard}", taken)
            taken |= {placement.node.node_id for placement in placed}
            placements += placed
    return placements


def _dedup_name(config: Config, shard: int, replica: int) -> str:
    return f"{config.name}-dedup-{shard}-{'abcd'[replica]}"


def dedup_names(config: Config) -> list[str]:
    """Give the names of all dedup replicas, wherever they are."""
    shards, replicas = range(config.dedup.shards), range(config.dedup.replicas)
    return [_dedup_name(config, shard, replica) for shard in shards for replica in replicas]


def strategy_name(config: Config, name: str) -> str:
    """Give the actor's name of a strategy."""
    return f"{config.name}-strategy-{name}"


def _strategy(config: Config, part: StrategyConfig) -> StrategyPlan:
    return StrategyPlan(
        name=strategy_name(config, part.name),
        dedups=dedup_names(config),
        strategy=part.strategy,
        params=part.params,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        policy=Policy(part.policy),
        busy_poll=config.links.spins("strategy"),
        paper=part.paper.settings(),
    )


def _recorders(config: Config, places: _Places) -> list[Placement]:
    """Put each recorder on a node of its own where there are enough: they are each other's spares."""
    plans = [_recorder(config, part) for part in config.recorders]
    fitting = [places.fitting(part.labels, f"recorders.{part.name}.labels") for part in config.recorders]
    held = [places.node_held(plan.name, nodes) for plan, nodes in zip(plans, fitting, strict=True)]
    taken = {node.node_id for node in held if node is not None}
    placements: list[Placement] = []
    for part, plan, nodes in zip(config.recorders, plans, fitting, strict=True):
        placed = places.place(plan, nodes, part.name, taken)
        taken |= {placement.node.node_id for placement in placed}
        placements += placed
    return placements


def _recorder(config: Config, part: RecorderConfig) -> RecorderPlan:
    return RecorderPlan(
        name=f"{config.name}-recorder-{part.name}",
        dedups=dedup_names(config),
        directory=part.directory,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        policy=Policy(part.policy),
        spill_bytes_max=part.spill_mb * MEGABYTE if part.policy == "spill" else 0,
        spill_directory=part.spill_directory,
        busy_poll=config.links.spins("recorder"),
        sink=part.sink(),
        arrivals=part.arrivals,
    )
