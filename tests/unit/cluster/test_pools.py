"""Pools and launches: what a cluster file may say, and which host comes next."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from raytrade.cluster.pools import Launches, check_node_types, host_of, read_pools
from raytrade.errors import ConfigError

PROVIDER: dict[str, Any] = {
    "type": "external",
    "module": "raytrade.cluster.ssh_provider.SshProvider",
    "_config_cache_path": "/tmp/x",
    "head": "10.0.0.1",
    "pools": {"collector": ["10.0.0.2", "10.0.0.3"], "strategy": ["10.0.0.4"]},
}
WORKER = {"ray-node-type": "worker"}


def test_rays_own_keys_are_left_alone() -> None:
    assert read_pools(PROVIDER).hosts() == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pool": {}}, "provider: Object contains unknown field `pool`"),
        ({"head": 7}, "provider: Expected `str`, got `int` - at `$.head`"),
        ({"pools": {"a": ["x"], "b": ["y", "x"]}}, "provider.pools.b: x is in a already"),
        ({"pools": {"a": ["10.0.0.1"]}}, "provider.pools.a: 10.0.0.1 is in head already"),
        ({"pools": {"a": ["b__c"]}}, "provider.pools.a: 'b__c' is no host"),
        ({"pools": {"a": [""]}}, "provider.pools.a: '' is no host"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_pools({**PROVIDER, **change})
    assert str(refused.value) == told


def test_a_missing_head_is_told() -> None:
    with pytest.raises(ConfigError, match="missing required field `head`"):
        read_pools({key: value for key, value in PROVIDER.items() if key != "head"})


@pytest.mark.parametrize(
    ("types", "told"),
    [
        ({"head": {}, "collector": {}}, "provider.pools.strategy: no worker type of this name"),
        ({"head": {}, "collector": {}, "strategy": {}, "x": {}}, "available_node_types.x: has no pool of hosts"),
        (
            {"head": {}, "collector": {"min_workers": 3}, "strategy": {}},
            "available_node_types.collector.min_workers: 3 of 2 hosts in its pool",
        ),
    ],
)
def test_pools_and_node_types_belong_together(types: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_node_types(read_pools(PROVIDER), {"head_node_type": "head", "available_node_types": types})
    assert str(refused.value).startswith(told)


def test_ids_are_never_used_twice_and_hosts_take_turns() -> None:
    numbers = count()
    launches = Launches()
    hosts = ["a", "b"]
    seen: list[str] = []
    for _ in range(6):
        (name,) = launches.start(launches.free(hosts)[:1], WORKER, lambda: str(next(numbers)))
        seen.append(name)
        launches.end(name)
    assert len(set(seen)) == 6
    assert [host_of(name) for name in seen] == ["a", "b", "a", "b", "a", "b"]


def test_a_host_is_not_free_while_it_is_launched() -> None:
    launches = Launches()
    launches.start(["a"], WORKER, lambda: "1")
    assert launches.free(["a", "b"]) == ["b"]
    assert launches.matching(WORKER) == ["a__1"]
    assert launches.matching({**WORKER, "other": "x"}) == []
    launches.end("a__1")
    launches.end("a__1")
    assert launches.free(["a", "b"]) == ["b", "a"]
