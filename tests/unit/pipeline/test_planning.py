from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.actors.collector import CollectorPlan, LinePlan
from raytrade.actors.strategy import StrategyPlan
from raytrade.config import Config
from raytrade.errors import ConfigError
from raytrade.pipeline.planning import Node, Plan, Standing, plan_pipeline, plan_what_fits
from tests.unit.pipeline.nodes import config, node

ZONES = ("a", "b", "c")
SIX = [node(number, ZONES[number % 3]) for number in range(6)]


def collectors(plan: Plan) -> dict[str, CollectorPlan]:
    """Give the collectors by the id of their node."""
    return {p.node.node_id: p.plan for p in plan.placements if isinstance(p.plan, CollectorPlan)}


def owners(plan: Plan) -> dict[str, set[str]]:
    """Give the nodes that run each symbol."""
    found: dict[str, set[str]] = {}
    for name, part in collectors(plan).items():
        for line in part.lines:
            for one in line.endpoint.subscriptions:
                found.setdefault(one.symbol, set()).add(name)
    return found


def test_by_default_every_collector_runs_every_line() -> None:
    plan = plan_what_fits(config(), SIX)
    assert {name: len(nodes) for name, nodes in owners(plan).items()} == dict.fromkeys(owners(plan), 6)
    assert (plan.problems, plan.degraded) == ([], [])


def test_each_symbol_runs_so_often_and_in_different_zones() -> None:
    wanted = config(2, 40, failure_domain="zone", venue={"shares": 12})
    zones = {one.node_id: one.labels["zone"] for one in SIX}
    found = owners(plan_what_fits(wanted, SIX))
    assert len(found) == 40
    for nodes in found.values():
        assert len({zones[name] for name in nodes}) == len(nodes) == 2
    assert len(set.union(*found.values())) > 3, "the shares spread over the nodes"


def test_a_collector_without_lines_is_not_started() -> None:
    assert len(collectors(plan_what_fits(config(2), SIX))) == 2


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.integers(1, 3))
def test_a_node_that_goes_moves_only_its_share(gone: int, redundancy: int) -> None:
    wanted = config(redundancy, 30, failure_domain="zone", venue={"shares": 10})
    before, after = owners(plan_what_fits(wanted, SIX)), owners(plan_what_fits(wanted, [*SIX[:gone], *SIX[gone + 1 :]]))
    for symbol, nodes in before.items():
        kept = nodes - {SIX[gone].node_id}
        assert kept <= after[symbol]
        assert after[symbol] == nodes or SIX[gone].node_id in nodes


@settings(deadline=None, max_examples=25)
@given(st.permutations(SIX))
def test_the_order_of_the_nodes_does_not_matter(nodes: list[Node]) -> None:
    wanted = config(2, 10, failure_domain="zone", venue={"shares": 4})
    assert msgspec.json.encode(plan_what_fits(wanted, nodes).placements) == msgspec.json.encode(
        plan_what_fits(wanted, SIX).placements
    )


def test_too_few_domains_are_refused_or_allowed_and_shown() -> None:
    wanted = config(3, failure_domain="zone")
    there = [node(1, "a"), node(2, "a"), node(3, "b")]
    with pytest.raises(ConfigError) as refused:
        plan_pipeline(wanted, there)
    assert str(refused.value) == (
        "venues.binance-spot.redundancy: 3 copies wanted in different failure domains (label zone), there are only "
        "2: a, b; see --allow-degraded"
    )
    plan = plan_what_fits(wanted, there)
    assert len(collectors(plan)) == 3, "better three copies in two zones than two"
    assert [problem.key for problem in plan.degraded] == ["venues.binance-spot.redundancy"]
    assert plan_pipeline(wanted, there, allow_degraded=True) == plan.placements


def test_nodes_without_the_label_are_one_domain_and_without_a_label_each_node_is_one() -> None:
    there = [node(1, "a"), node(2), node(3)]
    assert len(plan_what_fits(config(3, failure_domain="zone"), there).degraded) == 1
    assert plan_what_fits(config(2, failure_domain="zone"), there).degraded == []
    assert plan_what_fits(config(3), there).degraded == []
    assert "3 copies wanted in different nodes, there are only 2; see" in str(
        plan_what_fits(config(3), there[:2]).degraded[0]
    )


def test_dedup_replicas_are_apart_where_domains_are_named() -> None:
    wanted = config(failure_domain="zone")
    zones = {p.node.labels["zone"] for p in plan_what_fits(wanted, SIX).placements if "-dedup-" in p.base}
    assert len(zones) == 2
    assert [p.key for p in plan_what_fits(wanted, [node(1, "a"), node(2, "a")]).degraded] == ["dedup.replicas"]


def test_a_strategy_its_standby_and_their_gateway_are_apart() -> None:
    part = {"name": "maker", "strategy": "raytrade.demo.watch:SpreadWatch", "standby": True, "state": "/var/lib/x"}
    wanted = config(failure_domain="zone", strategies=[part])
    plan = plan_what_fits(wanted, SIX)
    mine = {p.base: p for p in plan.placements if "maker" in p.base}
    assert sorted(mine) == ["test-gateway-maker", "test-strategy-maker", "test-strategy-maker-standby"]
    assert {p.node.labels["zone"] for p in mine.values()} == set(ZONES)
    gateways = {p.plan.gateway for p in mine.values() if isinstance(p.plan, StrategyPlan)}
    assert gateways == {"test-gateway-maker"}
    one_zone = plan_what_fits(wanted, [node(1, "a"), node(2, "a")])
    assert "strategies.maker.standby" in [p.key for p in one_zone.degraded]
    moved = plan_what_fits(wanted, SIX, Standing(generations={"test-gateway-maker": 2}))
    assert {p.plan.gateway for p in moved.placements if isinstance(p.plan, StrategyPlan)} == {"test-gateway-maker~2"}


def test_what_finds_no_node_is_named() -> None:
    wanted = config(dedup={"labels": {"dedup": "yes"}})
    problems = plan_what_fits(wanted, [node(1, "a")]).problems
    assert [str(problem) for problem in problems] == [
        "dedup.labels: no node has the labels dedup=yes (nodes: collector=yes, zone=a)"
    ]


def test_a_drained_node_gets_nothing() -> None:
    wanted = config(2, 20, venue={"shares": 8})
    gone = SIX[2].node_id
    plan = plan_what_fits(wanted, SIX, Standing(drained=frozenset({gone})))
    assert gone not in {placement.node.node_id for placement in plan.placements}
    assert {len(nodes) for nodes in owners(plan).values()} == {2}


def test_what_was_replaced_has_another_name_and_stays_where_it_is() -> None:
    standing = Standing({"test-dedup-0-a~2": SIX[4].node_id}, {"test-dedup-0-a": 2, "binance-spot": 3})
    plan = plan_what_fits(config(), SIX, standing)
    homes = {placement.plan.name: placement.node for placement in plan.placements}
    assert homes["test-dedup-0-a~2"] is SIX[4]
    assert homes["test-dedup-0-b"] is not SIX[4]
    assert all(line.name.endswith("/binance-spot~3") for part in collectors(plan).values() for line in part.lines)
    consumers = [placement.plan for placement in plan.placements if hasattr(placement.plan, "dedups")]
    assert [part.dedups for part in consumers] == [["test-dedup-0-a~2", "test-dedup-0-b"]] * 2


def slots(wanted: Config, nodes: list[Node]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in collectors(plan_what_fits(wanted, nodes)).values():
        for line in part.lines:
            found.setdefault(line.name.partition("/")[2], []).append(line.slot)
    return found


def test_copies_of_a_line_have_different_slots_of_the_rotation() -> None:
    many = [node(number, "abc"[number % 3]) for number in range(20)]
    for mine in slots(config(venue={"shares": 3}, symbols=12), many).values():
        assert len(set(mine)) == len(mine) == 20


def test_collectors_together_never_get_more_than_the_venues_budget() -> None:
    for count in (1, 2, 5, 12, 13, 30):
        parts = collectors(plan_what_fits(config(), [node(number) for number in range(count)])).values()
        granted = [part.budgets["binance-spot"] for part in parts]
        assert all(budget.weight_max >= 250 for budget in granted)
        for turn in range(max(budget.turns for budget in granted)):
            together = sum(budget.weight_max for budget in granted if budget.turn == turn)
            assert 0 < together <= 3000


def test_per_node_collectors_share_what_falls_to_the_node() -> None:
    wanted = config(1, 60, collectors={"labels": {"collector": "yes"}, "per_node": 2}, venue={"shares": 20})
    names = [line for part in plan_what_fits(wanted, SIX[:1]).placements for line in lines_of(part.plan)]
    assert len(names) == len({line.name for line in names}) == 20
    assert len({line.name.partition("/")[0] for line in names}) == 2


def lines_of(plan: object) -> list[LinePlan]:
    return plan.lines if isinstance(plan, CollectorPlan) else []
