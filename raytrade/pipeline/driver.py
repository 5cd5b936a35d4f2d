"""The driver: connects to Ray, starts a pipeline, and asks a running one.

`raytrade.pipeline.environment.prepare` must run before this module is imported: Ray reads its settings once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
import ray
from ray._private import worker
from ray.exceptions import ActorUnavailableError, RayError

from raytrade import __version__
from raytrade.actors.options import environment_of
from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config, Labels, StrategyConfig
from raytrade.errors import ConfigError, PipelineError, RaytradeError
from raytrade.pipeline.planning import NODE_ID, Node, plan_pipeline
from raytrade.pipeline.problems import error_of, result_of
from raytrade.pipeline.supervisor import Supervisor, live_nodes, to_json

T = TypeVar("T")
CALL_TIMEOUT_S = 60.0
STATUS_TIMEOUT_S = 15.0
REACH_TIMEOUT_S = 10.0
START_TIMEOUT_S = 120.0
RESTART_POLLS = 60
RESTART_POLL_S = 0.25
MOVE_TIMEOUT_S = 180.0
MOVE_POLL_S = 0.5
LINK_POLLS = 50
LINK_POLL_S = 0.1
NODE_PREFIX_MIN = 4
OBJECT_STORE_BYTES = 200 * 1024 * 1024


def keep_output_clean() -> None:
    """Keep Ray's notices of dead workers off standard output, where a command's own output goes.

    Deaths are part of the plan here and show in the status; Ray (2.60) has no public switch for these notices.
    """
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *arguments, **options: None


def join(address: str = "auto") -> None:
    """Connect to a running cluster.

    Raises:
        PipelineError: there is none at the address.
    """
    keep_output_clean()
    _check_reachable(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise PipelineError(f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}") from None


def cluster_address() -> str:
    """Give the address at which other processes join the cluster that this one is connected to."""
    return str(ray.get_runtime_context().gcs_address)


def is_joined() -> bool:
    """Tell whether this process is connected to a cluster."""
    return bool(ray.is_initialized())


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes.

    Raises:
        PipelineError: no connection.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S).close()
    except OSError as error:
        raise PipelineError(f"no Ray cluster at {address!r}: {error.strerror or error}") from None


def start_local(config: Config) -> None:
    """Start a Ray of one node on this machine that carries every label the configuration asks for.

    Raises:
        ConfigError: two sections ask for different values of one label.
        PipelineError: Ray does not start.
    """
    start_node(all_labels(config))


def start_node(labels: Labels) -> None:
    """Start a Ray of one node with these labels on this machine.

    Raises:
        PipelineError: Ray does not start.
    """
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


def wait_for_nodes(config: Config, timeout_s: float, tell: Callable[[str], None]) -> None:
    """Wait until every part of the pipeline finds its node: a cluster that was just begun may still be growing.

    `tell` is called once with what is missing, if anything is.

    Raises:
        ConfigError: it is still missing after `timeout_s`.
    """
    patience = threading.Event()
    polls = int(timeout_s / RESTART_POLL_S)
    for number in range(polls + 1):
        try:
            plan_pipeline(config, live_nodes())
            return
        except ConfigError as error:
            if number == polls:
                raise
            if number == 0:
                tell(str(error))
        patience.wait(RESTART_POLL_S)


def supervisor_name(pipeline: str) -> str:
    """Give the name of a pipeline's supervisor."""
    return f"{pipeline}-supervisor"


class Started(msgspec.Struct, frozen=True):
    """A pipeline that runs as its configuration says: the actors' names, and what had to be changed for it."""

    names: list[str]
    changes: list[str] = []
    was_running: bool = False


def start(config: Config, allow_degraded: bool = False, note: Callable[[str], None] = lambda text: None) -> Started:
    """Start a pipeline, or join the one of that name and change what is different; returns when all answer.

    `allow_degraded`: place copies in one failure domain where there are too few. `note` is told of the progress.

    Raises:
        ConfigError: it cannot be placed, an actor refuses its plan, something is changed that cannot be while it runs,
            or another driver is at work.
        PipelineError: an actor does not come up. In every case what ran before runs on.
    """
    was_running = config.name in running_pipelines()
    if not was_running:
        plan_pipeline(config, live_nodes(), allow_degraded)
    else:
        ensure_version(config.name)
    handle = supervisor_of(config.name, to_json(config))
    driver = driver_name()
    changes = list(result_of(handle.begin.remote(to_json(config), driver, allow_degraded), CALL_TIMEOUT_S))
    for change in changes:
        note(change)
    try:
        names = list(result_of(handle.reconcile.remote(), START_TIMEOUT_S))
        _wait_ready(result_of(handle.actors.remote(), CALL_TIMEOUT_S))
    except RaytradeError:
        if was_running:
            result_of(handle.revert.remote(driver), CALL_TIMEOUT_S)
        else:
            _abandon(handle)
        raise
    if changes:
        wait_moved(handle, lambda: {}, note, f"change of {config.name}")
    if not was_running:
        _wait_linked(handle)
    result_of(handle.settled.remote(driver), CALL_TIMEOUT_S)
    return Started(names, changes, was_running)


def driver_name() -> str:
    """Name this process for the supervisor."""
    return f"{socket.gethostname()}:{os.getpid()}"


def wait_moved(handle: Any, more: Callable[[], dict[str, str]], note: Callable[[str], None], what: str) -> None:
    """Wait until nothing is pending at the supervisor, nor in `more`; tells `note` of each thing begun and done.

    Raises:
        PipelineError: something still is after `MOVE_TIMEOUT_S`; names it. It goes on behind.
    """
    patience = threading.Event()
    pending: dict[str, str] = {}
    for _ in range(int(MOVE_TIMEOUT_S / MOVE_POLL_S)):
        before, pending = pending, dict(result_of(handle.pending.remote(), CALL_TIMEOUT_S)) | more()
        for name in before.keys() - pending.keys():
            note(f"{name}: done")
        for name in pending.keys() - before.keys():
            note(f"{name}: {pending[name]}")
        if not pending:
            return
        patience.wait(MOVE_POLL_S)
    left = "; ".join(f"{name}: {why}" for name, why in pending.items())
    raise PipelineError(f"{what}: not finished after {MOVE_TIMEOUT_S:.0f} s, goes on: {left}")


def supervisor_of(pipeline: str, config: bytes, code_folder: str = "") -> Any:
    """Give the pipeline's supervisor, started if there is none; `code_folder`: see `Supervisor`."""
    options = {
        "name": supervisor_name(pipeline),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "enable_task_events": False,
        "runtime_env": environment_of(code_folder),
    }
    remote: Any = ray.remote(Supervisor)
    return remote.options(**options).remote(config, code_folder)


def _wait_ready(actors: dict[str, Any]) -> None:
    answers = {name: handle.status.remote() for name, handle in actors.items()}
    for name, answer in answers.items():
        result_of(answer, START_TIMEOUT_S, name)


def _wait_linked(handle: Any) -> None:
    """Wait a while until the consumers hear the dedups: of trades that come before, they get nothing."""
    patience = threading.Event()
    for _ in range(LINK_POLLS):
        if not unlinked(handle, ("strategy", "recorder", "gateway")):
            return
        patience.wait(LINK_POLL_S)


def unlinked(handle: Any, roles: Collection[str] = ("dedup", "strategy", "recorder")) -> dict[str, str]:
    """Ask for the actors of these roles that do not hear everybody they must hear, each with what it lacks."""
    return unlinked_of(dict(result_of(handle.counters.remote(), CALL_TIMEOUT_S))["actors"], roles)


def unlinked_of(actors: Mapping[str, Mapping[str, Any]], roles: Collection[str]) -> dict[str, str]:
    """Give them out of a status. Dedups hear the collectors, or those of the regions where there are any."""
    names: dict[str, set[str]] = {"collector": set(), "regional": set(), "dedup": set()}
    for name, actor in actors.items():
        names.setdefault(actor.get("role", ""), set()).add(name)
    found = {}
    for name, actor in actors.items():
        role = actor.get("role", "")
        heard = names["dedup"] if role != "dedup" else names["regional"] or names["collector"]
        missing = heard - set(actor.get("up", ()))
        if role in roles and missing:
            found[name] = f"does not hear {', '.join(sorted(missing))} yet"
    return found


def _abandon(handle: Any) -> None:
    """End a pipeline that did not come up."""
    with suppress(RayError):
        ray.get(handle.stop.remote(drain=False), timeout=CALL_TIMEOUT_S)
    ray.kill(handle)


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
        wanted = f"pipeline {pipeline!r}" if pipeline else "single pipeline"
        remedy = "choose one with --pipeline" if running else "start one with: raytrade run PIPELINE.yaml"
        raise PipelineError(f"no {wanted} is running here (running: {known}); {remedy}")
    try:
        return ray.get_actor(supervisor_name(pipeline), namespace=NAMESPACE)
    except ValueError:
        raise PipelineError(f"pipeline {pipeline!r} has just been stopped") from None


def status(pipeline: str) -> dict[str, Any]:
    """Give the status of a pipeline and all its actors; waits for a supervisor that is being restarted.

    Raises:
        PipelineError: there is no such pipeline, it is of another version, or its supervisor does not answer.
    """
    found = dict(_patiently(supervisor(pipeline), "status"))
    check_version(found)
    return found


def counters(pipeline: str) -> dict[str, Any]:
    """Give the status less its costly parts, for who looks every second."""
    found = dict(_patiently(supervisor(pipeline), "counters"))
    check_version(found)
    return found


def incidents(pipeline: str, since: int = 0) -> list[dict[str, Any]]:
    """Give the incidents of a pipeline from number `since` on; waits for a supervisor that is being restarted."""
    return list(_patiently(supervisor(pipeline), "incidents", since))


def ensure_version(pipeline: str) -> None:
    """Refuse a pipeline of another version than ours, or none at all.

    Raises:
        PipelineError: there is none of that name, or the versions differ; says what to do.
    """
    check_version(dict(_patiently(supervisor(pipeline), "version")))


def check_version(status: dict[str, Any]) -> None:
    """Refuse a pipeline of another version: its status may mean something else.

    Raises:
        PipelineError: the versions differ; says what to do.
    """
    version = status.get("version", "an older version")
    if version != __version__:
        name = status.get("name", "")
        problem = f"pipeline {name!r} runs raytrade {version} and this is {__version__}"
        raise PipelineError(f"{problem}: use the same version here, or stop the pipeline and start it anew")


def _patiently(handle: Any, method: str, *arguments: Any) -> Any:
    if not hasattr(handle, method):
        check_version({})
    patience = threading.Event()
    for _ in range(RESTART_POLLS):
        try:
            return ray.get(getattr(handle, method).remote(*arguments), timeout=STATUS_TIMEOUT_S)
        except ActorUnavailableError:
            patience.wait(RESTART_POLL_S)
        except RayError as error:
            raise error_of("supervisor", error) from None
    return result_of(getattr(handle, method).remote(*arguments), STATUS_TIMEOUT_S)


def run_on_node(node_id: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a node: in this process if the node is on this host, else as a task there.

    Raises:
        PipelineError: there is no such node, or it does not answer.
    """
    node = next((node for node in ray.nodes() if node["NodeID"] == node_id and node["Alive"]), None)  # type: ignore[no-untyped-call]
    if node is None:
        raise PipelineError(f"the node {node_id[:12]} is gone")
    if node["NodeManagerHostname"] == socket.gethostname():
        return function(*arguments)
    remote: Any = ray.remote(function)
    task = remote.options(num_cpus=0, max_retries=0, label_selector={NODE_ID: node_id})
    return cast(T, result_of(task.remote(*arguments), START_TIMEOUT_S, f"task on {node_id[:12]}"))


def books(pipeline: str, actor: str) -> dict[str, dict[str, Any]]:
    """Give the books of a strategy in full depth."""
    handle = result_of(supervisor(pipeline).actors.remote(), CALL_TIMEOUT_S)[actor]
    return dict(result_of(handle.books.remote(), CALL_TIMEOUT_S, actor))


def attach(pipeline: str, strategy: StrategyConfig) -> str:
    """Add a strategy to a running pipeline of our version."""
    ensure_version(pipeline)
    return str(result_of(supervisor(pipeline).attach.remote(to_json(strategy)), CALL_TIMEOUT_S))


def detach(pipeline: str, name: str) -> str:
    """Remove a strategy from a running pipeline of our version."""
    ensure_version(pipeline)
    return str(result_of(supervisor(pipeline).detach.remote(name), CALL_TIMEOUT_S))


def find_node(text: str) -> Node:
    """Give the live node that is meant by the beginning of its id, its name or its address.

    Raises:
        ConfigError: none, or several.
    """
    nodes = live_nodes()
    found = [node for node in nodes if text in (node.name, node.address)]
    found = found or [node for node in nodes if len(text) >= NODE_PREFIX_MIN and node.node_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{node.node_id[:12]} ({node.name}, {node.address})" for node in found or nodes)
    raise ConfigError("", f"node {text!r}", f"{'fits several' if found else 'there is none'}: {there}")


def drain(pipeline: str, text: str, note: Callable[[str], None]) -> Node:
    """Move everything off a node, make before break, and give it nothing until `undrain`; of all pipelines or of one.

    Raises:
        ConfigError: no such node, or nothing else can take over.
        PipelineError: it is not empty in time.
    """
    node = find_node(text)
    for name in _meant(pipeline):
        ensure_version(name)
        handle = supervisor(name)
        for actor in result_of(handle.drain.remote(node.node_id), CALL_TIMEOUT_S):
            note(f"{actor}: is to leave {node.node_id[:12]}")
        wait_moved(handle, partial(_left_on, handle, node), note, f"drain of {node.node_id[:12]}")
    return node


def _left_on(handle: Any, node: Node) -> dict[str, str]:
    return dict.fromkeys(result_of(handle.on_node.remote(node.node_id), CALL_TIMEOUT_S), "is still there")


def _meant(pipeline: str) -> list[str]:
    """Give the pipelines meant; an empty name means all, of which there must be one for `supervisor` to say so."""
    return [pipeline] if pipeline else running_pipelines() or [""]


def undrain(pipeline: str, text: str) -> tuple[Node, bool]:
    """Let a node have its share again; tells whether it was drained."""
    node = find_node(text)
    handles = [supervisor(name) for name in _meant(pipeline)]
    return node, any([result_of(handle.undrain.remote(node.node_id), CALL_TIMEOUT_S) for handle in handles])


def stop(pipeline: str) -> list[str]:
    """Drain and stop a pipeline; gives what went wrong on the way."""
    handle = supervisor(pipeline)
    problems = list(result_of(handle.stop.remote(), 300.0))
    ray.kill(handle)
    return problems
