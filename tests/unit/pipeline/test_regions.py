"""A tier of dedups in each region: who is placed where, and who is told to hear whom."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raytrade.actors.dedup import DedupPlan
from raytrade.actors.global_dedup import GlobalDedupPlan
from raytrade.config import Config, load_config
from raytrade.core.clock import SECOND
from raytrade.pipeline.planning import Node, Plan, plan_what_fits
from tests.unit.pipeline.nodes import config, node
from tests.unit.pipeline.test_fleet import World, patched

NODES = [
    node(0, region="tokyo"),
    node(1, region="tokyo"),
    node(2, region="zurich"),
    node(3, region="frankfurt", dedup="yes"),
    node(4, region="frankfurt", dedup="yes"),
]
for one in NODES[3:]:
    one.labels.pop("collector")


def tiered(**regional: object) -> Config:
    return config(dedup={"labels": {"dedup": "yes"}, "regional": regional})


def plans(plan: Plan) -> dict[str, DedupPlan]:
    return {p.plan.name: p.plan for p in plan.placements if isinstance(p.plan, DedupPlan)}


def test_each_region_of_the_collectors_has_its_dedups() -> None:
    plan = plan_what_fits(tiered(primary="tokyo"), NODES)
    homes = {placement.plan.name: placement.node.labels["region"] for placement in plan.placements}
    found = plans(plan)
    regional = [f"test-regional-{region}-0-{replica}" for region in ("tokyo", "zurich") for replica in "ab"]
    assert [*found] == [*regional, "test-dedup-0-a", "test-dedup-0-b"]
    for name in regional:
        assert homes[name] == found[name].region and found[name].collectors
        assert {homes[collector] for collector in found[name].collectors} == {found[name].region}
    merged = found["test-dedup-0-a"]
    assert isinstance(merged, GlobalDedupPlan) and merged.arbiter.passed_ns >= SECOND, "time to ask across an ocean"
    assert merged.primary == "tokyo" and merged.region_label == "region"
    assert merged.regions == {name: found[name].region for name in regional} and merged.collectors == regional
    assert (plan.problems, plan.degraded) == ([], [])


@pytest.mark.parametrize(
    ("regional", "problem"),
    [
        ({"label": "country"}, "dedup.regional.label: a collector's node has no label country, so it is in no region"),
        ({"primary": "oslo"}, "dedup.regional.primary: there are no collectors in oslo, only in: tokyo, zurich"),
        ({"labels": {"big": "yes"}}, "dedup.regional.labels (tokyo): no node has the labels big=yes, region=tokyo"),
    ],
)
def test_a_tier_that_cannot_be_is_named(regional: dict[str, object], problem: str) -> None:
    problems = plan_what_fits(tiered(**regional), NODES).problems
    assert str(problems[0]).startswith(problem)


def test_everybody_is_told_whom_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    world = patched(World(tiered()), monkeypatch)
    for _ in range(6):
        world.step(nodes=NODES)
    upstreams = {name: world.fleet.upstreams_of(name) for name in world.actors}
    tokyo = [
        name
        for name in world.names("collector")
        if world.fleet.actors[name].node_id in (NODES[0].node_id, NODES[1].node_id)
    ]
    assert len(tokyo) == 2 and upstreams["test-regional-tokyo-0-a"] == tokyo
    assert len(upstreams["test-regional-zurich-0-b"]) == 1
    assert upstreams["test-dedup-0-a"] == world.names("regional") and len(world.names("regional")) == 4
    assert upstreams["test-strategy-watch"] == ["test-dedup-0-a", "test-dedup-0-b"]


def test_a_regional_dedup_moves_when_every_global_one_hears_its_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    world = patched(World(tiered()), monkeypatch)
    for _ in range(6):
        world.step(nodes=NODES)
    old = "test-regional-tokyo-0-a"
    world.generations = {old: 2}
    world.step(serve=False, nodes=NODES)
    assert {old, f"{old}~2"} < set(world.fleet.upstreams_of("test-dedup-0-b"))
    assert {old, f"{old}~2"} < set(world.actors["test-dedup-0-b"].writers)
    world.step(serve=False, nodes=NODES)
    assert "can take its place" in world.fleet.waiting[old]
    for _ in range(4):
        world.step(nodes=NODES)
    assert old not in world.actors and world.fleet.waiting == {}
    assert f"{old}~2" in world.actors["test-dedup-0-b"].writers


def test_the_example_fits_its_cluster() -> None:
    root = Path(__file__).parents[3] / "examples"
    found = yaml.safe_load((root / "clusters/machines.yaml").read_text())
    kinds = found["available_node_types"]
    nodes = [
        Node(name, kind["labels"], name) for name, kind in kinds.items() for _ in range(kind.get("min_workers", 0))
    ]
    plan = plan_what_fits(load_config(root / "regions.yaml"), nodes)
    assert plan.problems == []
    assert {p.region for p in plans(plan).values() if p.region} == {"frankfurt", "zurich"}
