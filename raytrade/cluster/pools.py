"""Which host of which pool a node type gets: pure. Called by the node provider under the lock of its state.

A *launch* is one use of a host by the cluster. Its id is never used twice: the autoscaler takes an id that comes
back for the node that it has given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raytrade.errors import ConfigError

ID_SEPARATOR = "__"
HEAD_TYPE_KEY = "head_node_type"


class Pools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider's section of a cluster file, without Ray's own keys.

    `pools`: hosts per node type, by address or name; they belong to the cluster, and whatever Ray runs on them is
    stopped before the cluster's own is started. `external_head`: the head's address from outside, where it differs.
    `known_hosts`: a file with the hosts' keys; without it the hosts' identity is not checked. `stop_command`: by
    default Ray's own (a second and a half of processor time) only where Ray runs.
    """

    head: str
    pools: dict[str, list[str]]
    external_head: str = ""
    known_hosts: str = ""
    ssh_port: int = 22
    stop_command: str = "pgrep -x 'raylet|gcs_.*' > /dev/null; test $? = 1 || ray stop --grace-period 3"

    def hosts(self) -> list[str]:
        """Give all hosts but the head."""
        return [host for hosts in self.pools.values() for host in hosts]


_RAYS_OWN = {"type", "module", "use_internal_ips", "disable_node_updaters", "on_head"}


def read_pools(provider: Mapping[str, Any]) -> Pools:
    """Read the provider's section.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type, or a host is named twice.
    """
    own = {key: value for key, value in provider.items() if key not in _RAYS_OWN and not key.startswith("_")}
    try:
        pools = msgspec.convert(own, Pools)
    except msgspec.ValidationError as error:
        raise ConfigError("", "provider", str(error)) from None
    seen = {pools.head: "head"}
    for node_type, hosts in pools.pools.items():
        for host in hosts:
            if not host or ID_SEPARATOR in host:
                raise ConfigError("", f"provider.pools.{node_type}", f"{host!r} is no host")
            if host in seen:
                raise ConfigError("", f"provider.pools.{node_type}", f"{host} is in {seen[host]} already")
            seen[host] = node_type
    return pools


def check_node_types(pools: Pools, cluster: Mapping[str, Any]) -> None:
    """Hold the pools against the cluster's node types.

    Raises:
        ConfigError: a pool without its type, a type without a pool, or more workers asked for than there are hosts.
    """
    node_types: Mapping[str, Any] = cluster["available_node_types"]
    head_type = cluster[HEAD_TYPE_KEY]
    for name in pools.pools:
        if name not in node_types or name == head_type:
            raise ConfigError("", f"provider.pools.{name}", "no worker type of this name in available_node_types")
    for name, node_type in node_types.items():
        if name == head_type:
            continue
        if name not in pools.pools:
            raise ConfigError("", f"available_node_types.{name}", "has no pool of hosts in provider.pools")
        wanted, there = node_type.get("min_workers", 0), len(pools.pools[name])
        if wanted > there:
            raise ConfigError("", f"available_node_types.{name}.min_workers", f"{wanted} of {there} hosts in its pool")


class Launch(msgspec.Struct):
    """One use of a host."""

    host: str
    tags: dict[str, str]


class Launches(msgspec.Struct):
    """What a provider must know again after a crash. `ended`: when, in order, a host's last launch came to its end."""

    head_id: str = ""
    launches: dict[str, Launch] = {}
    ended: dict[str, int] = {}

    def matching(self, tags: Mapping[str, str]) -> list[str]:
        """Give the ids of the launches that carry these tags."""
        wanted = tags.items()
        return [name for name, launch in self.launches.items() if wanted <= launch.tags.items()]

    def free(self, hosts: list[str]) -> list[str]:
        """Give the hosts without a launch: first those never used, then those whose last launch ended longest ago."""
        used = {launch.host for launch in self.launches.values()}
        free = [host for host in hosts if host not in used]
        return sorted(free, key=lambda host: self.ended.get(host, 0))

    def start(self, hosts: list[str], tags: Mapping[str, str], new_id: Callable[[], str]) -> list[str]:
        """Launch on these hosts; gives the ids."""
        ids = [f"{host}{ID_SEPARATOR}{new_id()}" for host in hosts]
        for name, host in zip(ids, hosts, strict=True):
            self.launches[name] = Launch(host, dict(tags))
        return ids

    def end(self, name: str) -> None:
        """A launch is over."""
        launch = self.launches.pop(name, None)
        if launch is not None:
            self.ended[launch.host] = 1 + max(self.ended.values(), default=0)


def host_of(name: str) -> str:
    """Give the host of a launch."""
    return name.rpartition(ID_SEPARATOR)[0] or name
