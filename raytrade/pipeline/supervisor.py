"""`Supervisor`: desired state, placement and status of one pipeline. Control only; its death stops nothing.

Once a second it compares the plan for the nodes there are with the actors there are, and starts what is missing: a
node that joins with the collectors' labels gets its collector without any command.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from raytrade.actors.options import create
from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config, StrategyConfig
from raytrade.errors import ConfigError, PipelineError
from raytrade.pipeline.planning import NODE_ID, Node, Placement, plan_pipeline, strategy_name

RECONCILE_S = 1.0
STATUS_TIMEOUT_S = 5.0
DRAIN_S = 15.0


def live_nodes() -> list[Node]:
    """Give the nodes that are alive."""
    return [Node(node["NodeID"], node["Labels"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class Supervisor:
    """Runs one pipeline from its construction on."""

    def __init__(self, config: bytes) -> None:
        self.config = Config.model_validate_json(config)
        self._lock = threading.Lock()
        self._actors: dict[str, tuple[Any, Placement]] = {}
        self._problems: list[str] = []
        self._collectors: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(RECONCILE_S):
            try:
                self.reconcile()
            except (RayError, PipelineError, ConfigError) as error:
                self._problems = [*self._problems[-19:], f"{type(error).__name__}: {error}"]

    def reconcile(self) -> list[str]:
        """Start what the plan has and the cluster lacks; gives the names of the planned actors.

        Raises:
            ConfigError: the plan cannot be placed.
        """
        with self._lock:
            nodes = live_nodes()
            alive = {node.node_id for node in nodes}
            placements = plan_pipeline(self.config, nodes)
            wanted = {placement.plan.name for placement in placements}
            for name in [name for name in self._actors if name not in wanted]:
                handle, placement = self._actors.pop(name)
                if placement.node.node_id not in alive:
                    ray.kill(handle)
            for placement in placements:
                self._ensure(placement, alive)
            self._tell_dedups(placements)
            return sorted(self._actors)

    def _ensure(self, placement: Placement, alive: set[str]) -> None:
        name = placement.plan.name
        held = self._actors.get(name)
        if held is not None:
            if held[1].node.node_id in alive:
                return
            ray.kill(held[0])
        self._actors[name] = (create(placement.plan, {NODE_ID: placement.node.node_id}), placement)

    def _tell_dedups(self, placements: list[Placement]) -> None:
        collectors = [p.plan.name for p in placements if "-collector-" in p.plan.name]
        if collectors != self._collectors:
            self._collectors = collectors
            for name, (handle, _) in self._actors.items():
                if "-dedup-" in name:
                    handle.set_collectors.remote(collectors)

    def attach(self, strategy: bytes) -> str:
        """Add a strategy; gives its actor's name.

        Raises:
            ConfigError: the name is taken or the strategy cannot be placed.
        """
        part = StrategyConfig.model_validate_json(strategy)
        if any(part.name == other.name for other in self.config.strategies):
            raise ConfigError("", part.name, "a strategy of that name is attached already")
        config = self.config.model_copy(update={"strategies": [*self.config.strategies, part]})
        plan_pipeline(config, live_nodes())
        self.config = config
        self.reconcile()
        name = strategy_name(config, part.name)
        try:
            ray.get(self._actors[name][0].status.remote(), timeout=30)
        except RayError as error:
            self.detach(part.name)
            raise ConfigError("", part.strategy, str(error).strip().splitlines()[-1]) from None
        return name

    def detach(self, name: str) -> str:
        """Stop and remove a strategy; gives its actor's name.

        Raises:
            ConfigError: there is none of that name.
        """
        kept = [part for part in self.config.strategies if part.name != name]
        if len(kept) == len(self.config.strategies):
            known = ", ".join(part.name for part in kept) or "none"
            raise ConfigError("", name, f"no such strategy; attached are {known}")
        with self._lock:
            self.config = self.config.model_copy(update={"strategies": kept})
            handle, _ = self._actors.pop(strategy_name(self.config, name))
        _ask(handle, "stop")
        ray.kill(handle)
        return strategy_name(self.config, name)

    def status(self) -> dict[str, Any]:
        """Gather the status of every actor; one that does not answer in time says so."""
        with self._lock:
            actors = dict(self._actors)
        pending = {name: handle.status.remote() for name, (handle, _) in actors.items()}
        done, _ = ray.wait(list(pending.values()), num_returns=len(pending), timeout=STATUS_TIMEOUT_S) if pending else ([], [])
        return {
            "name": self.config.name,
            "pid": os.getpid(),
            "problems": self._problems,
            "actors": {
                name: {"node": actors[name][1].node.node_id, **_result(reference, reference in set(done))}
                for name, reference in pending.items()
            },
        }

    def stop(self) -> list[str]:
        """Stop the lines, let everything drain, write the files, end the actors; gives what went wrong."""
        self._stopping.set()
        self._thread.join(30)
        with self._lock:
            return self._drain()

    def _drain(self) -> list[str]:
        problems = []
        for role, method in (("-collector-", "stop"), ("-recorder-", "stop"), ("-strategy-", "stop")):
            if role == "-recorder-":
                self._wait_drained()
            for name, (handle, _) in self._actors.items():
                if role in name:
                    problem = _ask(handle, method, timeout_s=120)
                    if problem:
                        problems.append(f"{name}: {problem}")
        for handle, _ in self._actors.values():
            ray.kill(handle)
        return problems

    def _wait_drained(self) -> None:
        """Wait until collectors, then dedups, have handed everything on."""
        patience = threading.Event()
        for role in ("-collector-", "-dedup-"):
            for name, (handle, _) in self._actors.items():
                left = int(DRAIN_S / 0.05)
                while role in name and left and _ask(handle, "is_drained") is False:
                    patience.wait(0.05)
                    left -= 1


def _ask(handle: Any, method: str, timeout_s: float = STATUS_TIMEOUT_S) -> Any:
    """Call a method and give its result, or the failure as text."""
    try:
        return ray.get(getattr(handle, method).remote(), timeout=timeout_s)
    except RayError as error:
        return f"{type(error).__name__}"


def _result(reference: Any, is_done: bool) -> dict[str, Any]:
    if not is_done:
        return {"state": "no answer"}
    try:
        return {"state": "alive", **ray.get(reference)}
    except RayError as error:
        return {"state": type(error).__name__}


def to_json(part: Any) -> bytes:
    """Give a configuration as JSON, the form in which it crosses processes."""
    return msgspec.json.encode(part.model_dump())
