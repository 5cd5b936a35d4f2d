"""`Supervisor`: desired state, placement and status of one pipeline. Control only; its death stops nothing.

Once a second it compares the plan for the nodes there are with the actors there are, and starts what is missing: a
node that joins with the collectors' labels gets its share without any command. What it must know again after a
restart lies in the cluster (`raytrade.pipeline.desired`).
"""

from __future__ import annotations

import os
import threading
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from raytrade import __version__
from raytrade.actors.recorder import RecorderPlan
from raytrade.actors.upstreams import NAMESPACE
from raytrade.config import Config, StrategyConfig
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.message import SCHEMA_VERSION
from raytrade.errors import ConfigError, PipelineError
from raytrade.pipeline import desired
from raytrade.pipeline.changes import describe, merged, replaced
from raytrade.pipeline.fleet import STOP_TIMEOUT_S, Fleet, ask
from raytrade.pipeline.moves import Role, left_behind
from raytrade.pipeline.planning import Node, Placement, Plan, Standing, plan_what_fits, strategy_base, strategy_bases
from raytrade.pipeline.problems import reason_of, state_of
from raytrade.pipeline.watcher import Watcher
from raytrade.transport.clock import SystemClock

DEDUPS: tuple[Role, ...] = ("regional", "dedup")
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
LEASE_NS = 180 * SECOND
"""A driver that has begun a change and says nothing more for so long is taken for dead."""


def live_nodes() -> list[Node]:
    """Give the nodes that are alive."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(node["NodeID"], node["Labels"], node["NodeName"], node["NodeManagerAddress"])
        for node in nodes
        if node["Alive"]
    ]


def named_actors() -> set[str]:
    """Give the names of our actors that are running, starting or restarting."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in actors if actor["namespace"] == NAMESPACE}


class Supervisor:
    """Runs one pipeline from its construction on."""

    def __init__(self, config: bytes, code_folder: str = "") -> None:
        """`code_folder`: where the code of the actors lies that it starts; "": where it is installed."""
        self.config = Config.model_validate_json(config)
        self._desired = desired.Desired(config, config)
        self._before: desired.Desired | None = None
        self._driver, self._driver_until_ns = "", 0
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._fleet = Fleet(self.config.name, code_folder)
        self._retries: dict[str, tuple[Nanos, Nanos]] = {}
        self._problems: list[str] = []
        self._plan = Plan([], [], [])
        self._stopping = threading.Event()
        self._recall()
        self._progress_ns: Nanos | None = None
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self._watcher = Watcher(self.config.name, self.config.alerts, self.counters)
        self._watcher.start()

    def _recall(self) -> None:
        """Go on from what an earlier supervisor has left, if anything of it still runs."""
        kept = desired.load(self.config.name)
        if kept is not None and kept.nodes.keys() & named_actors():
            self._desired = kept
            self.config = Config.model_validate_json(kept.config)

    def _remember(self, **changes: Any) -> None:
        self._desired = msgspec.structs.replace(self._desired, config=to_json(self.config), **changes)
        desired.save(self.config.name, self._desired)

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
        """Start what the plan has and the cluster lacks, end what it has not; gives the names of the planned actors."""
        with self._lock:
            try:
                if not self._stopping.is_set():
                    self._reconcile()
            finally:
                self._progress_ns = None
            return sorted(placement.plan.name for placement in self._plan.placements)

    def _reconcile(self) -> None:
        self._progress_ns = self._clock.now_ns()
        nodes, there = live_nodes(), named_actors()
        self._fleet.adopt(self._desired.nodes, there)
        self._plan = self._plan_for(nodes)
        for problem in self._plan.problems:
            self._note(str(problem))
        for placement in self._plan.placements:
            self._progress_ns = self._clock.now_ns()
            self._ensure(placement, there, nodes)
        homes = {name: running.node_id for name, running in self._fleet.actors.items()}
        if homes != self._desired.nodes:
            self._remember(nodes=homes)
        self._progress_ns = self._clock.now_ns() + int(STOP_TIMEOUT_S * SECOND)  # a recorder may have much to write
        self._fleet.steer(self._plan.placements, nodes, self._clock.now_ns())

    def _plan_for(self, nodes: list[Node]) -> Plan:
        """Plan; an actor that leaves a living node gets a new name, so that old and new can run side by side."""
        plan = plan_what_fits(self.config, nodes, self._standing())
        alive = {node.node_id for node in nodes}
        moved = []
        for placement in plan.placements:
            held = self._fleet.actors.get(placement.plan.name)
            if held is not None and held.node_id in alive and held.node_id != placement.node.node_id:
                moved.append(placement.base)
        if not moved:
            return plan
        self._renew(moved)
        return plan_what_fits(self.config, nodes, self._standing())

    def _standing(self) -> Standing:
        state = self._desired
        return Standing(state.nodes, state.generations, frozenset(state.drained))

    def _renew(self, bases: list[str]) -> None:
        """Give these actors and shares a new generation."""
        known = self._desired.generations
        self._remember(generations=known | {base: known.get(base, 1) + 1 for base in bases})

    def _ensure(self, placement: Placement, there: set[str], nodes: list[Node]) -> None:
        """Have the actor run on its node: leave it, end it where its node is gone, or start it."""
        name = placement.plan.name
        held = self._fleet.actors.get(name)
        if held is not None and held.node_id != placement.node.node_id:
            ray.kill(held.handle)
        elif held is not None and (name in there or self._must_wait(name, held.handle)):
            return
        if not self._fleet.must_wait(placement, nodes):
            self._fleet.start(placement)
            self._note_recording(placement)

    def _note_recording(self, placement: Placement) -> None:
        """Say so where a recorder leaves its files behind on another host."""
        plan, base, address = placement.plan, placement.base, placement.node.address
        known = self._desired.recordings
        if not isinstance(plan, RecorderPlan) or known.get(base) == address:
            return
        told = left_behind(plan.name, plan.directory, known.get(base, ""), address)
        if told:
            self._note(told)
        self._remember(recordings=known | {base: address})

    def _must_wait(self, name: str, handle: Any) -> bool:
        """An actor is dead for good: say why, and tell whether it is too early to start it again."""
        now_ns = self._clock.now_ns()
        due_ns, wait_ns = self._retries.get(name, (0, RETRY_NS))
        if now_ns < due_ns:
            return True
        if due_ns and now_ns - due_ns > RETRY_NS_MAX:
            wait_ns = RETRY_NS
        self._retries[name] = (now_ns + wait_ns, min(2 * wait_ns, RETRY_NS_MAX))
        reason = ask(handle, "status", timeout_s=1.0)
        if isinstance(reason, str):
            self._note(f"{name}: {reason}")
        return False

    # Called by drivers.

    def configuration(self) -> bytes:
        """Give the configuration as it is now."""
        return to_json(self.config)

    def followed(self) -> list[str]:
        """Give the dedups that consumers follow now; waits for no lock."""
        return self._fleet.followed()

    def actors(self) -> dict[str, Any]:
        """Give the handles of the planned actors that were started, by name."""
        with self._lock:
            wanted = {placement.plan.name for placement in self._plan.placements}
            return {name: running.handle for name, running in self._fleet.actors.items() if name in wanted}

    def begin(self, config: bytes, driver: str, allow_degraded: bool) -> list[str]:
        """A driver wants this configuration from now on; gives what that changes. It must say `settled` at the end.

        Raises:
            ConfigError: another driver is at work, or it cannot be. Nothing was moved then.
        """
        self._lease(driver)
        new, given = Config.model_validate_json(config), Config.model_validate_json(self._desired.given)
        if new == given:
            return []
        try:
            target = merged(given, self.config, new)
            plan = plan_what_fits(target, live_nodes(), self._standing())
            for problem in [*plan.problems, *([] if allow_degraded else plan.degraded)]:
                raise problem
        except ConfigError:
            self.settled(driver)
            raise
        changes = describe(self.config, target)
        with self._lock:
            self._before = self._desired
            renewed = replaced(self.config, target)
            self.config = target
            self._desired = msgspec.structs.replace(self._desired, given=config)
            self._renew(renewed)
            self._watcher.set_alerts(target.alerts)
        return changes

    def _lease(self, driver: str) -> None:
        now_ns = self._clock.now_ns()
        if self._driver not in ("", driver) and now_ns < self._driver_until_ns:
            problem = f"another driver ({self._driver}) is starting or changing it: wait until it has finished"
            raise ConfigError("", f"name {self.config.name!r}", problem)
        self._driver, self._driver_until_ns = driver, now_ns + LEASE_NS

    def settled(self, driver: str) -> None:
        """The driver has finished."""
        if driver == self._driver:
            self._driver, self._before = "", None

    def revert(self, driver: str) -> None:
        """What the driver began does not come up: go back to what was."""
        before = self._before
        if driver == self._driver and before is not None:
            with self._lock:
                self.config = Config.model_validate_json(before.config)
                self._watcher.set_alerts(self.config.alerts)
                self._remember(given=before.given, generations=before.generations)
        self.settled(driver)

    def pending(self) -> dict[str, str]:
        """Give what is still to be moved or ended, each with what it waits for."""
        with self._lock:
            absent = {p.plan.name: "is not started yet" for p in self._plan.placements}
            return {n: why for n, why in absent.items() if n not in self._fleet.actors} | self._fleet.waiting

    def drain(self, node_id: str) -> list[str]:
        """Give the node nothing any more and move what it has; gives the names of the actors that run there.

        Raises:
            ConfigError: what runs there has no other node. Nothing was moved then.
        """
        with self._lock:
            nodes, standing = live_nodes(), self._standing()
            without = msgspec.structs.replace(standing, drained=standing.drained | {node_id})
            known = {problem.key for problem in plan_what_fits(self.config, nodes, standing).problems}
            for problem in plan_what_fits(self.config, nodes, without).problems:
                if problem.key not in known:
                    raise ConfigError("", f"drain {node_id[:12]}", f"nothing else can take over: {problem}")
            self._remember(drained=sorted(without.drained))
            return self._on_node(node_id)

    def undrain(self, node_id: str) -> bool:
        """Let the node have its share again; tells whether it was drained."""
        with self._lock:
            was_drained = node_id in self._desired.drained
            self._remember(drained=[one for one in self._desired.drained if one != node_id])
            return was_drained

    def on_node(self, node_id: str) -> list[str]:
        """Give the names of the actors that run on a node."""
        with self._lock:
            return self._on_node(node_id)

    def _on_node(self, node_id: str) -> list[str]:
        return sorted(name for name, running in self._fleet.actors.items() if running.node_id == node_id)

    def renew(self, node_ids: list[str]) -> list[str]:
        """Have every actor on these nodes replaced by one that is started now; gives their names."""
        with self._lock:
            nodes = live_nodes()
            leaving = [name for node_id in node_ids for name in self._on_node(node_id)]
            self._renew(sorted({self._fleet.actors[name].base for name in leaving}))
            self._plan = self._plan_for(nodes)
            return leaving

    def lease(self, driver: str) -> None:
        """A driver begins, or goes on with, something that takes several calls; it must say `settled` at the end.

        Raises:
            ConfigError: another driver is at work.
        """
        self._lease(driver)

    def attach(self, strategy: bytes) -> str:
        """Add a strategy; gives its actor's name.

        Raises:
            ConfigError: the name is taken, the strategy cannot be placed, or it refuses to start.
        """
        part = StrategyConfig.model_validate_json(strategy)
        if any(part.name == other.name for other in self.config.strategies):
            raise ConfigError("", part.name, "a strategy of that name is attached already")
        config = self.config.model_copy(update={"strategies": [*self.config.strategies, part]})
        for problem in plan_what_fits(config, live_nodes(), self._standing()).problems:
            if problem.key == f"strategies.{part.name}.labels":
                raise problem
        name = self._standing().named(strategy_base(config, part.name))
        self._change(config)
        try:
            self.reconcile()
            ray.get(self._fleet.actors[name].handle.status.remote(), timeout=ATTACH_TIMEOUT_S)
        except RayError as error:
            self._take_off(part.name)
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
        return self._take_off(name)

    def _change(self, config: Config) -> None:
        with self._lock:
            self.config = config
            self._remember()

    def _take_off(self, name: str) -> str:
        actor = self._standing().named(strategy_base(self.config, name))
        actors = [self._standing().named(base) for base in strategy_bases(self.config, name)]
        kept = [part for part in self.config.strategies if part.name != name]
        self._change(self.config.model_copy(update={"strategies": kept}))
        with self._lock:
            for one in actors:
                self._retries.pop(one, None)
                if one in self._fleet.actors:
                    self._fleet.end(one)
        return actor

    def status(self) -> dict[str, Any]:
        """Gather the status of every actor; one that does not answer in time says so.

        It waits for no lock: while the head is away, whoever holds it waits for the head.
        """
        return self._gather("status")

    def counters(self) -> dict[str, Any]:
        """Gather what is cheap enough for every second: the status less what lines gave to single streams."""
        return self._gather("counters")

    def _gather(self, wanted: str) -> dict[str, Any]:
        actors = self._fleet.actors.copy()
        pending = {
            name: getattr(running.handle, wanted if self._fleet.role_of(name) in DEDUPS else "status").remote()
            for name, running in actors.items()
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
            "degraded": [str(problem) for problem in self._plan.degraded],
            "waiting": dict(self._fleet.waiting),
            "drained": self._desired.drained,
            "alerts": self._watcher.summary(),
            "actors": {
                name: {"node": actors[name].node_id, **_result(reference)} for name, reference in pending.items()
            },
        }

    def version(self) -> dict[str, Any]:
        """Give the pipeline's name and the version it runs."""
        return {"name": self.config.name, "version": __version__, "schema": SCHEMA_VERSION}

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
            for running in self._fleet.actors.values():
                ray.kill(running.handle)
            self._fleet.actors.clear()
        desired.forget(self.config.name)
        return problems

    def _drain(self) -> list[str]:
        problems = []
        roles: tuple[Role, ...] = ("collector", "recorder", "strategy", "gateway")
        for role in roles:
            if role == "recorder":
                self._wait_drained()
            for name in self._fleet.names(role):
                problem = ask(self._fleet.actors[name].handle, "stop", timeout_s=120)
                if problem:
                    problems.append(f"{name}: {problem}")
        return problems

    def _wait_drained(self) -> None:
        """Wait until collectors, then the dedups of the regions, then the others, have handed everything on."""
        patience = threading.Event()
        roles: tuple[Role, ...] = ("collector", *DEDUPS)
        for name in [name for role in roles for name in self._fleet.names(role)]:
            left = int(DRAIN_S / 0.05)
            while left and ask(self._fleet.actors[name].handle, "is_drained") is False:
                patience.wait(0.05)
                left -= 1


def _result(reference: Any) -> dict[str, Any]:
    try:
        return {"state": "alive", **ray.get(reference, timeout=0)}
    except RayError as error:
        return {"state": state_of(error)}


def to_json(part: Any) -> bytes:
    """Give a configuration as JSON, the form in which it crosses processes."""
    return msgspec.json.encode(part.model_dump())
