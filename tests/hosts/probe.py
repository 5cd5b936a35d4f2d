"""Runs on the head: joins the cluster and answers questions, a JSON line each, for as long as it is asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from raytrade.errors import PipelineError
from raytrade.pipeline import environment

environment.prepare()

import ray  # noqa: E402 - Ray reads the environment when it is imported

from raytrade.pipeline import driver  # noqa: E402


def status(pipeline: str) -> dict[str, Any]:
    """Give the status of the pipeline; {} while none runs."""
    try:
        return driver.status(pipeline)
    except PipelineError:
        return {}


def nodes() -> list[dict[str, Any]]:
    """Give the nodes that are alive."""
    return [
        {"id": node["NodeID"], "address": node["NodeManagerAddress"], "labels": node["Labels"]}
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


class Where:
    """An actor that tells where it is."""

    def address(self) -> str:
        """Give the address of its node."""
        return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def scale_up(label: str, value: str, timeout_s: float) -> dict[str, Any]:
    """Ask for an actor on a node that is not there yet; gives where it ran and after how long, then ends it."""
    began = time.monotonic()
    remote: Any = ray.remote(Where)
    actor = remote.options(num_cpus=0.1, label_selector={label: value}).remote()
    address = ray.get(actor.address.remote(), timeout=timeout_s)
    ray.kill(actor)
    return {"address": address, "after_s": time.monotonic() - began}


QUESTIONS: dict[str, Callable[..., Any]] = {"status": status, "nodes": nodes, "scale_up": scale_up}


def main() -> None:
    driver.join("auto")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        print(json.dumps(QUESTIONS[question](*arguments), default=str), flush=True)


if __name__ == "__main__":
    main()
