"""`Fleet`: the actors of one pipeline, as far as they have been started, and what it takes to change them.

It starts what a plan has, hands every actor what has changed since it was started, and ends what is not wanted any
more once that is replaced. All methods are called under the supervisor's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec
import ray
from ray.exceptions import RayError

from raytrade.actors.collector import BudgetPlan, CollectorPlan, CollectorWork, LinePlan
from raytrade.actors.collector import Held as HeldLine
from raytrade.actors.dedup import DedupPlan
from raytrade.actors.gateway import GatewayPlan
from raytrade.actors.options import ActorPlan, create
from raytrade.actors.recorder import RecorderPlan
from raytrade.actors.strategy import StrategyPlan
from raytrade.actors.upstreams import NAMESPACE
from raytrade.core.clock import SECOND, Nanos
from raytrade.pipeline.moves import Role, Standby, can_replace, lines_to_run
from raytrade.pipeline.planning import NODE_ID, Node, Placement
from raytrade.pipeline.problems import state_of

ASK_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 120.0
CONSUMERS = ("strategy", "recorder", "gateway")
RETELL_NS = 3 * SECOND
"""An actor that Ray has started anew follows its first plan again: what has changed since is told again so often."""
NO_BUDGET = BudgetPlan(1)


class Running(msgspec.Struct):
    """A started actor. `plan` is that of its start; None for one that was found running."""

    handle: Any
    base: str
    node_id: str
    plan: ActorPlan | None = None


class Fleet:
    """See the module."""

    def __init__(self, pipeline: str) -> None:
        self._prefix = f"{pipeline}-"
        self.actors: dict[str, Running] = {}
        self.waiting: dict[str, str] = {}
        """What is still there although it is not wanted, and why."""
        self._placements: dict[str, Placement] = {}
        self._lines: dict[str, list[LinePlan]] = {}
        self._settled: dict[str, list[LinePlan]] | None = None
        self._told: dict[str, object] = {}
        self._gateways: dict[str, str] = {}
        self._told_ns: Nanos = 0
        self._handed: dict[str, bytes] = {}
        """What gateways that had to end first have handed over, by base."""

    def names(self, role: Role) -> list[str]:
        """Give the actors of a role, wanted or still there."""
        return sorted(name for name in self.actors if self.role_of(name) == role)

    def role_of(self, name: str) -> Role:
        """Give the role of an actor by its name."""
        return cast(Role, name.removeprefix(self._prefix).partition("-")[0])

    def adopt(self, nodes: Mapping[str, str], there: set[str]) -> None:
        """Take over what an earlier supervisor has started."""
        for name in (nodes.keys() & there) - self.actors.keys():
            with suppress(ValueError):
                handle = ray.get_actor(name, namespace=NAMESPACE)
                self.actors[name] = Running(handle, name.partition("~")[0], nodes[name])

    def start(self, placement: Placement) -> None:
        """Start an actor, unless its predecessor must have ended first."""
        name = placement.plan.name
        plan = placement.plan
        if isinstance(plan, CollectorPlan) and self._lines:
            plan = msgspec.structs.replace(plan, is_late=True)
        if isinstance(plan, StrategyPlan) and self._predecessors(name, placement.base):
            plan = msgspec.structs.replace(plan, is_late=True)
        handle = create(plan, {NODE_ID: placement.node.node_id})
        self.actors[name] = Running(handle, placement.base, placement.node.node_id, placement.plan)
        if placement.base in self._handed:
            handle.take_over.remote(self._handed.pop(placement.base))

    def _predecessors(self, name: str, base: str) -> list[str]:
        """Give the other generations of an actor that are still there."""
        return [one for one, running in self.actors.items() if running.base == base and one != name]

    def steer(self, placements: list[Placement], nodes: list[Node], now_ns: Nanos) -> None:
        """Move lines, tell everybody of everybody, and end what is replaced."""
        self._placements = {placement.plan.name: placement for placement in placements}
        for name in [name for name in self.actors if name not in self._placements]:
            if all(node.node_id != self.actors[name].node_id for node in nodes):
                self._forget(name)
        self._move_lines()
        self._tell(now_ns)
        self._retire({node.node_id: node for node in nodes})

    def must_wait(self, placement: Placement, nodes: list[Node]) -> bool:
        """Tell whether an actor must wait for the end of its predecessor: it has what only one may have at a time.

        That is the account of a gateway, and of a recorder its directory, where both are on one host.
        """
        if isinstance(placement.plan, GatewayPlan):
            return bool(self._predecessors(placement.plan.name, placement.base))
        addresses = {node.node_id: node.address for node in nodes}
        return any(
            running.base == placement.base
            and name != placement.plan.name
            and self._shares_files(running, placement, addresses)
            for name, running in self.actors.items()
        )

    @staticmethod
    def _shares_files(running: Running, placement: Placement, addresses: Mapping[str, str]) -> bool:
        if not isinstance(placement.plan, RecorderPlan):
            return False
        if isinstance(running.plan, RecorderPlan) and running.plan.directory != placement.plan.directory:
            return False
        return addresses.get(running.node_id, "") == placement.node.address

    # Lines.

    def _move_lines(self) -> None:
        wanted = {name: part.plan.lines for name, part in self._plans(CollectorPlan)}
        mine = {name: wanted.get(name, []) for name in self.names("collector")}
        if self._settled == mine:
            return
        running, served = self._running_lines()
        given = lines_to_run(mine, running, served)
        for name in mine:
            if given[name] != running.get(name):
                self._told[name] = None
        self._lines = given
        is_settled = all(running.get(name) == lines for name, lines in mine.items())
        self._settled = mine if is_settled else None

    def _plans(self, kind: type[ActorPlan]) -> list[tuple[str, Any]]:
        return [(name, part) for name, part in self._placements.items() if isinstance(part.plan, kind)]

    def _running_lines(self) -> tuple[dict[str, list[LinePlan]], set[str]]:
        """Give the lines that run, and those that deliver and that every dedup knows."""
        collectors = self.names("collector")
        answers = ask_all({name: self.actors[name].handle.held for name in collectors})
        held = {name: msgspec.msgpack.decode(data, type=list[HeldLine]) for name, data in answers.items()}
        running = {name: list(self._lines.get(name, [])) for name in collectors}
        running |= {name: [line.plan for line in lines] for name, lines in held.items()}
        serving = {line.plan.name for lines in held.values() for line in lines if line.is_served}
        standbys = self._standbys(self.names("dedup"))
        known = [set(standbys[name].lines) if name in standbys else set() for name in self.names("dedup")]
        return running, serving.intersection(*known) if known else set()

    def _standbys(self, names: Iterable[str]) -> dict[str, Standby]:
        answers = ask_all({name: self.actors[name].handle.readiness for name in names})
        return {name: msgspec.convert(answer, Standby) for name, answer in answers.items()}

    # Telling.

    def _tell(self, now_ns: Nanos) -> None:
        """Hand every actor what it must know, when it changes and now and then again."""
        if now_ns - self._told_ns >= RETELL_NS:
            self._told_ns = now_ns
            self._told.clear()
            self._gateways.clear()
            self._begin_orphans()
        dedups = self.followed()
        for name, running in self.actors.items():
            news, first = self._news(name, running.plan, dedups)
            if self._told.get(name, first) != news:
                match self.role_of(name):
                    case "collector":
                        running.handle.run_lines.remote(msgspec.msgpack.encode(news))
                    case "dedup":
                        running.handle.set_collectors.remote(news)
                    case _:
                        running.handle.set_dedups.remote(news)
            self._told[name] = news
            self._tell_gateway(name, running)

    def _tell_gateway(self, name: str, running: Running) -> None:
        """Tell a replica of a strategy the present generation of its gateway."""
        placement = self._placements.get(name)
        plan = running.plan if placement is None else placement.plan
        first = running.plan.gateway if isinstance(running.plan, StrategyPlan) else ""
        if isinstance(plan, StrategyPlan) and self._gateways.get(name, first) != plan.gateway:
            running.handle.set_gateway.remote(plan.gateway)
            self._gateways[name] = plan.gateway

    def _begin_orphans(self) -> None:
        """A strategy in another one's place need not wait once that is gone; to one that has begun it is nothing."""
        for name, running in self.actors.items():
            if self.role_of(name) == "strategy" and "~" in name and not self._predecessors(name, running.base):
                running.handle.take_over.remote(b"")

    def _news(self, name: str, plan: ActorPlan | None, dedups: list[str]) -> tuple[object, object]:
        """Give what an actor must know now, and what it was started with."""
        match plan, self.role_of(name):
            case CollectorPlan(), _:
                return self._work(name), plan.work
            case DedupPlan(), _:
                return self.names("collector"), sorted(plan.collectors)
            case ((StrategyPlan() | RecorderPlan() | GatewayPlan()), _):
                return dedups, sorted(plan.dedups)
            case _, "collector":
                return self._work(name), None
            case _, "dedup":
                return self.names("collector"), None
            case _:
                return dedups, None

    def _work(self, name: str) -> CollectorWork:
        placement = self._placements.get(name)
        lines = self._lines.get(name, [])
        if placement is None or not isinstance(placement.plan, CollectorPlan):
            return CollectorWork(lines, {line.venue: NO_BUDGET for line in lines})
        budgets = {line.venue: NO_BUDGET for line in lines} | placement.plan.budgets
        return CollectorWork(lines, budgets)

    def followed(self) -> list[str]:
        """Give the dedups that consumers follow."""
        return [name for name in self.names("dedup") if self._is_followed(name)]

    def _is_followed(self, dedup: str) -> bool:
        """A dedup that is to go is followed as long as it has a successor to be compared with."""
        base = self.actors[dedup].base
        return dedup in self._placements or any(part.base == base for part in self._placements.values())

    # Ending.

    def _retire(self, nodes: Mapping[str, Node]) -> None:
        """End what is not wanted any more and is replaced."""
        leaving = [name for name in self.actors if name not in self._placements]
        self.waiting = {}
        successors = {part.base: part for part in self._placements.values()}
        watched = [
            name for name in leaving if self.role_of(name) != "collector" and self.actors[name].base in successors
        ]
        others = [name for name in self.actors if self.role_of(name) != "collector"] if watched else []
        standbys = self._standbys(others)
        for name in leaving:
            successor = successors.get(self.actors[name].base)
            problem = self._keep_reason(name, successor, standbys, nodes)
            if problem:
                self.waiting[name] = problem
            else:
                self._replace(name, successor)
        for name, lines in self._lines.items():
            placement = self._placements.get(name)
            wanted = placement.plan.lines if placement and isinstance(placement.plan, CollectorPlan) else []
            for line in lines:
                if line.name not in {one.name for one in wanted}:
                    self.waiting[line.name] = "runs until the line in its place is up"

    def _keep_reason(
        self, name: str, successor: Placement | None, standbys: Mapping[str, Standby], nodes: Mapping[str, Node]
    ) -> str:
        """Say why an actor that is not wanted must stay a while, or nothing."""
        running, role = self.actors[name], self.role_of(name)
        if role == "collector":
            if self._lines.get(name):
                return "its lines run until others are up"
            held = ask_all({name: running.handle.held}).get(name)
            is_empty = held is None or not msgspec.msgpack.decode(held, type=list[HeldLine])
            drained = ask_all({name: running.handle.is_drained}).get(name, True)
            return "" if is_empty and drained else "hands on what it has"
        addresses = {node_id: node.address for node_id, node in nodes.items()}
        if successor is None or role == "gateway" or self._shares_files(running, successor, addresses):
            return ""
        writers = set(self.names("collector" if role == "dedup" else "dedup"))
        readers = {one for one in self.actors if self.role_of(one) in CONSUMERS}
        if can_replace(successor.plan.name, name, role, standbys, writers, readers):
            return ""
        return f"runs until {successor.plan.name} on {successor.node.node_id[:8]} can take its place"

    def _replace(self, name: str, successor: Placement | None) -> None:
        """End an actor; a strategy or a gateway gives what it has to the one in its place.

        A strategy that is another one now, or has other parameters, begins anew.
        """
        running, role = self.actors[name], self.role_of(name)
        handed: object = None
        if successor is not None and role in ("strategy", "gateway") and _is_same(running.plan, successor.plan):
            handed = ask(running.handle, "hand_over")
        if isinstance(handed, bytes):
            self._forget(name)
        else:
            self.end(name)
        data = handed if isinstance(handed, bytes) else b""
        if successor is not None and role == "gateway":
            self._handed[successor.base] = data
        elif successor is not None and role == "strategy" and successor.plan.name in self.actors:
            self.actors[successor.plan.name].handle.take_over.remote(data)

    def end(self, name: str) -> None:
        """Stop an actor; a recorder's files are complete then."""
        if self.role_of(name) in CONSUMERS:
            ask(self.actors[name].handle, "stop", STOP_TIMEOUT_S)
        self._forget(name)

    def _forget(self, name: str) -> None:
        ray.kill(self.actors.pop(name).handle)
        self._lines.pop(name, None)
        self._told.pop(name, None)
        self._gateways.pop(name, None)


def _is_same(old: ActorPlan | None, new: ActorPlan) -> bool:
    """Tell whether a strategy goes on elsewhere: it is the same one, and has neither a journal nor a warm-up.

    Of one that was found running that is not known here.
    """
    if not isinstance(old, StrategyPlan) or not isinstance(new, StrategyPlan):
        return True
    if new.journal or new.warmup is not None:
        return False
    return (old.strategy, old.params) == (new.strategy, new.params)


def ask(handle: Any, method: str, timeout_s: float = 5.0) -> Any:
    """Call a method and give its result, or the failure as text."""
    try:
        return ray.get(getattr(handle, method).remote(), timeout=timeout_s)
    except RayError as error:
        return state_of(error)


def ask_all(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Call all methods at once; give the results of those that answer in time."""
    pending = {name: method.remote() for name, method in methods.items()}
    if pending:
        ray.wait(list(pending.values()), num_returns=len(pending), timeout=ASK_TIMEOUT_S)
    answers = {}
    for name, reference in pending.items():
        with suppress(RayError):
            answers[name] = ray.get(reference, timeout=0)
    return answers
