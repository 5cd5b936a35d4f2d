"""New code under a running pipeline: first it is looked at on every node, then the actors take it domain by domain.

The supervisor goes first, for actors are started with the plans of its code; the stream does not need it. Then all
actors of one failure domain are replaced by new ones beside them, and the next domain waits until everybody hears
everybody again. Old and new speak to each other meanwhile, so their messages must have one schema.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import ray

from raytrade.actors.options import Code, code_here, environment_of
from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config
from raytrade.errors import ConfigError, PipelineError, RaytradeError
from raytrade.pipeline import driver
from raytrade.pipeline.planning import NODE_ID, Node
from raytrade.pipeline.problems import result_of
from raytrade.pipeline.supervisor import live_nodes

CALL_TIMEOUT_S = 60.0
CHECK_TIMEOUT_S = 120.0
GONE_POLLS = 100
GONE_POLL_S = 0.1


def rounds(label: str, nodes: list[Node], used: Collection[str]) -> list[tuple[str, list[str]]]:
    """Give the failure domains, each with its name and the ids of those of its nodes that are used, in their order."""
    domains: dict[str, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.node_id):
        if node.node_id in used:
            domains.setdefault(node.domain(label), []).append(node)
    return [
        (f"{label} {domain}" if label else f"node {there[0].name or domain[:12]}", [node.node_id for node in there])
        for domain, there in sorted(domains.items())
    ]


def agreed(found: Mapping[str, Code], folder: str, schema: int) -> Code:
    """Give the code that all nodes have, by their names, for actors that speak `schema`.

    Raises:
        ConfigError: a node has none in the folder, or another than the others; or its messages are others.
    """
    for node, code in found.items():
        if folder and code.folder != folder:
            raise ConfigError("upgrade", f"--code {folder}", f"not on node {node}: it would run {code.folder}")
        if code.schema != schema:
            problem = f"its messages have schema {code.schema}, those of the pipeline {schema}: old and new could not"
            raise ConfigError("upgrade", f"raytrade {code.version}", f"{problem} link up; stop it and start it anew")
    if len({code.version for code in found.values()}) != 1:
        there = ", ".join(f"{node}: {code.version}" for node, code in sorted(found.items()))
        raise ConfigError("upgrade", "version", f"is not the same on all nodes ({there}): install one")
    return next(iter(found.values()))


def upgrade(pipeline: str, folder: str, note: Callable[[str], None]) -> Code:
    """Have every actor of a pipeline run the code in `folder` of its node, or what is installed there if it is empty.

    Raises:
        ConfigError: the code is not there on every node, or cannot work together with what runs; or another driver is
            at work. Nothing was touched then.
        PipelineError: a domain is not whole again in time. The others were not touched then.
    """
    handle = driver.supervisor(pipeline)
    running = dict(result_of(handle.version.remote(), CALL_TIMEOUT_S))
    name, me = running["name"], driver.driver_name()
    code = agreed(_codes(folder), folder, running.get("schema", 0))
    result_of(handle.lease.remote(me), CALL_TIMEOUT_S)
    handle = _hand_over(name, handle, folder)
    note(f"supervisor: runs {code.version}")
    result_of(handle.lease.remote(me), CALL_TIMEOUT_S)
    try:
        _roll(handle, me, note)
    finally:
        result_of(handle.settled.remote(me), CALL_TIMEOUT_S)
    for actor, one in result_of(handle.actors.remote(), CALL_TIMEOUT_S).items():
        runs = result_of(one.code.remote(), CALL_TIMEOUT_S, actor)
        if runs != code:
            raise PipelineError(f"{actor} runs {runs.version} of {runs.folder}, not {code.version} of {code.folder}")
    return code


def _codes(folder: str) -> dict[str, Code]:
    """Ask every node which code an actor would run there."""
    remote: Any = ray.remote(code_here)
    tasks = {}
    for node in live_nodes():
        options = {"num_cpus": 0, "max_retries": 0, "runtime_env": environment_of(folder)}
        task = remote.options(**options, label_selector={NODE_ID: node.node_id}).remote()
        tasks[f"{node.node_id[:12]} ({node.name})"] = task
    return {node: result_of(task, CHECK_TIMEOUT_S, f"node {node}") for node, task in tasks.items()}


def _hand_over(name: str, handle: Any, folder: str) -> Any:
    """End the supervisor and start another, which finds the actors as they are; the old code takes over if it fails."""
    config = result_of(handle.configuration.remote(), CALL_TIMEOUT_S)
    ray.kill(handle)
    _wait_gone(driver.supervisor_name(name))
    successor = driver.supervisor_of(name, config, folder)
    try:
        result_of(successor.reconcile.remote(), CALL_TIMEOUT_S)
    except RaytradeError:
        ray.kill(successor)
        _wait_gone(driver.supervisor_name(name))
        driver.supervisor_of(name, config)
        raise
    return successor


def _wait_gone(actor: str) -> None:
    patience = threading.Event()
    for _ in range(GONE_POLLS):
        try:
            ray.get_actor(actor, namespace=NAMESPACE)
        except ValueError:
            return
        patience.wait(GONE_POLL_S)
    raise PipelineError(f"{actor} does not end")


def _roll(handle: Any, me: str, note: Callable[[str], None]) -> None:
    homes = {actor["node"] for actor in result_of(handle.counters.remote(), CALL_TIMEOUT_S)["actors"].values()}
    for domain, node_ids in rounds(_label(handle), live_nodes(), homes):
        result_of(handle.lease.remote(me), CALL_TIMEOUT_S)
        leaving = result_of(handle.renew.remote(node_ids), CALL_TIMEOUT_S)
        note(f"{domain}: {', '.join(leaving)}")
        result_of(handle.reconcile.remote(), CALL_TIMEOUT_S)
        driver.wait_moved(handle, partial(driver.unlinked, handle), note, f"upgrade of {domain}")


def _label(handle: Any) -> str:
    return Config.model_validate_json(result_of(handle.configuration.remote(), CALL_TIMEOUT_S)).failure_domain
