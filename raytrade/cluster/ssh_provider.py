"""`SshProvider`: Ray's node provider for hosts that are already there, in labelled pools, over ssh.

    provider:
      type: external
      module: raytrade.cluster.ssh_provider.SshProvider
      head: 10.0.0.1
      pools: {collector: [10.0.0.2, 10.0.0.3], strategy: [10.0.0.4]}

Ray's own `type: local` knows one kind of worker, hence no labels per kind, and does not start all of them under
Ray 2.60's autoscaler. This one is made once by `ray up` (the launcher: it knows the head and where all hosts are)
and once by the autoscaler on the head (it launches and ends workers). On the head the pools are read from the cluster
file that `ray up` puts there, at each call: `ray up --no-restart` brings new hosts without touching what runs.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import yaml
from ray.autoscaler._private.cli_logger import cli_logger
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.subprocess_output_util import ProcessRunnerError
from ray.autoscaler.command_runner import CommandRunnerInterface
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from raytrade.cluster.pools import (
    HEAD_TYPE_KEY,
    Launch,
    Launches,
    Pools,
    check_node_types,
    host_of,
    read_pools,
)
from raytrade.cluster.state import StateFile
from raytrade.errors import ConfigError, PipelineError

STATE_DIRECTORY = Path("~/.raytrade/clusters")
CONFIG_ON_HEAD = "~/ray_bootstrap_config.yaml"
"""Where `ray up` puts the cluster file on the head (Ray 2.60, `autoscaler/_private/commands.py`)."""
ON_HEAD_KEY = "on_head"
PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 10
"""For the connection; a command that hangs is ended by ssh's own keep-alive after 15 s more."""
STOPS_AT_ONCE = 16
CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_log = logging.getLogger(__name__)


class SshProvider(NodeProvider):
    """Nodes of one cluster; Ray calls it from several threads."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._on_head: Mapping[str, Any] = provider_config.get(ON_HEAD_KEY, {})
        self._state = StateFile(STATE_DIRECTORY.expanduser(), cluster_name)
        self._torn_down: set[str] = set()
        if self._on_head:
            self._begin_on_head()

    def _begin_on_head(self) -> None:
        """Record the head, which `ray up` has launched; workers of an earlier head are none of this one's."""
        head_id = self._on_head["head_id"]
        tags = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_USER_NODE_TYPE: self._on_head["head_type"],
            TAG_RAY_NODE_NAME: f"ray-{self.cluster_name}-head",
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        with self._state.change() as launches:
            if launches.head_id != head_id:
                launches.head_id = head_id
                launches.launches = {}
            launches.launches[head_id] = Launch(host_of(head_id), tags)

    def _cluster(self) -> Mapping[str, Any]:
        """Give the cluster file as it is now (on the head)."""
        with open(os.path.expanduser(self._on_head["config"]), encoding="utf-8") as file:
            return dict(yaml.safe_load(file))

    def _pools(self) -> Pools:
        return read_pools(self._cluster()["provider"] if self._on_head else self.provider_config)

    # What there is.

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Give the ids of the launches with these tags.

        A launch that never came up, on a host that has left its pool, is given up.
        """
        launches = self._state.read()
        if self._on_head and (stuck := _stuck_outside(launches, self._pools())):
            with self._state.change() as launches:
                for name in stuck:
                    launches.end(name)
        return launches.matching(tag_filters)

    def nodes_for_teardown(self, tag_filters: dict[str, str]) -> list[str]:
        """Give the nodes that `ray down` must stop: all hosts of the pools, for only the head knows which run."""
        known = self.non_terminated_nodes(tag_filters)
        if self._on_head or tag_filters.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            return known
        hosts = {host_of(name) for name in known}
        missing = [host for host in self._pools().hosts() if host not in hosts and host not in self._torn_down]
        return known + missing

    def is_running(self, node_id: str) -> bool:
        """Tell whether the launch is not over."""
        return node_id in self._state.read().launches

    def is_terminated(self, node_id: str) -> bool:
        """Tell whether the launch is over."""
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        """Give the tags of a launch."""
        launch = self._state.read().launches.get(node_id)
        return launch.tags if launch is not None else {}

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        """Add tags to a launch, if it is not over."""
        with self._state.change() as launches:
            if node_id in launches.launches:
                launches.launches[node_id].tags.update(tags)

    def internal_ip(self, node_id: str) -> str:
        """Give the host's address."""
        return socket.gethostbyname(host_of(node_id))

    def external_ip(self, node_id: str) -> str:
        """Give the host's address as the launcher reaches it."""
        pools = self._pools()
        host = host_of(node_id)
        return socket.gethostbyname(pools.external_head if host == pools.head and pools.external_head else host)

    # Launching and ending.

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Take up to `count` free hosts of the node type's pool, those first that answer.

        Raises:
            PipelineError: no host is free.
        """
        pools = self._pools()
        node_type = tags.get(TAG_RAY_USER_NODE_TYPE, "")
        is_head = tags[TAG_RAY_NODE_KIND] == NODE_KIND_HEAD
        hosts = [pools.head] if is_head else pools.pools.get(node_type, [])
        answering = self._answering(self._state.read().free(hosts), pools.ssh_port) if self._on_head else set()
        with self._state.change() as launches:
            free = sorted(launches.free(hosts), key=lambda host: host not in answering)
            if not free:
                raise PipelineError(f"no free host of type {node_type} (its pool: {', '.join(hosts) or 'empty'})")
            if is_head:
                launches.launches = {}
            ids = launches.start(free[:count], tags, lambda: secrets.token_hex(4))
            if is_head:
                launches.head_id = ids[0]
            return {name: launches.launches[name].tags for name in ids}

    @staticmethod
    def _answering(hosts: Sequence[str], port: int) -> set[str]:
        """Give the hosts on which somebody listens at the port of ssh."""

        def answers(host: str) -> bool:
            try:
                socket.create_connection((host, port), PROBE_TIMEOUT_S).close()
            except OSError:
                return False
            return True

        with ThreadPoolExecutor(max_workers=STOPS_AT_ONCE) as pool:
            return {host for host, does in zip(hosts, pool.map(answers, hosts), strict=True) if does}

    def terminate_node(self, node_id: str) -> None:
        """Stop Ray on the host, if it can be reached; the launch is over in any case.

        What still runs on a host that cannot be reached ends by itself once the head has given it up, and is stopped
        before the next launch there.
        """
        try:
            self._stop_ray(node_id)
        except (click.ClickException, ProcessRunnerError, subprocess.SubprocessError, OSError) as error:
            _log.warning("Ray on %s could not be stopped: %s", host_of(node_id), error)
        self._torn_down.add(host_of(node_id))
        with self._state.change() as launches:
            launches.end(node_id)

    def terminate_nodes(self, node_ids: list[str]) -> None:
        """Stop several at once: one that hangs holds up no other."""
        with ThreadPoolExecutor(max_workers=STOPS_AT_ONCE) as pool:
            list(pool.map(self.terminate_node, node_ids))

    def _stop_ray(self, node_id: str) -> None:
        auth = self._cluster()["auth"] if self._on_head else self.provider_config["_auth"]
        host = host_of(node_id)
        runner = self.get_command_runner(
            f"{host}: ", node_id, auth, self.cluster_name, subprocess, use_internal_ip=bool(self._on_head)
        )
        cli_logger.print("Stopping Ray on {}", host)
        runner.run(self._pools().stop_command, timeout=STOP_TIMEOUT_S)

    def get_command_runner(
        self,
        log_prefix: str,
        node_id: str,
        auth_config: dict[str, Any],
        cluster_name: str,
        process_runner: ModuleType,
        use_internal_ip: bool,
        docker_config: dict[str, Any] | None = None,
    ) -> CommandRunnerInterface:
        """Give Ray's own runner over ssh, which checks the hosts' keys where there is a list of them."""
        pools = self._pools()
        make: Callable[..., CommandRunnerInterface] = SSHCommandRunner
        arguments = (log_prefix, node_id, self, auth_config, cluster_name, process_runner, use_internal_ip)
        runner = make(*arguments)
        options: dict[str, object] = vars(runner)["ssh_options"].arg_dict
        options["Port"] = pools.ssh_port
        if pools.known_hosts:
            options["StrictHostKeyChecking"] = "yes"
            options["UserKnownHostsFile"] = os.path.expanduser(pools.known_hosts)
        return runner

    # The cluster file.

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Check the cluster file before anything moves; a pool's size bounds its workers.

        Raises:
            click.UsageError: the file is wrong; one line that names the key.
        """
        try:
            if not CLUSTER_NAME.fullmatch(cluster_config["cluster_name"]):
                raise ConfigError("", "cluster_name", "letters, digits, '.', '_' and '-' only")
            if cluster_config.get("docker", {}).get("container_name"):
                raise ConfigError("", "docker", "is not supported on hosts that are already there")
            pools = read_pools(cluster_config["provider"])
            check_node_types(pools, cluster_config)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        for name, hosts in pools.pools.items():
            node_type = cluster_config["available_node_types"][name]
            node_type["max_workers"] = min(node_type["max_workers"], len(hosts))
        cluster_config["provider"]["_auth"] = cluster_config["auth"]
        return cluster_config

    def prepare_for_head_node(self, cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Tell the provider on the head that it is there, under which id, and where the cluster file lies.

        Ray has merged the setup commands already, and would do so again on the head.
        """
        head_type = cluster_config[HEAD_TYPE_KEY]
        on_head = {"config": CONFIG_ON_HEAD, "head_id": self._state.read().head_id, "head_type": head_type}
        provider = {key: value for key, value in cluster_config["provider"].items() if key != "_auth"}
        return {**cluster_config, "setup_commands": [], "provider": {**provider, ON_HEAD_KEY: on_head}}


def _stuck_outside(launches: Launches, pools: Pools) -> list[str]:
    """Name the workers' launches that have not come up and whose host is in no pool any more."""
    hosts = {pools.head, *pools.hosts()}
    return [
        name
        for name, launch in launches.launches.items()
        if launch.host not in hosts and launch.tags.get(TAG_RAY_NODE_STATUS) != STATUS_UP_TO_DATE
    ]
