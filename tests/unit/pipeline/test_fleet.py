"""The fleet over actors that only pretend: in which order things are started, told and ended."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raytrade.actors.collector import CollectorPlan, CollectorWork, Held
from raytrade.actors.dedup import DedupPlan
from raytrade.config import Config
from raytrade.core.clock import SECOND
from raytrade.pipeline import fleet as fleets
from raytrade.pipeline.fleet import Fleet
from raytrade.pipeline.planning import Node, Placement, Standing, plan_what_fits
from tests.unit.pipeline.nodes import config, node

NODES = [node(number) for number in range(3)]


class Method:
    """What `handle.method` gives: called by `remote`, or collected by `ask_all`."""

    def __init__(self, actor: Actor, name: str) -> None:
        self.actor, self.name = actor, name

    def remote(self, *arguments: Any) -> Any:
        return getattr(self.actor, f"do_{self.name}")(*arguments)


class Actor:
    """An actor of any role. `serves`: its lines deliver, its links are up."""

    def __init__(self, plan: Any, world: dict[str, Actor]) -> None:
        self.plan, self.world, self.serves = plan, world, False
        self.lines = list(plan.lines) if isinstance(plan, CollectorPlan) else []
        self.writers = list(getattr(plan, "collectors", None) or getattr(plan, "dedups", []))
        self.is_stopped = False
        self.taken_over: list[bytes] = []

    def __getattr__(self, name: str) -> Method:
        return Method(self, name)

    def do_held(self) -> bytes:
        return msgspec.msgpack.encode([Held(line, self.serves) for line in self.lines])

    def do_run_lines(self, work: bytes) -> None:
        self.lines = msgspec.msgpack.decode(work, type=CollectorWork).lines

    def do_set_collectors(self, names: list[str]) -> None:
        self.writers = names

    do_set_dedups = do_set_collectors

    def do_set_regions(self, regions: dict[str, str]) -> None:
        self.writers = list(regions)

    def do_is_drained(self) -> bool:
        return True

    def do_stop(self) -> None:
        self.is_stopped = True

    def do_hand_over(self) -> bytes:
        return bytes(self.plan.name, "ascii")

    def do_take_over(self, data: bytes) -> None:
        self.taken_over.append(data)

    def do_set_gateway(self, name: str) -> None:
        self.gateway = name

    def do_readiness(self) -> dict[str, list[str]]:
        if not self.serves:
            return {"up": [], "live": [], "lines": []}
        up = [name for name in self.writers if name in self.world and self.world[name].serves]
        heard = [*up, *(writer for name in up for writer in self.world[name].writers if writer in self.world)]
        lines = [line.name for name in heard for line in self.world[name].lines]
        return {"up": up, "live": ["S0USDT"], "lines": lines}


class World:
    """A fleet over pretended actors, brought to what a configuration wants step by step."""

    def __init__(self, wanted: Config) -> None:
        self.actors: dict[str, Actor] = {}
        self.wanted = wanted
        self.fleet = Fleet("test")
        self.generations: dict[str, int] = {}
        self.drained: set[str] = set()
        self.now_ns = 0

    def create(self, plan: Any, labels: dict[str, str], code_folder: str) -> Actor:
        actor = self.actors[plan.name] = Actor(plan, self.actors)
        return actor

    def kill(self, handle: Actor) -> None:
        del self.actors[handle.plan.name]

    def step(self, serve: bool = True, nodes: list[Node] = NODES) -> list[Placement]:
        """Reconcile once; then, if so, whoever was started works."""
        self.now_ns += SECOND
        homes = {name: running.node_id for name, running in self.fleet.actors.items()}
        standing = Standing(homes, self.generations, frozenset(self.drained))
        placements = plan_what_fits(self.wanted, nodes, standing).placements
        for placement in placements:
            if placement.plan.name not in self.fleet.actors and not self.fleet.must_wait(placement, nodes):
                self.fleet.start(placement)
        self.fleet.steer(placements, nodes, self.now_ns)
        for actor in self.actors.values():
            actor.serves = actor.serves or serve
        return placements

    def settle(self) -> None:
        for _ in range(8):
            self.step()

    def lines(self) -> dict[str, list[str]]:
        """Give what really runs."""
        return {name: [line.name for line in actor.lines] for name, actor in self.actors.items() if actor.lines}

    def names(self, kind: str) -> list[str]:
        return sorted(name for name in self.actors if f"-{kind}-" in name)


def patched(made: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Have the fleet start, ask and end pretended actors."""
    monkeypatch.setattr(fleets, "create", made.create)
    monkeypatch.setattr("ray.kill", made.kill)
    monkeypatch.setattr(fleets, "ask", lambda handle, method, timeout_s=0: getattr(handle, method).remote())
    monkeypatch.setattr(fleets, "ask_all", lambda methods: {name: one.remote() for name, one in methods.items()})
    return made


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return patched(World(config(2, dedup={"replicas": 2})), monkeypatch)


def test_a_drained_collector_ends_when_others_serve(world: World) -> None:
    world.settle()
    old = world.lines()
    assert len(old) == 2 and world.fleet.waiting == {}
    gone = next(name for name in old)
    world.drained = {world.fleet.actors[gone].node_id}
    world.step(serve=False)
    assert gone in world.lines() and len(world.lines()) == 3
    assert "its lines run until others are up" in world.fleet.waiting[gone]
    world.step(serve=False)
    assert gone in world.actors, "the new line is not served yet"
    world.settle()
    assert gone not in world.actors and len(world.lines()) == 2
    assert world.fleet.waiting == {}
    assert all(sorted(world.actors[name].writers) == sorted(world.lines()) for name in world.names("dedup"))


def test_a_collector_that_is_wanted_again_gets_its_lines_back(world: World) -> None:
    world.settle()
    before = world.lines()
    gone = next(iter(before))
    world.drained = {world.fleet.actors[gone].node_id}
    world.settle()
    world.drained = set()
    world.settle()
    assert world.lines() == before


def test_a_symbol_more_runs_beside_until_it_is_served_everywhere(world: World) -> None:
    world.settle()
    before = world.lines()
    world.wanted, world.generations = config(2, 5, dedup={"replicas": 2}), {"binance-spot": 2}
    for actor in world.actors.values():
        actor.serves = False
    world.step(serve=False)
    assert all(len(names) == 2 for names in world.lines().values())
    world.settle()
    assert world.lines() == {name: [f"{line}~2" for line in lines] for name, lines in before.items()}
    world.wanted, world.generations = config(2, dedup={"replicas": 2}), {}
    world.settle()
    assert world.lines() == before, "also back to what they were started with"


def test_a_dedup_moves_when_its_successor_has_everything(world: World) -> None:
    world.settle()
    old = "test-dedup-0-a"
    readers = [*world.names("strategy"), *world.names("recorder")]
    world.generations = {old: 2}
    world.step(serve=False)
    assert old in world.actors and f"{old}~2" in world.actors
    assert all(f"{old}~2" in world.actors[name].writers and old in world.actors[name].writers for name in readers)
    world.step(serve=False)
    assert "can take its place" in world.fleet.waiting[old]
    world.settle()
    assert old not in world.actors
    assert all(world.actors[name].writers == ["test-dedup-0-a~2", "test-dedup-0-b"] for name in readers)


def test_a_shard_more_runs_beside_the_old_dedups_until_all_shards_have_everything(world: World) -> None:
    world.settle()
    old, readers = ["test-dedup-0-a", "test-dedup-0-b"], [*world.names("strategy"), *world.names("recorder")]
    assert world.names("dedup") == old
    world.wanted, world.generations = config(2, dedup={"replicas": 2, "shards": 2}), dict.fromkeys(old, 2)
    world.step(serve=False)
    new = ["test-dedup-0-a~2", "test-dedup-0-b~2", "test-dedup-1-a", "test-dedup-1-b"]
    assert world.names("dedup") == sorted([*old, *new])
    late = world.actors["test-dedup-1-b"]
    for _ in range(4):
        world.step(serve=True)
        late.serves = False
    assert world.names("dedup") == sorted(["test-dedup-0-b", *new]), "replica b waits for its last shard"
    assert all(sorted([old[1], *new]) == sorted(world.actors[name].writers) for name in readers)
    world.settle()
    assert world.names("dedup") == new and world.fleet.waiting == {}
    world.wanted, world.generations = config(2, dedup={"replicas": 2}), dict.fromkeys(old, 3)
    world.step(serve=False)
    assert set(new) < set(world.names("dedup")), "nor do shards end before what takes their place is there"
    world.settle()
    assert world.names("dedup") == ["test-dedup-0-a~3", "test-dedup-0-b~3"]


def test_a_recorder_ends_before_its_successor_writes_into_the_same_directory(world: World) -> None:
    world.settle()
    (old,) = world.names("recorder")
    handle = world.actors[old]
    world.generations = {old: 2}
    world.step()
    assert handle.is_stopped and world.names("recorder") == []
    world.step()
    assert world.names("recorder") == [f"{old}~2"]


def test_a_strategy_hands_over_when_its_successor_is_live_and_one_removed_is_stopped_at_once(world: World) -> None:
    world.settle()
    (old,) = world.names("strategy")
    handle = world.actors[old]
    world.generations = {old: 2}
    world.step(serve=False)
    world.step(serve=False)
    assert old in world.names("strategy")
    assert world.actors[f"{old}~2"].plan.is_late and not world.actors[f"{old}~2"].taken_over
    world.settle()
    assert not handle.is_stopped and world.names("strategy") == [f"{old}~2"]
    moved = world.actors[f"{old}~2"]
    assert moved.taken_over[0] == old.encode() and not any(moved.taken_over[1:])
    world.wanted = config(2, strategies=[])
    world.settle()
    assert world.names("strategy") == [] and moved.is_stopped


def test_a_changed_strategy_is_stopped_and_the_new_one_begins_anew(world: World) -> None:
    world.settle()
    (old,) = world.names("strategy")
    handle = world.actors[old]
    (part,) = world.wanted.strategies
    world.wanted = config(2, strategies=[part.model_copy(update={"params": {"limit": 2}}).model_dump()])
    world.generations = {old: 2}
    world.settle()
    assert handle.is_stopped and world.names("strategy") == [f"{old}~2"]
    assert not any(world.actors[f"{old}~2"].taken_over)


def test_a_gateway_ends_before_the_one_in_its_place_begins_with_what_it_had(world: World) -> None:
    (part,) = world.wanted.strategies
    world.wanted = config(2, strategies=[part.model_copy(update={"standby": True}).model_dump()])
    world.settle()
    first, second = world.names("strategy")
    (old,) = world.names("gateway")
    assert len({world.fleet.actors[name].node_id for name in (first, second, old)}) == 3
    assert {world.actors[name].plan.gateway for name in (first, second)} == {old}
    world.generations = {old: 2}
    world.step()
    assert world.names("gateway") == []
    world.settle()
    (new,) = world.names("gateway")
    assert world.actors[new].taken_over == [old.encode()]
    assert {world.actors[name].gateway for name in (first, second)} == {new}


def test_what_a_dead_node_had_is_dropped_and_runs_elsewhere(world: World) -> None:
    world.settle()
    gone = next(iter(world.lines()))
    dead = world.fleet.actors[gone].node_id
    left = [one for one in NODES if one.node_id != dead]
    for name in [
        name for name, running in world.fleet.actors.items() if running.node_id == dead and "dedup" not in name
    ]:
        world.actors[name].serves = False
    for _ in range(8):
        world.step(nodes=left)
    assert gone not in world.lines() and len(world.lines()) == 2


def test_an_actor_that_was_started_anew_is_told_again(world: World) -> None:
    world.settle()
    gone = next(iter(world.lines()))
    world.drained = {world.fleet.actors[gone].node_id}
    world.settle()
    dedup = world.actors["test-dedup-0-b"]
    assert isinstance(dedup.plan, DedupPlan)
    right = sorted(dedup.writers)
    dedup.writers = dedup.plan.collectors
    assert sorted(dedup.writers) != right
    for _ in range(4):
        world.step()
    assert sorted(dedup.writers) == right
