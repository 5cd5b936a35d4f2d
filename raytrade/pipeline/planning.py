"""Who runs where: a pure function of the configuration, the nodes, and what stands already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from msgspec import structs

from raytrade.actors.collector import CollectorPlan, LinePlan
from raytrade.actors.dedup import DedupPlan
from raytrade.actors.gateway import GatewayPlan
from raytrade.actors.global_dedup import GLOBAL_ARBITER, GlobalDedupPlan
from raytrade.actors.options import ActorPlan
from raytrade.actors.recorder import RecorderPlan
from raytrade.actors.strategy import StrategyPlan
from raytrade.actors.warmup import WarmUpSettings
from raytrade.config import MEGABYTE, Config, Labels, RecorderConfig, StrategyConfig
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.rendezvous import choose, ranked
from raytrade.errors import ConfigError
from raytrade.links.policy import Policy
from raytrade.pipeline.shares import Share, budgets, rotation_slots, shares_of
from raytrade.storage.journals import JOURNAL_FOLDER
from raytrade.transport.egress import Egress

NODE_ID = "ray.io/node-id"
NO_DOMAIN = "(no label)"


class Node(msgspec.Struct, frozen=True):
    """A live node of the cluster."""

    node_id: str
    labels: Labels
    name: str = ""
    address: str = ""

    def has(self, labels: Labels) -> bool:
        """Tell whether the node carries all of `labels`."""
        return all(self.labels.get(key) == value for key, value in labels.items())

    def domain(self, label: str) -> str:
        """Give the failure domain: the value of `label`, one for all nodes without it, or the node itself."""
        return self.labels.get(label, NO_DOMAIN) if label else self.node_id


class Standing(msgspec.Struct, frozen=True):
    """What a plan goes on from.

    `nodes`: where each actor runs. `generations`: the number of each actor and share that was replaced while the
    pipeline ran, so that old and new have different names. `drained`: nodes that get nothing any more.
    """

    nodes: Mapping[str, str] = {}
    generations: Mapping[str, int] = {}
    drained: frozenset[str] = frozenset()

    def named(self, base: str) -> str:
        """Give the name of the present generation."""
        generation = self.generations.get(base, 1)
        return base if generation == 1 else f"{base}~{generation}"


class Placement(msgspec.Struct, frozen=True):
    """An actor and the node it belongs on. `base` is its name in every generation, `why` the reason for people."""

    plan: ActorPlan
    node: Node
    base: str
    why: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What can be placed; what cannot, and why; and what runs with fewer failure domains than were asked for."""

    placements: list[Placement]
    problems: list[ConfigError]
    degraded: list[ConfigError]


def plan_pipeline(config: Config, nodes: list[Node], allow_degraded: bool = False) -> list[Placement]:
    """Place the actors of a pipeline: dedups first, then consumers, then collectors.

    Raises:
        ConfigError: no node carries the labels that an actor asks for, or there are too few failure domains; names
            them and what there is.
    """
    plan = plan_what_fits(config, nodes)
    problems = plan.problems if allow_degraded else [*plan.problems, *plan.degraded]
    if problems:
        raise problems[0]
    return plan.placements


def plan_what_fits(config: Config, nodes: list[Node], standing: Standing | None = None) -> Plan:
    """Place what can be placed, and tell what cannot; an actor stays on the node where it runs."""
    standing = standing or Standing()
    places = _Places([node for node in nodes if node.node_id not in standing.drained], standing, config.failure_domain)
    collectors = _collectors(config, places)
    regionals = _regionals(config, places, collectors)
    placements = regionals + _dedups(config, places, [placement.plan.name for placement in collectors], regionals)
    for strategy in config.strategies:
        placements += _strategies(config, strategy, places)
    placements += _recorders(config, places, standing)
    return Plan(placements + collectors, places.problems, places.degraded)


class _Places:
    """The nodes there are, what runs on them, and what found none."""

    def __init__(self, nodes: list[Node], standing: Standing, label: str) -> None:
        self.standing = standing
        self.problems: list[ConfigError] = []
        self.degraded: list[ConfigError] = []
        self._nodes = sorted(nodes, key=lambda node: node.node_id)
        self._label = label

    def domain(self, node: Node) -> str:
        """Give the node's failure domain."""
        return node.domain(self._label)

    def fitting(self, labels: Labels, key: str) -> list[Node]:
        """Give the nodes with these labels; notes a problem under `key` if there is none."""
        fitting = [node for node in self._nodes if node.has(labels)]
        if not fitting:
            there = "; ".join(_text_of(node.labels) or "no labels" for node in self._nodes)
            wanted = _text_of(labels) or "any"
            self.problems.append(ConfigError("", key, f"no node has the labels {wanted} (nodes: {there or 'none'})"))
        return fitting

    def require_domains(self, key: str, wanted: int, found: int, nodes: list[Node]) -> None:
        """Note under `key` that there are fewer failure domains than copies wanted."""
        if found >= wanted or not nodes:
            return
        kind, there = "nodes", str(found)
        if self._label:
            kind = f"failure domains (label {self._label})"
            there = f"{found}: {', '.join(sorted({node.domain(self._label) for node in nodes}))}"
        problem = f"{wanted} copies wanted in different {kind}, there are only {there}; see --allow-degraded"
        self.degraded.append(ConfigError("", key, problem))

    def held(self, name: str, fitting: list[Node]) -> Node | None:
        """Give the node that the actor runs on, if it is still there."""
        return next((node for node in fitting if node.node_id == self.standing.nodes.get(name)), None)

    def choose(self, plan: ActorPlan, base: str, fitting: list[Node], key: str, taken: set[str]) -> list[Placement]:
        """Place an actor where it is, else by a stable hash of `key`; if it can, in none of the domains `taken`."""
        if not fitting:
            return []
        held = self.held(plan.name, fitting)
        if held is not None:
            return [Placement(plan, held, base, "runs there already")]
        first = crc32(key.encode()) % len(fitting)
        order = fitting[first:] + fitting[:first]
        apart = [node for node in order if self.domain(node) not in taken]
        node = (apart or order)[0]
        apart_from = f", apart from its {len(taken)} other copies" if taken and apart else ""
        return [Placement(plan, node, base, f"{key}: by hash over {len(fitting)} fitting nodes{apart_from}")]


def _text_of(labels: Labels) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if not name.startswith("ray.io/"))


# Collectors.


def _collectors(config: Config, places: _Places) -> list[Placement]:
    """Give the collectors that have a line to run, one or more on each node chosen for a share."""
    nodes = places.fitting(config.collectors.labels, "collectors.labels")
    lines: dict[str, list[LinePlan]] = {}
    homes: dict[str, Node] = {}
    for share in shares_of(config):
        owners = _owners(config, share, nodes, places)
        slots = rotation_slots(owners)
        homes |= owners
        for name in owners:
            egress = _egress(config, owners[name], share.venue, int(name.rpartition("-")[2]))
            full = f"{places.standing.named(name)}/{places.standing.named(share.name)}"
            line = LinePlan(full, share.venue, share.endpoint, slots[name], egress)
            lines.setdefault(name, []).append(line)
    _check_domains(config, nodes, places)
    spending = {
        venue: budgets(venue, part, [name for name, mine in lines.items() if any(one.venue == venue for one in mine)])
        for venue, part in config.venues.items()
    }
    placements = []
    for name in sorted(lines):
        plan = CollectorPlan(
            name=places.standing.named(name),
            lines=lines[name],
            links=config.links.settings(),
            service_timeout_ns=int(config.collectors.service_timeout_s * SECOND),
            budgets={venue: part[name] for venue, part in spending.items() if name in part},
        )
        placements.append(Placement(plan, homes[name], name, _reason(config, lines[name])))
    return placements


def _reason(config: Config, lines: list[LinePlan]) -> str:
    """Say why a collector runs its lines."""
    wanted = {line.venue: config.venues[line.venue].redundancy for line in lines}
    every = [venue for venue, copies in wanted.items() if copies == "all"]
    apart = f"different {config.failure_domain}s" if config.failure_domain else "different nodes"
    reasons = [f"{venue}: {copies} copies by rank in {apart}" for venue, copies in wanted.items() if copies != "all"]
    return "; ".join([f"{', '.join(every)}: every collector"] * bool(every) + reasons)


def _owners(config: Config, share: Share, nodes: list[Node], places: _Places) -> dict[str, Node]:
    """Give the collectors that run a share, each with its node."""
    redundancy = config.venues[share.venue].redundancy
    numbers = [str(number) for number in range(config.collectors.per_node)]
    if redundancy == "all":
        return {_collector_name(config, node, number): node for node in nodes for number in numbers}
    by_id = {node.node_id: node for node in nodes}
    chosen = choose(share.name, {name: places.domain(node) for name, node in by_id.items()}, redundancy).names
    return {_collector_name(config, by_id[one], ranked(share.name + one, numbers)[0]): by_id[one] for one in chosen}


def _egress(config: Config, node: Node, venue: str, number: int) -> Egress:
    for part in config.collectors.egress:
        if part.covers(node.labels, venue, number):
            return Egress(source_address=part.source_address, interface=part.interface, proxy=part.proxy)
    return Egress()


def _check_domains(config: Config, nodes: list[Node], places: _Places) -> None:
    found = len({places.domain(node) for node in nodes})
    for venue, part in config.venues.items():
        if part.redundancy != "all":
            places.require_domains(f"venues.{venue}.redundancy", part.redundancy, found, nodes)


def _collector_name(config: Config, node: Node, number: str) -> str:
    return f"{config.name}-collector-{node.node_id[:12]}-{number}"


# Dedups.


def _regionals(config: Config, places: _Places, collectors: list[Placement]) -> list[Placement]:
    """Put dedups into every region that has collectors, if a tier of them is wanted."""
    tier = config.dedup.regional
    if tier is None:
        return []
    regions: dict[str, list[str]] = {}
    for placement in collectors:
        region = placement.node.labels.get(tier.label, "")
        regions.setdefault(region, []).append(placement.plan.name)
    if "" in regions:
        wanted = f"a collector's node has no label {tier.label}, so it is in no region"
        places.problems.append(ConfigError("", "dedup.regional.label", wanted))
        del regions[""]
    if tier.primary and tier.primary not in regions:
        there = f"there are no collectors in {tier.primary}, only in: {', '.join(sorted(regions)) or 'no region'}"
        places.problems.append(ConfigError("", "dedup.regional.primary", there))
    placements: list[Placement] = []
    for region, names in sorted(regions.items()):
        fitting = places.fitting({**tier.labels, tier.label: region}, f"dedup.regional.labels ({region})")
        for shard in range(config.dedup.shards):
            bases = [f"{config.name}-regional-{region}-{shard}-{'abcd'[at]}" for at in range(tier.replicas)]
            plan = structs.replace(_dedup_plan(config, shard), collectors=names, region=region, region_label=tier.label)
            placements += _spread(places, plan, bases, fitting, f"{config.name}/{region}/{shard}")
    return placements


def _spread(places: _Places, plan: DedupPlan, bases: list[str], fitting: list[Node], key: str) -> list[Placement]:
    """Place the replicas of a shard in different failure domains, where there are enough."""
    placements: list[Placement] = []
    names = [places.standing.named(base) for base in bases]
    taken = {places.domain(node) for name in names if (node := places.held(name, fitting)) is not None}
    for base, name in zip(bases, names, strict=True):
        placed = places.choose(structs.replace(plan, name=name), base, fitting, key, taken)
        taken |= {places.domain(placement.node) for placement in placed}
        placements += placed
    return placements


def _dedup_plan(config: Config, shard: int) -> DedupPlan:
    return DedupPlan(
        name="",
        collectors=[],
        shard=(shard, config.dedup.shards),
        same_node=config.links.same_node,
        busy_poll=config.links.spins("dedup"),
        links=config.links.settings(),
        arrivals=keeps_arrivals(config),
        crossed_ns=round(config.dedup.crossed_ms * MILLISECOND),
    )


def _dedups(config: Config, places: _Places, collectors: list[str], regionals: list[Placement]) -> list[Placement]:
    """Spread the replicas of a shard over different domains, the shards over all nodes."""
    tier = config.dedup.regional
    fitting = places.fitting(config.dedup.labels, "dedup.labels")
    if config.failure_domain:
        found = len({places.domain(node) for node in fitting})
        places.require_domains("dedup.replicas", config.dedup.replicas, found, fitting)
    placements: list[Placement] = []
    for shard in range(config.dedup.shards):
        bases = [_dedup_base(config, shard, replica) for replica in range(config.dedup.replicas)]
        plan = structs.replace(_dedup_plan(config, shard), collectors=collectors)
        if tier is not None:
            regions = regions_of(regionals, shard)
            more: dict[str, Any] = {"regions": regions, "region_label": tier.label, "primary": tier.primary}
            more |= {"collectors": list(regions), "arbiter": GLOBAL_ARBITER}
            plan = GlobalDedupPlan(**structs.asdict(plan) | more)
        placements += _spread(places, plan, bases, fitting, f"{config.name}/{shard}")
    return placements


def regions_of(placements: Iterable[Placement], shard: int) -> dict[str, str]:
    """Give the regional dedups of a shard, each with its region."""
    plans = [placement.plan for placement in placements]
    return {p.name: p.region for p in plans if isinstance(p, DedupPlan) and p.region and p.shard[0] == shard}


def _dedup_base(config: Config, shard: int, replica: int) -> str:
    return f"{config.name}-dedup-{shard}-{'abcd'[replica]}"


def replica_of(base: str) -> str:
    """Give the letter of a dedup's replica: those of one letter have every shard between them."""
    return base.rpartition("-")[2]


def dedup_bases(config: Config) -> list[str]:
    """Give the names of all dedup replicas in their first generation."""
    shards, replicas = range(config.dedup.shards), range(config.dedup.replicas)
    return [_dedup_base(config, shard, replica) for shard in shards for replica in replicas]


def dedup_names(config: Config, standing: Standing) -> list[str]:
    """Give the names of all dedup replicas, wherever they are."""
    return [standing.named(base) for base in dedup_bases(config)]


def keeps_arrivals(config: Config) -> bool:
    """Tell whether the dedups keep a log of every copy: they must, if any recorder records it."""
    return any(recorder.arrivals for recorder in config.recorders)


# Consumers.


def strategy_base(config: Config, name: str) -> str:
    """Give the name of a strategy's actor in its first generation."""
    return f"{config.name}-strategy-{name}"


def gateway_base(config: Config, name: str) -> str:
    """Give the name of the gateway of a strategy with a standby, in its first generation."""
    return f"{config.name}-gateway-{name}"


def strategy_bases(config: Config, name: str) -> list[str]:
    """Give the names of all actors of a strategy, as far as it is configured, in their first generation."""
    part = next((part for part in config.strategies if part.name == name), None)
    if part is None or not part.standby:
        return [strategy_base(config, name)]
    return [*(strategy_base(config, one) for one in part.replicas()), gateway_base(config, name)]


def recorder_base(config: Config, name: str) -> str:
    """Give the name of a recorder's actor in its first generation."""
    return f"{config.name}-recorder-{name}"


def _strategies(config: Config, part: StrategyConfig, places: _Places) -> list[Placement]:
    """Place a strategy; one with a standby three times in different domains, if there are as many."""
    key, standing = f"strategies.{part.name}", places.standing
    fitting = places.fitting(part.labels, f"{key}.labels")
    bases = {name: strategy_base(config, name) for name in part.replicas()}
    plans: dict[str, ActorPlan] = {name: _strategy(config, part, base, standing) for name, base in bases.items()}
    if part.standby:
        places.require_domains(f"{key}.standby", 2, len({places.domain(node) for node in fitting}), fitting)
        name = f"{part.name}-gateway"
        bases[name], plans[name] = gateway_base(config, part.name), _gateway(config, part, standing)
    held = [places.held(plan.name, fitting) for plan in plans.values()]
    taken = {places.domain(node) for node in held if node is not None}
    placements: list[Placement] = []
    for name, plan in plans.items():
        placed = places.choose(plan, bases[name], fitting, name, taken)
        taken |= {places.domain(placement.node) for placement in placed}
        placements += placed
    return placements


def _gateway(config: Config, part: StrategyConfig, standing: Standing) -> GatewayPlan:
    return GatewayPlan(
        name=standing.named(gateway_base(config, part.name)),
        dedups=dedup_names(config, standing),
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        paper=part.paper.settings(),
        directory=part.state,
    )


def _strategy(config: Config, part: StrategyConfig, base: str, standing: Standing) -> StrategyPlan:
    return StrategyPlan(
        name=standing.named(base),
        gateway=standing.named(gateway_base(config, part.name)) if part.standby else "",
        dedups=dedup_names(config, standing),
        strategy=part.strategy,
        params=part.params,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        policy=Policy(part.policy),
        busy_poll=config.links.spins("strategy"),
        paper=part.paper.settings(),
        journal=_journal_directory(config, part),
        journal_bytes_max=part.journal_mb * MEGABYTE,
        warmup=_warmup(config, part),
    )


def _journal_directory(config: Config, part: StrategyConfig) -> str:
    if part.journal is True:
        return str(Path(_recorded(config, part, "journal")) / JOURNAL_FOLDER)
    return part.journal or ""


def _warmup(config: Config, part: StrategyConfig) -> WarmUpSettings | None:
    if not part.warmup:
        return None
    directory = part.history or _recorded(config, part, "history")
    return WarmUpSettings(directory=directory, span_ns=part.warmup_s * SECOND)


def _recorded(config: Config, part: StrategyConfig, key: str) -> str:
    if not config.recorders:
        raise ConfigError("", f"strategies.{part.name}.{key}", "there is no recorder: name a directory")
    return config.recorders[0].directory


def _recorders(config: Config, places: _Places, standing: Standing) -> list[Placement]:
    """Put each recorder in a domain of its own where there are enough: they are each other's spares."""
    plans = [_recorder(config, part, standing) for part in config.recorders]
    fitting = [places.fitting(part.labels, f"recorders.{part.name}.labels") for part in config.recorders]
    held = [places.held(plan.name, nodes) for plan, nodes in zip(plans, fitting, strict=True)]
    taken = {places.domain(node) for node in held if node is not None}
    placements: list[Placement] = []
    for part, plan, nodes in zip(config.recorders, plans, fitting, strict=True):
        placed = places.choose(plan, recorder_base(config, part.name), nodes, part.name, taken)
        taken |= {places.domain(placement.node) for placement in placed}
        placements += placed
    return placements


def _recorder(config: Config, part: RecorderConfig, standing: Standing) -> RecorderPlan:
    return RecorderPlan(
        name=standing.named(recorder_base(config, part.name)),
        dedups=dedup_names(config, standing),
        directory=part.directory,
        filters=tuple(part.subscribe),
        same_node=config.links.same_node,
        policy=Policy(part.policy),
        spill_bytes_max=part.spill_mb * MEGABYTE if part.policy == "spill" else 0,
        spill_directory=part.spill_directory,
        busy_poll=config.links.spins("recorder"),
        sink=part.sink(),
        arrivals=part.arrivals,
        target=part.target,
        database=part.database,
        retention_days=int(part.retention.removesuffix("d") or 0),
    )
