"""Who runs where: a pure function of the configuration and the nodes."""

from __future__ import annotations

from zlib import crc32

import msgspec

from raytrade.actors.collector import CollectorPlan, LinePlan
from raytrade.actors.dedup import DedupPlan
from raytrade.actors.options import ActorPlan
from raytrade.actors.recorder import RecorderPlan
from raytrade.actors.strategy import StrategyPlan
from raytrade.config import Config, Labels, RecorderConfig, StrategyConfig
from raytrade.errors import ConfigError
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription

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
    collector_nodes = _nodes(config.collectors.labels, nodes, "collectors.labels")
    collectors = [
        Placement(_collector(config, f"{config.name}-collector-{node.node_id[:8]}-{number}"), node)
        for node in collector_nodes
        for number in range(config.collectors.per_node)
    ]
    dedups = _dedups(config, nodes, [placement.plan.name for placement in collectors])
    names = [placement.plan.name for placement in dedups]
    consumers = [_strategy(config, part, nodes, names) for part in config.strategies]
    consumers += [_recorder(config, part, nodes, names) for part in config.recorders]
    return dedups + consumers + collectors


def _nodes(labels: Labels, nodes: list[Node], key: str) -> list[Node]:
    fitting = sorted((node for node in nodes if node.has(labels)), key=lambda node: node.node_id)
    if not fitting:
        wanted = ", ".join(f"{name}={value}" for name, value in labels.items()) or "any"
        there = "; ".join(
            ", ".join(f"{name}={value}" for name, value in node.labels.items() if not name.startswith("ray.io/"))
            or "no labels"
            for node in nodes
        )
        raise ConfigError("", key, f"no node has the labels {wanted} (nodes: {there or 'none'})")
    return fitting


def _collector(config: Config, name: str) -> CollectorPlan:
    lines = []
    for venue, part in config.venues.items():
        spec = find_venue(venue)
        ws_url, rest_url = part.ws_url or spec.ws_url, part.rest_url or spec.rest_url
        for number, share in enumerate(_shares(part.subscriptions(), spec.limits.streams_per_connection_max)):
            for endpoint in spec.machine.endpoints(ws_url, rest_url, share):
                suffix = (f"/{number + 1}" if number else "") + (f"/{endpoint.part}" if endpoint.part else "")
                lines.append(LinePlan(f"{name}/{venue}{suffix}", venue, endpoint))
    return CollectorPlan(name=name, lines=lines, links=config.links.settings())


def _shares(subscriptions: tuple[Subscription, ...], streams_max: int) -> list[tuple[Subscription, ...]]:
    """Divide the subscriptions over connections, so that none has more streams than the venue allows."""
    shares: list[list[Subscription]] = [[]]
    streams = 0
    for subscription in subscriptions:
        streams += len(subscription.channels)
        if streams_max and streams > streams_max:
            shares.append([])
            streams = len(subscription.channels)
        shares[-1].append(subscription)
    return [tuple(share) for share in shares]


def _dedups(config: Config, nodes: list[Node], collectors: list[str]) -> list[Placement]:
    """Spread the replicas of a shard over different nodes, the shards over all of them."""
    fitting = _nodes(config.dedup.labels, nodes, "dedup.labels")
    placements = []
    for shard in range(config.dedup.shards):
        first = crc32(f"{config.name}/{shard}".encode()) % len(fitting)
        for replica in range(config.dedup.replicas):
            plan = DedupPlan(
                name=f"{config.name}-dedup-{shard}-{'abcd'[replica]}",
                collectors=collectors,
                shard=(shard, config.dedup.shards),
                same_node=config.links.same_node,
                links=config.links.settings(),
            )
            placements.append(Placement(plan, fitting[(first + replica) % len(fitting)]))
    return placements


def strategy_name(config: Config, name: str) -> str:
    """Give the actor's name of a strategy."""
    return f"{config.name}-strategy-{name}"


def _strategy(config: Config, part: StrategyConfig, nodes: list[Node], dedups: list[str]) -> Placement:
    fitting = _nodes(part.labels, nodes, f"strategies.{part.name}.labels")
    plan = StrategyPlan(
        name=strategy_name(config, part.name),
        dedups=dedups,
        strategy=part.strategy,
        params=part.params,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
    )
    return Placement(plan, fitting[crc32(part.name.encode()) % len(fitting)])


def _recorder(config: Config, part: RecorderConfig, nodes: list[Node], dedups: list[str]) -> Placement:
    fitting = _nodes(part.labels, nodes, f"recorders.{part.name}.labels")
    plan = RecorderPlan(
        name=f"{config.name}-recorder-{part.name}",
        dedups=dedups,
        directory=part.directory,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        sink=part.sink(),
    )
    return Placement(plan, fitting[crc32(part.name.encode()) % len(fitting)])
