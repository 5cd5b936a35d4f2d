"""`raytrade plan` on supposed nodes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Commands

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
failure_domain: zone
venues: {binance-spot: {symbols: [BTCUSDT, ETHUSDT], redundancy: 2}}
collectors: {labels: {collector: "yes"}}
dedup: {replicas: 1}
"""
NODES = """
- {name: one, labels: {collector: "yes", zone: a}}
- {name: two, labels: {collector: "yes", zone: a}}
- {name: three, labels: {collector: "yes", zone: b}}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    return path


def test_who_would_run_where_and_why(run: Commands, pipeline: Path, nodes: Path) -> None:
    outcome = run("plan", pipeline, "--nodes", nodes)
    assert (outcome.status, outcome.error) == (0, "")
    for text in ("three", "BTCUSDT, ETHUSDT", "2 copies by rank in different", "zones"):
        assert text in outcome.out


def test_as_json(run: Commands, pipeline: Path, nodes: Path) -> None:
    found = json.loads(run("plan", pipeline, "--nodes", nodes, "--json").out)
    homes = [actor["labels"]["zone"] for actor in found["actors"] if actor["lines"]]
    assert sorted(homes) == ["a", "b"]
    assert (found["problems"], found["degraded"]) == ([], [])


def test_the_example_on_its_cluster_file_and_on_any_number_of_nodes(run: Commands) -> None:
    example = ROOT / "examples" / "pipeline.yaml"
    for nodes in (ROOT / "cluster.yaml", 3):
        found = json.loads(run("plan", example, "--nodes", nodes, "--json").out)
        assert len([actor for actor in found["actors"] if actor["lines"]]) == (2 if nodes != 3 else 3)


def test_too_few_failure_domains(run: Commands, pipeline: Path, nodes: Path) -> None:
    nodes.write_text(NODES.replace("zone: b", "zone: a"))
    outcome = run("plan", pipeline, "--nodes", nodes)
    assert outcome.status == 2
    assert outcome.problem.endswith(
        "venues.binance-spot.redundancy: 2 copies wanted in different failure domains (label zone), there are only "
        "1: a; see --allow-degraded"
    )
    outcome = run("plan", pipeline, "--nodes", nodes, "--allow-degraded")
    assert (outcome.status, outcome.error) == (0, "")
    assert "degraded: venues.binance-spot.redundancy: 2 copies wanted" in outcome.out


def test_what_finds_no_node_is_named(run: Commands, pipeline: Path, nodes: Path) -> None:
    pipeline.write_text(PIPELINE.replace("dedup: {", "dedup: {labels: {dedup: here}, "))
    outcome = run("plan", pipeline, "--nodes", nodes)
    assert outcome.status == 2
    assert (
        "dedup.labels: no node has the labels dedup=here (nodes: collector=yes, zone=a; collector=yes"
        in outcome.problem
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redundancy: two", "venues.binance-spot.redundancy: must be all, or a number from 1 to 64"),
        ("redundancy: 0", "venues.binance-spot.redundancy: must be all, or a number from 1 to 64"),
        ("shares: 0", "venues.binance-spot.shares: input should be greater than or equal to 1"),
        ("weight_per_minute: 9", "venues.binance-spot: weight_per_minute: one book costs 250 of the venue's request"),
    ],
)
def test_a_wrong_pipeline(run: Commands, pipeline: Path, text: str, words: str) -> None:
    pipeline.write_text(PIPELINE.replace("redundancy: 2", text))
    outcome = run("plan", pipeline, "--nodes", 3)
    assert outcome.status == 2
    assert outcome.problem.startswith(f"raytrade: {pipeline}: {words}")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [("0", "--nodes: must be 1 to 1000"), ("none.yaml", "No such file"), ("{a: b}", "no list of nodes"), ("[", "YAML")],
)
def test_wrong_nodes(run: Commands, pipeline: Path, tmp_path: Path, nodes: str, words: str) -> None:
    if nodes[0] in "{[":
        (tmp_path / "wrong.yaml").write_text(nodes)
        nodes = str(tmp_path / "wrong.yaml")
    outcome = run("plan", pipeline, "--nodes", nodes)
    assert outcome.status == 2
    assert words in outcome.problem
