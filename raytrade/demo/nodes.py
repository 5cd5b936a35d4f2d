"""Ray nodes on this machine, each with labels of its own, apart from any other Ray that runs here."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from raytrade.actors.upstreams import NAMESPACE
from raytrade.pipeline.driver import keep_output_clean

OBJECT_STORE_BYTES = 100 * 1024 * 1024
REGIONS = ("frankfurt", "london", "zurich")
Labels = dict[str, str]


def every_role(region: str) -> Labels:
    """Give the labels of a node that may carry every role."""
    return {"collector": "yes", "dedup": "yes", "strategy": "yes", "recorder": "yes", "region": region}


THREE_NODES = tuple(map(every_role, REGIONS))


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nodes:
    """A cluster with a node per set of labels; the first one is its head."""

    def __init__(self, directory: Path, labels: Sequence[Labels] = THREE_NODES, num_cpus: int = 4) -> None:
        """`num_cpus` of a node is also how many idle workers it keeps ready; actors of ours ask for none."""
        os.environ["RAY_TMPDIR"] = str(directory)
        (directory / "ray").mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"num_cpus": num_cpus, "object_store_memory": OBJECT_STORE_BYTES}
        self._options = {**options, "include_dashboard": False}
        self._head = {**self._options, "labels": labels[0], "gcs_server_port": free_port()}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=dict(self._head))
        for more in labels[1:]:
            self._cluster.add_node(wait=False, labels=more, **self._options)
        self._cluster.wait_for_nodes(60)
        self._connect()

    def _connect(self) -> None:
        keep_output_clean()
        ray.init(address=self._cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    @property
    def address(self) -> str:
        """Address for other drivers."""
        return str(self._cluster.address)

    def add(self, labels: Labels) -> Any:
        """Start one more node and give it once it has joined."""
        node = self._cluster.add_node(wait=False, labels=labels, **self._options)
        self._cluster.wait_for_nodes(60)
        return node

    def remove(self, node: Any) -> None:
        """End a node with all that runs on it."""
        self._cluster.remove_node(node)

    def replace(self, node_id: str) -> None:
        """Start a node with the labels of one that was killed; both facts reach the cluster later."""
        dead = next(node for node in self._cluster.worker_nodes if node.node_id == node_id)
        labels = dict(dead._ray_params.labels)  # noqa: SLF001 - the class has no other way to tell
        self._cluster.remove_node(dead, allow_graceful=False)
        self._cluster.add_node(wait=False, labels=labels, **self._options)

    def leave_head(self) -> list[int]:
        """Disconnect from the head, whose death would be this driver's; gives the pids of its processes."""
        ray.shutdown()
        processes = self._cluster.head_node.all_processes
        return [info.process.pid for infos in processes.values() for info in infos]

    def start_head(self) -> None:
        """Start a head that was killed again, at the same address and as it was, and connect."""
        self._cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self._cluster.head_node = None
        self._cluster.add_node(wait=False, **self._head)
        self._connect()

    def stop(self) -> None:
        """End the nodes that this started."""
        ray.shutdown()
        self._cluster.shutdown()
