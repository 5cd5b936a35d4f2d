"""The provider as `ray up` and the autoscaler on the head call it; ssh itself is tried by `python -m tests.hosts`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from raytrade.cluster.pools import host_of
from raytrade.cluster.ssh_provider import SshProvider
from raytrade.errors import PipelineError

ROOT = Path(__file__).resolve().parents[3]
HEAD = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: "head"}
WORKERS = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}
COLLECTOR = {**WORKERS, TAG_RAY_USER_NODE_TYPE: "collector_a"}
A, B = "10.20.1.1", "10.20.1.2"


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the hosts on which Ray was stopped; those named `dead` do not answer."""
    monkeypatch.setenv("HOME", str(tmp_path))
    hosts: list[str] = []

    def stop(self: SshProvider, node_id: str) -> None:
        hosts.append(host_of(node_id))

    monkeypatch.setattr(SshProvider, "_stop_ray", stop)
    monkeypatch.setattr(SshProvider, "_answering", staticmethod(lambda hosts, port: set(hosts) - {"dead"}))
    return hosts


def cluster_file() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "examples/clusters/machines.yaml").read_text()))


def bootstrapped(cluster: dict[str, Any]) -> dict[str, Any]:
    return dict(_bootstrap_config(copy.deepcopy(cluster), no_config_cache=True))


def on_head(launcher: SshProvider, cluster: dict[str, Any]) -> SshProvider:
    """Do what `ray up` does with the cluster file, and make the autoscaler's provider."""
    config = launcher.prepare_for_head_node(bootstrapped(cluster))
    Path("~/ray_bootstrap_config.yaml").expanduser().write_text(json.dumps(config))
    return SshProvider(config["provider"], "raytrade")


def launched(cluster: dict[str, Any]) -> SshProvider:
    launcher = SshProvider(bootstrapped(cluster)["provider"], "raytrade")
    launcher.create_node({}, HEAD, 1)
    return launcher


def test_the_head_knows_itself_under_the_launchers_id(stopped: list[str]) -> None:
    launcher = launched(cluster_file())
    head = on_head(launcher, cluster_file())
    assert head.non_terminated_nodes(HEAD) == launcher.non_terminated_nodes(HEAD)
    (head_id,) = head.non_terminated_nodes({})
    assert head.internal_ip(head_id) == "10.20.0.1"
    assert head.node_tags(head_id)[TAG_RAY_NODE_STATUS] == STATUS_UP_TO_DATE


def test_a_new_head_forgets_the_workers_of_the_old_one(stopped: list[str]) -> None:
    launcher = launched(cluster_file())
    head = on_head(launcher, cluster_file())
    head.create_node({}, COLLECTOR, 1)
    assert len(on_head(launcher, cluster_file()).non_terminated_nodes(WORKERS)) == 1
    launcher.terminate_nodes(launcher.non_terminated_nodes(HEAD))
    launcher.create_node({}, HEAD, 1)
    assert on_head(launcher, cluster_file()).non_terminated_nodes(WORKERS) == []


def test_a_host_is_used_again_under_another_id(stopped: list[str]) -> None:
    head = on_head(launched(cluster_file()), cluster_file())
    first = head.create_node({}, COLLECTOR, 2)
    assert [head.internal_ip(name) for name in first] == [A, B]
    with pytest.raises(PipelineError, match=f"no free host of type collector_a .its pool: {A}, {B}"):
        head.create_node({}, COLLECTOR, 1)
    dead = min(first)
    head.terminate_node(dead)
    assert head.is_terminated(dead)
    assert stopped == [A]
    (again,) = head.create_node({}, COLLECTOR, 1)
    assert again != dead
    assert head.internal_ip(again) == A
    assert head.node_tags(dead) == {}


def test_a_host_that_answers_is_taken_first(stopped: list[str]) -> None:
    cluster = cluster_file()
    cluster["provider"]["pools"]["collector_a"] = ["dead", B]
    head = on_head(launched(cluster), cluster)
    assert [host_of(name) for name in head.create_node({}, COLLECTOR, 1)] == [B]
    assert [host_of(name) for name in head.create_node({}, COLLECTOR, 1)] == ["dead"]


def test_hosts_are_added_while_the_head_runs(stopped: list[str]) -> None:
    cluster = cluster_file()
    launcher = launched(cluster)
    head = on_head(launcher, cluster)
    running = head.create_node({}, COLLECTOR, 2)
    cluster["provider"]["pools"]["collector_a"].append("10.20.1.3")
    on_head(launcher, cluster)
    assert set(running) <= set(head.non_terminated_nodes(WORKERS))
    (added,) = head.create_node({}, COLLECTOR, 1)
    assert head.internal_ip(added) == "10.20.1.3"


def test_a_host_that_never_came_up_and_left_its_pool_is_given_up(stopped: list[str]) -> None:
    cluster = cluster_file()
    launcher = launched(cluster)
    head = on_head(launcher, cluster)
    up, stuck = head.create_node({}, COLLECTOR, 2)
    head.set_node_tags(up, {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE})
    cluster["provider"]["pools"]["collector_a"] = ["10.20.1.9"]
    on_head(launcher, cluster)
    assert head.non_terminated_nodes(WORKERS) == [up]
    assert not head.is_running(stuck)


def test_ray_down_stops_every_host_once(stopped: list[str]) -> None:
    launcher = launched(cluster_file())
    nodes = launcher.nodes_for_teardown(HEAD) + launcher.nodes_for_teardown(WORKERS)
    launcher.terminate_nodes(nodes)
    hosts = {host for pool in cluster_file()["provider"]["pools"].values() for host in pool}
    assert sorted(stopped) == sorted({"10.20.0.1", *hosts})
    assert launcher.nodes_for_teardown(HEAD) + launcher.nodes_for_teardown(WORKERS) == []


def test_a_host_that_cannot_be_reached_does_not_hold_up_the_others(
    stopped: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: SshProvider, node_id: str) -> None:
        raise click.ClickException("SSH command failed.")

    monkeypatch.setattr(SshProvider, "_stop_ray", fail)
    head = on_head(launched(cluster_file()), cluster_file())
    head.terminate_nodes(list(head.create_node({}, COLLECTOR, 2)))
    assert head.non_terminated_nodes(WORKERS) == []
    assert f"Ray on {A} could not be stopped: SSH command failed." in caplog.text


def test_the_keys_of_hosts_are_checked_where_there_is_a_list(stopped: list[str]) -> None:
    cluster = cluster_file()
    cluster["provider"] |= {"known_hosts": "~/known", "ssh_port": 2222}
    launcher = launched(cluster)
    (node,) = launcher.non_terminated_nodes({})
    runner: Any = launcher.get_command_runner("", node, cluster["auth"], "raytrade", click, False)
    options = " ".join(runner.ssh_options.to_ssh_options_list())
    home = Path("~").expanduser()
    assert f"StrictHostKeyChecking=yes -o UserKnownHostsFile={home}/known" in options
    assert "Port=2222" in options


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("cluster_name", "a/../b", "cluster_name: letters"),
        ("docker", {"container_name": "x", "image": "y"}, "docker: is not supported"),
        ("provider", {"type": "external", "module": "raytrade.cluster.ssh_provider.SshProvider"}, "provider: Object"),
    ],
)
def test_a_wrong_cluster_file_is_refused_before_anything_moves(
    stopped: list[str], key: str, value: Any, told: str
) -> None:
    with pytest.raises(click.UsageError) as refused:
        bootstrapped({**cluster_file(), key: value})
    assert str(refused.value).startswith(told)


def test_a_pool_bounds_its_type() -> None:
    cluster = cluster_file()
    cluster["available_node_types"]["recorder"]["max_workers"] = 5
    assert bootstrapped(cluster)["available_node_types"]["recorder"]["max_workers"] == 1
