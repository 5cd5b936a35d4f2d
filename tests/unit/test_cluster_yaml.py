"""The cluster file against Ray's own schema, and its labels against the example pipeline's selectors."""

from __future__ import annotations

import json
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raytrade.config import Config, load_config
from raytrade.pipeline.head import HEALTH, head_environment, node_environment
from raytrade.pipeline.planning import Node, plan_pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


@pytest.fixture(scope="module")
def pipeline() -> Config:
    return load_config(ROOT / "examples" / "pipeline.yaml")


def test_the_cluster_file_is_valid_for_ray_up(cluster: dict[str, Any]) -> None:
    package = find_spec("ray")
    assert package is not None and package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)


def test_every_actor_of_the_example_finds_its_node(cluster: dict[str, Any], pipeline: Config) -> None:
    nodes = [
        Node(sha1(f"{name}{number}".encode()).hexdigest(), {**kind["labels"], "kind": name})
        for name, kind in cluster["available_node_types"].items()
        for number in range(kind.get("min_workers", 1))
    ]
    placements = plan_pipeline(pipeline, nodes)
    homes = {placement.plan.name: placement.node.labels["kind"] for placement in placements}
    assert sum("-collector-" in name for name in homes) == 2
    dedups = [node for name, node in homes.items() if "-dedup-" in name]
    assert len(set(dedups)) == 2
    assert "head" not in homes.values()


def test_workers_run_at_normal_priority_and_with_a_token(cluster: dict[str, Any]) -> None:
    commands = " ".join(cluster["setup_commands"])
    assert "RAY_worker_niceness=0" in commands
    assert "RAY_AUTH_MODE=token" in commands
    assert any("auth_token" in target for target in cluster["file_mounts"])


def test_the_head_may_die(cluster: dict[str, Any], tmp_path: Path) -> None:
    everywhere = " ".join(cluster["setup_commands"])
    assert all(f"{name}={value}" in everywhere for name, value in node_environment().items())
    head = cluster["head_start_ray_commands"][-1]
    assert all(f"{name}={value}" in head for name, value in HEALTH.items())
    assert all(f"{name}=" in head for name in head_environment(tmp_path) if name not in node_environment())
