"""`Cluster`: venues, three collectors, two dedups, a strategy and a recorder, started again whenever they die."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel
from raytrade.links.policy import Policy
from raytrade.links.writer import LinkSettings
from raytrade.simulation.actor import Actor
from raytrade.simulation.checks import Checker, Subject
from raytrade.simulation.collector import SimCollector
from raytrade.simulation.consumers import SimDisk, SimRecorder, SimStrategy
from raytrade.simulation.dedup import SimDedup, WatchedArbiter
from raytrade.simulation.dialects import (
    BinanceDialect,
    CoinbaseDialect,
    Dialect,
    HitbtcDialect,
    KrakenDialect,
    NewestDialect,
)
from raytrade.simulation.market import Market
from raytrade.simulation.network import Network
from raytrade.simulation.newest import NEWEST_VENUE, NewestMachine
from raytrade.simulation.plan import ACTORS, COLLECTORS, DEDUPS, OTHER, RECORDER, Plan, VenuePlan
from raytrade.simulation.rules import CHAINED, simulated_rule
from raytrade.simulation.venue import FaultyLine, SimVenue
from raytrade.simulation.watch import ArbiterWatch, Sees
from raytrade.simulation.world import World
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Subscription, VenueMachine

RESTART_NS = 200 * MILLISECOND
"""How long a dead actor takes to be noticed and started, besides what a fault adds."""

DIALECTS: dict[str, type[Dialect]] = {
    "binance-spot": BinanceDialect,
    "hitbtc-v2": HitbtcDialect,
    "kraken-v2": KrakenDialect,
    "coinbase-advanced": CoinbaseDialect,
    NEWEST_VENUE: NewestDialect,
}
SYMBOLS = {
    "binance-spot": "SIMUSDT",
    "hitbtc-v2": "SIMBTC",
    "kraken-v2": "SIM/USD",
    "coinbase-advanced": "SIM-USD",
    NEWEST_VENUE: "SIM",
}


class Cluster:
    """Everything but the faults and the checks."""

    def __init__(self, world: World, plan: Plan, checker: Checker, arbiters: ArbiterSettings) -> None:
        self.venues: dict[str, SimVenue] = {}
        self.paths: dict[str, FaultyLine] = {}
        self.network = Network(world, plan.call_ns)
        self.down_ns: dict[str, Nanos] = {}
        self.disk = SimDisk(plan.spill_bytes)
        self.durable_watch = ArbiterWatch(RECORDER, checker.fail, Sees(inputs=False))
        self.mailbox_max = 0
        self._world = world
        self._plan = plan
        self._checker = checker
        self._arbiters = arbiters
        self._links = LinkSettings(ring_items_max=plan.ring_items_max, ring_bytes_max=8 * 1024 * 1024)
        self._slow_ns: dict[str, Nanos] = {}
        checker.lies.is_believed = self._is_believed
        for venue_plan in plan.venues:
            self._add_venue(venue_plan)
        for link in plan.local_links:
            one, _, other = link.partition(">")
            self.network.local[one, other] = True
        self.network.on_crash = self._restart_later

    def _add_venue(self, plan: VenuePlan) -> None:
        world, symbol = self._world, SYMBOLS[plan.name]
        instrument = f"{plan.name}:{symbol}"
        is_dense = simulated_rule(instrument, Channel.TRADES).rule.value.endswith("dense")
        market = Market(world.random, dense=is_dense, start_ns=world.now_ns)
        dialect = DIALECTS[plan.name]
        make = partial(dialect, market, symbol, world.random, plan.window_max, plan.depth)
        self.venues[plan.name] = SimVenue(world, plan.name, symbol, market, make)
        self._checker.subjects[instrument] = Subject(market, plan.depth, not plan.depth > 10)
        for collector in COLLECTORS:
            name = f"{collector}/{plan.name}"
            self.paths[name] = FaultyLine(world, name, self._plan.latencies_ns[name], self._plan.jitter_ns)

    def start(self) -> None:
        """Start all actors, a moment after each other."""
        for place, name in enumerate(ACTORS):
            self._world.after(place * 3 * MILLISECOND, self._start, name)

    def _start(self, name: str) -> None:
        actor = self._make(name)
        self.network.actors[name] = actor
        self._world.note(name, "starts")
        actor.start()

    def _make(self, name: str) -> Actor:
        if name in COLLECTORS:
            return self._collector(name)
        self._checker.restarted(name)
        if name in DEDUPS:
            return self._dedup(name)
        return self._recorder(name) if name == RECORDER else self._strategy(name)

    def _collector(self, name: str) -> SimCollector:
        collector = SimCollector(name, self._world, self.network, self._links, self._checker.witness)
        for venue in self.venues.values():
            collector.add_line(self.paths[f"{name}/{venue.name}"], venue, _machine(venue))
        return collector

    def _dedup(self, name: str) -> SimDedup:
        watch = ArbiterWatch(name, self._checker.fail, Sees())
        watch.liars = self._checker.lies.liars
        arbiter = WatchedArbiter(name, msgspec.structs.replace(self._arbiters, guard=True), watch)
        dedup = SimDedup(name, self._world, self.network, list(COLLECTORS), self._links, arbiter)
        dedup.on_image = self._checker.live
        return dedup

    def _strategy(self, name: str) -> SimStrategy:
        policy = self._plan.policy if name == OTHER else Policy.SKIP
        strategy = SimStrategy(name, self._world, self.network, list(DEDUPS), self._checker.fail, policy)
        strategy.on_live = self._checker.live
        strategy.watch.on_gap = partial(self._checker.told_gap, name)
        strategy.slow_ns = self._slow_ns.get(name, 0)
        return strategy

    def _recorder(self, name: str) -> SimRecorder:
        arbiter, fail = Arbiter(name, simulated_rule, self._arbiters), self._checker.fail
        recorder = SimRecorder(name, self._world, self.network, list(DEDUPS), arbiter, self.disk, fail)
        recorder.watch.on_gap = partial(self._checker.told_gap, name)
        return recorder

    def _restart_later(self, name: str) -> None:
        down_ns = self.down_ns.pop(name, 0)
        self._world.after(RESTART_NS + down_ns, self._start, name)

    # What faults do.

    def pause(self, name: str, duration_ns: Nanos) -> None:
        """Stop an actor for a while."""
        actor = self.network.actors.get(name)
        if actor is not None:
            actor.work(duration_ns)

    def cut(self, line: str) -> None:
        """Cut the connection of a line."""
        actor = self.network.actors.get(line.partition("/")[0])
        if isinstance(actor, SimCollector):
            actor.lines[line].break_connection()

    def trouble(self, kind: str, target: str, amount_ns: Nanos) -> None:
        """Make the disk slow or full or a strategy slow; 0 ends it."""
        match kind:
            case "slow_disk":
                self.disk.slow_ns = amount_ns
            case "full_disk":
                self.disk.is_full = amount_ns > 0
            case _:
                self._slow_ns[target] = amount_ns
                actor = self.network.actors.get(target)
                if isinstance(actor, SimStrategy):
                    actor.slow_ns = amount_ns

    # What is seen from outside.

    def each(self, look: Callable[[Actor], None]) -> None:
        """Look at every living actor."""
        for name in ACTORS:
            actor = self.network.actors.get(name)
            if actor is not None:
                look(actor)

    def is_live(self) -> bool:
        """Tell whether everybody lives and every book can be used."""
        actors = self.network.actors
        if len(actors) < len(ACTORS):
            return False
        instruments = [venue.instrument for venue in self.venues.values()]
        dedups = [actors[name] for name in DEDUPS]
        return all(strategy.is_live(instruments) for strategy in self.strategies()) and all(
            isinstance(dedup, SimDedup) and dedup.is_live(name) for dedup in dedups for name in instruments
        )

    def _is_believed(self, instrument: str, line: str) -> bool:
        """Tell whether any dedup takes what the line says."""
        dedups = [self.network.actors.get(name) for name in DEDUPS]
        return not all(isinstance(dedup, SimDedup) and dedup.has_demoted(instrument, line) for dedup in dedups)

    def behind(self) -> list[str]:
        """Name the strategies of which a book with the venue's own ids is not at the venue's last state."""
        return [
            strategy.name
            for strategy in self.strategies()
            for venue in self.venues.values()
            if simulated_rule(venue.instrument, Channel.BOOK).rule in CHAINED
            and strategy.engine.books[venue.instrument].id_last != venue.market.id_last
        ]

    def strategies(self) -> list[SimStrategy]:
        """Give the strategies that live and whose links have not ended for good."""
        actors = self.network.actors.values()
        return [actor for actor in actors if isinstance(actor, SimStrategy) and not actor.is_closed()]


def _machine(venue: SimVenue) -> VenueMachine:
    channels = (Channel.BOOK,) if venue.name == NEWEST_VENUE else (Channel.BOOK, Channel.TRADES)
    subscriptions = (Subscription(venue.symbol, channels),)
    if venue.name == NEWEST_VENUE:
        return NewestMachine(venue.name, Endpoint(url="sim", subscriptions=subscriptions))
    spec = find_venue(venue.name)
    return spec.machine(venue.name, spec.machine.endpoints("sim", "sim", subscriptions)[0])


PROGRESS_NS = 90 * SECOND
"""Within this time after the last fault every book must be LIVE again."""
