from __future__ import annotations

from typing import Any

import pytest

from raytrade.actors.collector import CollectorPlan
from raytrade.actors.options import Code, environment_of
from raytrade.errors import ConfigError
from raytrade.pipeline.driver import unlinked_of
from raytrade.pipeline.planning import Standing, plan_what_fits
from raytrade.pipeline.upgrading import agreed, rounds
from tests.unit.pipeline.nodes import config, node

NEXT = Code("2.0", 7, "/opt/next")


def test_domains_are_taken_one_after_the_other() -> None:
    nodes = [node(2, "b"), node(0, "a"), node(1, "b"), node(3, "c")]
    used = {one.node_id for one in nodes[:3]}
    assert rounds("zone", nodes, used) == [
        ("zone a", [nodes[1].node_id]),
        ("zone b", [nodes[2].node_id, nodes[0].node_id]),
    ]
    assert [name for name, _ in rounds("", nodes, used)] == ["node host-0", "node host-1", "node host-2"]


def test_code_that_all_nodes_have_is_agreed_on() -> None:
    assert agreed({"a": NEXT, "b": NEXT}, "/opt/next", 7) == NEXT
    assert agreed({"a": NEXT, "b": Code("2.0", 7, "/usr")}, "", 7) == NEXT


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (Code("1.0", 7, "/usr/lib"), "--code /opt/next: not on node b: it would run /usr/lib"),
        (Code("2.0", 8, "/opt/next"), "its messages have schema 8, those of the pipeline 7"),
        (Code("2.1", 7, "/opt/next"), "is not the same on all nodes (a: 2.0, b: 2.1)"),
    ],
)
def test_code_that_cannot_be_is_refused(other: Code, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        agreed({"a": NEXT, "b": other}, "/opt/next", 7)
    assert problem in str(refused.value)


def test_a_collector_of_the_next_generation_has_lines_of_its_own() -> None:
    nodes = [node(0), node(1)]
    before = {p.base: p for p in plan_what_fits(config(), nodes).placements if isinstance(p.plan, CollectorPlan)}
    old, other = sorted(before)
    after = {p.base: p for p in plan_what_fits(config(), nodes, Standing(generations={old: 2})).placements}
    plan = after[old].plan
    assert isinstance(plan, CollectorPlan)
    assert plan.name == f"{old}~2" and all(line.name.startswith(f"{old}~2/") for line in plan.lines)
    assert plan.budgets == before[old].plan.budgets  # type: ignore[union-attr]
    assert (after[old].node, after[other]) == (before[old].node, before[other])


def test_code_beside_the_installed_one_comes_first() -> None:
    assert environment_of("") == {}
    assert environment_of("/opt/next") == {"env_vars": {"PYTHONPATH": "/opt/next:${PYTHONPATH}"}}


def test_who_does_not_hear_everybody_is_named() -> None:
    actors: dict[str, dict[str, Any]] = {
        "c1": {"role": "collector"},
        "c2": {"role": "collector"},
        "d": {"role": "dedup", "up": ["c1"]},
        "s": {"role": "strategy", "up": ["d"]},
        "r": {"state": "no answer"},
    }
    roles = ("dedup", "strategy", "recorder")
    assert unlinked_of(actors, roles) == {"d": "does not hear c2 yet"}
    assert unlinked_of(actors, ("strategy",)) == {}
    tier: dict[str, dict[str, Any]] = {
        "t1": {"role": "regional", "up": ["c1"]},
        "t2": {"role": "regional", "up": ["c2"]},
    }
    assert unlinked_of(actors | tier, roles) == {"d": "does not hear t1, t2 yet"}
    assert unlinked_of(actors | tier | {"d": {"role": "dedup", "up": ["t2", "t1"]}}, roles) == {}
