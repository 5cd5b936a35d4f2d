"""Every cluster file: Ray's own schema, its labels against the example's selectors, and what security asks of it."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from raytrade.cluster.pools import check_node_types, read_pools
from raytrade.config import Config, load_config
from raytrade.pipeline.head import HEALTH, head_environment, node_environment
from raytrade.pipeline.planning import Node, plan_pipeline

ROOT = Path(__file__).resolve().parents[3]
CLUSTERS = ROOT / "examples" / "clusters"
FILES = [ROOT / "cluster.yaml", CLUSTERS / "machines.yaml", CLUSTERS / "gcp.yaml"]
KUBERNETES = CLUSTERS / "kubernetes.yaml"
EVERY = [*FILES, KUBERNETES]
ENVIRONMENT = ("RAY_worker_niceness", "RAY_USAGE_STATS_ENABLED", "RAY_gcs_rpc_server_reconnect_timeout_s")


def kubernetes() -> dict[str, dict[str, Any]]:
    return {part["kind"]: part for part in yaml.safe_load_all(KUBERNETES.read_text())}


def cluster(path: Path) -> dict[str, Any]:
    """Give a cluster in the form that the autoscaler takes: KubeRay's is made into it by Ray itself."""
    if path == KUBERNETES:
        resource = kubernetes()["RayCluster"]
        return dict(_derive_autoscaling_config_from_ray_cr({**resource, "metadata": {"name": "x", "namespace": "y"}}))
    return dict(yaml.safe_load(path.read_text()))


@pytest.fixture(scope="module")
def pipeline() -> Config:
    return load_config(ROOT / "examples" / "pipeline.yaml")


def test_no_cluster_file_is_forgotten() -> None:
    assert {*EVERY} == {ROOT / "cluster.yaml", *CLUSTERS.glob("*.yaml")}


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_it_is_valid_for_ray(path: Path) -> None:
    package = find_spec("ray")
    assert package is not None and package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster(path), schema)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_every_actor_of_the_example_finds_its_node(path: Path, pipeline: Config) -> None:
    """With no more than the least number of workers; the head carries nothing of the pipeline."""
    found = cluster(path)
    nodes = [
        Node(sha1(f"{name}{number}".encode()).hexdigest(), {**kind["labels"], "kind": name})
        for name, kind in found["available_node_types"].items()
        for number in range(kind.get("min_workers", 0) if name != found["head_node_type"] else 1)
    ]
    homes = {placement.plan.name: placement.node for placement in plan_pipeline(pipeline, nodes)}
    collectors = [node for name, node in homes.items() if "-collector-" in name]
    assert len({node.node_id for node in collectors}) == 2
    assert len({node.node_id for name, node in homes.items() if "-dedup-" in name}) == 2
    assert all(node.labels["kind"] != found["head_node_type"] for node in homes.values())
    for node in collectors:
        assert {"region", "zone", "network"} <= node.labels.keys()


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_workers_can_be_added_and_the_head_has_no_worker_type(path: Path) -> None:
    found = cluster(path)
    types = {name: kind for name, kind in found["available_node_types"].items() if name != found["head_node_type"]}
    assert all(0 < kind["min_workers"] <= kind["max_workers"] for kind in types.values())
    assert sum(kind["max_workers"] for kind in types.values()) <= found["max_workers"]
    assert any(kind["max_workers"] > kind["min_workers"] for kind in types.values() if kind["labels"].get("collector"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_token_priority_and_loopback(path: Path) -> None:
    found = cluster(path)
    commands = " ".join(found["setup_commands"])
    assert "RAY_AUTH_MODE=token" in commands
    assert all(f"{name}=" in commands for name in ENVIRONMENT)
    assert found["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in found["setup_commands"]
    assert "--dashboard-host=127.0.0.1" in " ".join(found["head_start_ray_commands"])
    text = path.read_text()
    assert "ray get-auth-token --generate && chmod 600" in text
    assert "port 22 from" in text


def test_kubernetes_token_priority_loopback_and_least_privilege() -> None:
    parts = kubernetes()
    specification = parts["RayCluster"]["spec"]
    assert specification["authOptions"] == {"mode": "token"}
    assert specification["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    for group in [specification["headGroupSpec"], *specification["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert {part["name"] for part in container["env"]} == {*ENVIRONMENT}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    policy = parts["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all("from" in rule for rule in policy["ingress"])


def test_aws_names_image_and_group_for_every_machine() -> None:
    """Ray's own image has no Python that this package takes, and its own group opens port 22 to everybody."""
    for kind in cluster(ROOT / "cluster.yaml")["available_node_types"].values():
        assert kind["node_config"]["ImageId"] and kind["node_config"]["SecurityGroupIds"]
        assert "IamInstanceProfile" not in kind["node_config"]


def test_the_machines_have_their_pools() -> None:
    found = cluster(CLUSTERS / "machines.yaml")
    pools = read_pools(found["provider"])
    check_node_types(pools, found)
    assert f"--node-ip-address={pools.head} " in f"{' '.join(found['head_start_ray_commands'])} "


def test_a_dead_machine_is_replaced_soon() -> None:
    """Ray's own: 62 s until a silent host is given up, and 5 s for each of the autoscaler's steps."""
    head = cluster(CLUSTERS / "machines.yaml")["head_start_ray_commands"][-1]
    assert all(f"{name}={value} " in head for name, value in HEALTH.items())
    assert "AUTOSCALER_UPDATE_INTERVAL_S=2 " in head


@pytest.mark.parametrize("running", ["", "raylet", "gcs_server"])
def test_rays_stop_is_called_only_where_ray_runs(running: str, tmp_path: Path) -> None:
    """Its import alone takes more than a second of processor time on every host."""
    command = read_pools(cluster(CLUSTERS / "machines.yaml")["provider"]).stop_command
    assert command == cluster(CLUSTERS / "machines.yaml")["worker_start_ray_commands"][0]
    (tmp_path / "ray").write_text("#!/bin/sh\necho stopped\n")
    (tmp_path / "pgrep").write_text(f"#!/bin/sh\necho '{running}' | grep -Ex \"$2\"\n")
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert done.stdout.split() == (["stopped"] if running else [])


def test_the_head_may_die(tmp_path: Path) -> None:
    found = cluster(ROOT / "cluster.yaml")
    everywhere = " ".join(found["setup_commands"])
    assert all(f"{name}={value}" in everywhere for name, value in node_environment().items())
    head = found["head_start_ray_commands"][-1]
    assert all(f"{name}={value}" in head for name, value in HEALTH.items())
    assert all(f"{name}=" in head for name in head_environment(tmp_path) if name not in node_environment())
