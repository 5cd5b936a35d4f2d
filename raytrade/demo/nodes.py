"""Three Ray nodes on this machine, each with labels of its own, apart from any other Ray that runs here."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from raytrade.actors.upstreams import NAMESPACE
from raytrade.pipeline.driver import keep_output_clean

OBJECT_STORE_BYTES = 100 * 1024 * 1024
REGIONS = ("frankfurt", "london", "zurich")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nodes:
    """A cluster of one head and two more nodes; every node may carry every role."""

    def __init__(self, directory: Path) -> None:
        os.environ["RAY_TMPDIR"] = str(directory)
        (directory / "ray").mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"num_cpus": 4, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        self._options = options
        head = {**options, "labels": self._labels(REGIONS[0]), "redis_port": free_port()}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for region in REGIONS[1:]:
            self._cluster.add_node(wait=False, labels=self._labels(region), **options)
        self._cluster.wait_for_nodes(60)
        keep_output_clean()
        ray.init(address=self._cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    @property
    def address(self) -> str:
        """Address for other drivers."""
        return str(self._cluster.address)

    def add(self, labels: dict[str, str]) -> Any:
        """Start one more node and give it."""
        node = self._cluster.add_node(wait=False, labels=labels, **self._options)
        self._cluster.wait_for_nodes(60)
        return node

    def remove(self, node: Any) -> None:
        """End a node with all that runs on it."""
        self._cluster.remove_node(node)

    @staticmethod
    def _labels(region: str) -> dict[str, str]:
        return {"collector": "yes", "dedup": "yes", "strategy": "yes", "recorder": "yes", "region": region}

    def stop(self) -> None:
        """End the nodes that this started."""
        ray.shutdown()
        self._cluster.shutdown()  # type: ignore[no-untyped-call]
