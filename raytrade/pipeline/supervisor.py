"""`Supervisor`: desired state, placement and status of one pipeline. Control only; its death stops nothing.

Once a second it compares the plan for the nodes there are with the actors there are, and starts what is missing: a
node that joins with the collectors' labels gets its collector without any command. What it must know again after a
restart lies in the cluster (`raytrade.pipeline.desired`).
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from raytrade import __version__
from raytrade.actors.options import create
from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config, StrategyConfig
from raytrade.core.clock import SECOND, Nanos
from raytrade.errors import ConfigError, PipelineError
from raytrade.pipeline import desired
from raytrade.pipeline.planning import NODE_ID, Node, Placement, plan_what_fits, strategy_name
from raytrade.pipeline.problems import reason_of, state_of
from raytrade.pipeline.watcher import Watcher
from raytrade.transport.clock import SystemClock

RECONCILE_S = 1.0
STATUS_TIMEOUT_S = 5.0
ATTACH_TIMEOUT_S = 30.0
DRAIN_S = 15.0
PROBLEMS_KEPT = 20
WATCH_S = 5.0
STUCK_NS = 30 * SECOND
"""So long without a step of `reconcile`, and it hangs."""
STUCK_STATUS = 75
"""Exit status of a supervisor that hangs."""
RETRY_NS = SECOND
RETRY_NS_MAX = 60 * SECOND
"""An actor that ends as soon as it is started is tried again after a growing time."""


def live_nodes() -> list[Node]:
    """Give the nodes that are alive."""
    return [Node(node["NodeID"], node["Labels"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def named_actors() -> set[str]:
    """Give the names of our actors that are running, starting or restarting."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in actors if actor["namespace"] == NAMESPACE}


class Supervisor:
    """Runs one pipeline from its construction on."""

    def __init__(self, config: bytes) -> None:
        self.config = Config.model_validate_json(config)
        self._given = config
        self._nodes: dict[str, str] = {}
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._actors: dict[str, tuple[Any, Placement]] = {}
        self._retries: dict[str, tuple[Nanos, Nanos]] = {}
        self._problems: list[str] = []
        self._stopping = threading.Event()
        if ray.get_runtime_context().was_current_actor_reconstructed:
            self._recall()
        self._progress_ns: Nanos | None = None
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self._watcher = Watcher(self.config.name, self.config.alerts, self.counters)
        self._watcher.start()

    def _recall(self) -> None:
        kept = desired.load(self.config.name)
        if kept is not None:
            self.config = Config.model_validate_json(kept.config)
            self._nodes = kept.nodes

    def _remember(self) -> None:
        state = desired.Desired(self._given, to_json(self.config), self._nodes)
        desired.save(self.config.name, state)

    def _run(self) -> None:
        while not self._stopping.wait(RECONCILE_S):
            try:
                self.reconcile()
            except (RayError, PipelineError, ConfigError) as error:
                self._note(f"{type(error).__name__}: {error}")

    def _watch(self) -> None:
        """End the process when a call to the head does not come back: Ray starts it again as soon as there is a head.

        A call that was under way when the head died need not come back with it.
        """
        while not self._stopping.wait(WATCH_S):
            progress_ns = self._progress_ns
            if progress_ns is not None and self._clock.now_ns() - progress_ns > STUCK_NS:
                os._exit(STUCK_STATUS)

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems = [*self._problems[1 - PROBLEMS_KEPT :], problem]

    # Making it so.

    def reconcile(self) -> list[str]:
        """Start what the plan has and the cluster lacks; gives the names of the planned actors."""
        with self._lock:
            try:
                if not self._stopping.is_set():
                    self._reconcile()
            finally:
                self._progress_ns = None
            return sorted(self._actors)

    def _reconcile(self) -> None:
        self._progress_ns = self._clock.now_ns()
        placements, problems = plan_what_fits(self.config, live_nodes(), self._nodes)
        for problem in problems:
            self._note(str(problem))
        wanted = {placement.plan.name for placement in placements}
        there = named_actors()
        self._end_unwanted(wanted, there)
        for placement in placements:
            self._progress_ns = self._clock.now_ns()
            self._ensure(placement, there)
        nodes = {name: placement.node.node_id for name, (_, placement) in self._actors.items()}
        if nodes != self._nodes:
            self._nodes = nodes
            self._remember()
        self._tell_dedups(placements)

    def _end_unwanted(self, wanted: set[str], there: set[str]) -> None:
        for name in [name for name in self._actors if name not in wanted]:
            ray.kill(self._actors.pop(name)[0])
        for name in (self._nodes.keys() & there) - wanted - self._actors.keys():
            with suppress(ValueError):
                ray.kill(ray.get_actor(name, namespace=NAMESPACE))

    def _ensure(self, placement: Placement, there: set[str]) -> None:
        """Have the actor run on its node: leave it, end it where its node is gone, or start it."""
        name = placement.plan.name
        held = self._actors.get(name)
        if held is not None and held[1].node.node_id != placement.node.node_id:
            ray.kill(held[0])
        elif held is not None and (name in there or self._must_wait(name, held[0])):
            return
        self._actors[name] = (create(placement.plan, {NODE_ID: placement.node.node_id}), placement)

    def _must_wait(self, name: str, handle: Any) -> bool:
        """An actor is dead for good: say why, and tell whether it is too early to start it again."""
        now_ns = self._clock.now_ns()
        due_ns, wait_ns = self._retries.get(name, (0, RETRY_NS))
        if now_ns < due_ns:
            return True
        if due_ns and now_ns - due_ns > RETRY_NS_MAX:
            wait_ns = RETRY_NS
        self._retries[name] = (now_ns + wait_ns, min(2 * wait_ns, RETRY_NS_MAX))
        reason = _ask(handle, "status", timeout_s=1.0)
        if isinstance(reason, str):
            self._note(f"{name}: {reason}")
        return False

    def _tell_dedups(self, placements: list[Placement]) -> None:
        """Tell every dedup every time: one that Ray has started again knows the collectors of its beginning only."""
        collectors = [p.plan.name for p in placements if "-collector-" in p.plan.name]
        for name, (handle, _) in self._actors.items():
            if "-dedup-" in name and collectors:
                handle.set_collectors.remote(collectors)

    # Called by drivers.

    def configuration(self) -> bytes:
        """Give the configuration as it was started."""
        return self._given

    def actors(self) -> dict[str, Any]:
        """Give the handles of all actors by name."""
        with self._lock:
            return {name: handle for name, (handle, _) in self._actors.items()}

    def attach(self, strategy: bytes) -> str:
        """Add a strategy; gives its actor's name.

        Raises:
            ConfigError: the name is taken, the strategy cannot be placed, or it refuses to start.
        """
        part = StrategyConfig.model_validate_json(strategy)
        if any(part.name == other.name for other in self.config.strategies):
            raise ConfigError("", part.name, "a strategy of that name is attached already")
        config = self.config.model_copy(update={"strategies": [*self.config.strategies, part]})
        _, problems = plan_what_fits(config, live_nodes(), self._nodes)
        for problem in problems:
            if problem.key == f"strategies.{part.name}.labels":
                raise problem
        name = strategy_name(config, part.name)
        self._change(config)
        try:
            self.reconcile()
            ray.get(self._actors[name][0].status.remote(), timeout=ATTACH_TIMEOUT_S)
        except RayError as error:
            self._take_off(name)
            raise ConfigError("", part.strategy, reason_of(error)) from None
        return name

    def detach(self, name: str) -> str:
        """Stop and remove a strategy; gives its actor's name.

        Raises:
            ConfigError: there is none of that name.
        """
        if all(part.name != name for part in self.config.strategies):
            known = ", ".join(part.name for part in self.config.strategies) or "none"
            raise ConfigError("", name, f"no such strategy; attached are {known}")
        actor = strategy_name(self.config, name)
        self._take_off(actor)
        return actor

    def _change(self, config: Config) -> None:
        with self._lock:
            self.config = config
            self._remember()

    def _take_off(self, actor: str) -> None:
        kept = [part for part in self.config.strategies if strategy_name(self.config, part.name) != actor]
        self._change(self.config.model_copy(update={"strategies": kept}))
        with self._lock:
            handle, _ = self._actors.pop(actor, (None, None))
            self._retries.pop(actor, None)
        if handle is not None:
            _ask(handle, "stop")
            ray.kill(handle)

    def status(self) -> dict[str, Any]:
        """Gather the status of every actor; one that does not answer in time says so.

        It waits for no lock: while the head is away, whoever holds it waits for the head.
        """
        return self._gather("status")

    def counters(self) -> dict[str, Any]:
        """Gather what is cheap enough for every second: the status less what lines gave to single streams."""
        return self._gather("counters")

    def _gather(self, wanted: str) -> dict[str, Any]:
        actors = self._actors.copy()
        pending = {
            name: getattr(handle, wanted if "-dedup-" in name else "status").remote()
            for name, (handle, _) in actors.items()
        }
        if pending:
            ray.wait(list(pending.values()), num_returns=len(pending), timeout=STATUS_TIMEOUT_S)
        return {
            "name": self.config.name,
            "version": __version__,
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "strategies": [part.name for part in self.config.strategies],
            "problems": self._problems,
            "alerts": self._watcher.summary(),
            "actors": {
                name: {"node": actors[name][1].node.node_id, **_result(reference)}
                for name, reference in pending.items()
            },
        }

    def version(self) -> dict[str, str]:
        """Give the pipeline's name and the version it runs."""
        return {"name": self.config.name, "version": __version__}

    def incidents(self, since: int = 0) -> list[dict[str, Any]]:
        """Give the pipeline's incidents from number `since` on, oldest first."""
        return self._watcher.incidents(since)

    # The end.

    def stop(self, drain: bool = True) -> list[str]:
        """Stop the lines, let everything drain, write the files, end the actors; gives what went wrong."""
        self._stopping.set()
        self._watcher.stop()
        self._thread.join(30)
        with self._lock:
            problems = self._drain() if drain else []
            for handle, _ in self._actors.values():
                ray.kill(handle)
            self._actors.clear()
        desired.forget(self.config.name)
        return problems

    def _drain(self) -> list[str]:
        problems = []
        for role in ("-collector-", "-recorder-", "-strategy-"):
            if role == "-recorder-":
                self._wait_drained()
            for name, (handle, _) in self._actors.items():
                if role in name:
                    problem = _ask(handle, "stop", timeout_s=120)
                    if problem:
                        problems.append(f"{name}: {problem}")
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
        return state_of(error)


def _result(reference: Any) -> dict[str, Any]:
    try:
        return {"state": "alive", **ray.get(reference, timeout=0)}
    except RayError as error:
        return {"state": state_of(error)}


def to_json(part: Any) -> bytes:
    """Give a configuration as JSON, the form in which it crosses processes."""
    return msgspec.json.encode(part.model_dump())
