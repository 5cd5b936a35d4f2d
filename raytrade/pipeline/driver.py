"""The driver: connects to Ray, starts a pipeline, and asks a running one.

`raytrade.pipeline.environment.prepare` must run before this module is imported: Ray reads its settings once.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.exceptions import RayError

from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config, Labels, StrategyConfig
from raytrade.errors import ActorLost, ConfigError, PipelineError, RaytradeError
from raytrade.pipeline.planning import plan_pipeline
from raytrade.pipeline.supervisor import Supervisor, live_nodes, to_json

CALL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 120.0
OBJECT_STORE_BYTES = 200 * 1024 * 1024


def keep_output_clean() -> None:
    """Keep Ray's notices of dead workers off standard output, where a command's own output goes.

    Deaths are part of the plan here and show in the status; Ray (2.60) has no public switch for these notices.
    """
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *arguments, **options: None


def join(address: str = "auto") -> None:
    """Connect to a running cluster.

    Raises:
        PipelineError: there is none at the address.
    """
    keep_output_clean()
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise PipelineError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from None


def start_local(config: Config) -> None:
    """Start a Ray of one node on this machine that carries every label the configuration asks for.

    Raises:
        ConfigError: two sections ask for different values of one label.
        PipelineError: Ray does not start.
    """
    labels = all_labels(config)
    try:
        _init_local(labels)
    except (RayError, RuntimeError, OSError) as error:
        raise PipelineError(f"Ray did not start: {str(error).splitlines()[0]}") from None


def _init_local(labels: Labels) -> None:
    keep_output_clean()
    ray.init(
        address="local",
        namespace=NAMESPACE,
        labels=labels,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
    )


def all_labels(config: Config) -> Labels:
    """Give the labels of all sections together.

    Raises:
        ConfigError: they contradict each other, so that one node cannot run them all.
    """
    sections = [config.collectors.labels, config.dedup.labels]
    sections += [part.labels for part in config.strategies] + [part.labels for part in config.recorders]
    labels: Labels = {}
    for section in sections:
        for key, value in section.items():
            if labels.setdefault(key, value) != value:
                problem = f"needs {labels[key]!r} and {value!r}: one local node cannot be both; run a cluster"
                raise ConfigError("", f"label {key}", problem)
    return labels


def supervisor_name(pipeline: str) -> str:
    """Give the name of a pipeline's supervisor."""
    return f"{pipeline}-supervisor"


def start(config: Config) -> list[str]:
    """Start a pipeline (or join the one of that name); gives the names of its actors when all answer.

    Raises:
        ConfigError: it cannot be placed, or an actor refuses its plan.
        PipelineError: an actor does not come up.
    """
    plan_pipeline(config, live_nodes())
    options = {
        "name": supervisor_name(config.name),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "enable_task_events": False,
    }
    remote: Any = ray.remote(Supervisor)
    handle = remote.options(**options).remote(to_json(config))
    names = _get(handle.reconcile.remote(), START_TIMEOUT_S)
    for name in names:
        _get(ray.get_actor(name, namespace=NAMESPACE).status.remote(), START_TIMEOUT_S)
    return list(names)


def running_pipelines() -> list[str]:
    """Give the names of the pipelines on the joined cluster."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    suffix = supervisor_name("")
    return sorted(a["name"].removesuffix(suffix) for a in actors if a["name"].endswith(suffix))


def supervisor(pipeline: str) -> Any:
    """Give the supervisor of a running pipeline; the name may be empty if only one runs.

    Raises:
        PipelineError: there is none of that name.
    """
    running = running_pipelines()
    if not pipeline and len(running) == 1:
        pipeline = running[0]
    if pipeline not in running:
        known = ", ".join(running) or "none"
        raise PipelineError(f"no pipeline {pipeline!r} is running here (running: {known})")
    return ray.get_actor(supervisor_name(pipeline), namespace=NAMESPACE)


def status(pipeline: str) -> dict[str, Any]:
    """Give the status of a pipeline and all its actors."""
    return dict(_get(supervisor(pipeline).status.remote(), CALL_TIMEOUT_S))


def attach(pipeline: str, strategy: StrategyConfig) -> str:
    """Add a strategy to a running pipeline."""
    return str(_get(supervisor(pipeline).attach.remote(to_json(strategy)), CALL_TIMEOUT_S))


def detach(pipeline: str, name: str) -> str:
    """Remove a strategy from a running pipeline."""
    return str(_get(supervisor(pipeline).detach.remote(name), CALL_TIMEOUT_S))


def stop(pipeline: str) -> list[str]:
    """Drain and stop a pipeline; gives what went wrong on the way."""
    handle = supervisor(pipeline)
    problems = list(_get(handle.stop.remote(), 300.0))
    ray.kill(handle)
    return problems


def _get(reference: Any, timeout_s: float) -> Any:
    """Get a result; our own errors come back as they are, others in one line."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, RaytradeError):
            raise cause from None
        lines = [line for line in str(error).splitlines() if line.strip()]
        own = [line.strip() for line in lines if line.strip().startswith("raytrade.errors.")]
        raise ActorLost("pipeline", own[-1] if own else lines[0] if lines else type(error).__name__) from None
