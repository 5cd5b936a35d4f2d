"""Recorders are each other's spares: one node must not carry both where there are two."""

from __future__ import annotations

from hashlib import sha1
from itertools import combinations

import pytest

from raytrade.config import Config, check_config
from raytrade.pipeline.planning import Node, Standing, plan_what_fits

NODES = [Node(sha1(f"node{number}".encode()).hexdigest(), {"recorder": "yes"}) for number in range(4)]


def config(names: list[str]) -> Config:
    recorders = [{"name": name, "directory": f"/data/{name}", "labels": {"recorder": "yes"}} for name in names]
    return check_config({"venues": {"binance-spot": {"symbols": ["BTCUSDT"]}}, "recorders": recorders}, "test")


def homes(names: list[str], nodes: list[Node], held: dict[str, str]) -> dict[str, str]:
    plan = plan_what_fits(config(names), nodes, Standing(held))
    assert plan.problems == []
    return {p.plan.name: p.node.node_id for p in plan.placements if "-recorder-" in p.plan.name}


@pytest.mark.parametrize("names", [list(pair) for pair in combinations("abcdefgh", 2)], ids="".join)
def test_two_recorders_have_two_nodes(names: list[str]) -> None:
    assert len(set(homes(names, NODES, {}).values())) == 2


def test_the_one_that_runs_stays_and_the_other_avoids_it() -> None:
    for node in NODES:
        found = homes(["a", "b"], NODES, {"raytrade-recorder-b": node.node_id})
        assert found["raytrade-recorder-b"] == node.node_id
        assert found["raytrade-recorder-a"] != node.node_id


def test_with_one_node_they_share_it() -> None:
    assert set(homes(["a", "b"], NODES[:1], {}).values()) == {NODES[0].node_id}
