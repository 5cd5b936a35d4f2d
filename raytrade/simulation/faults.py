"""`Injector`: turns the faults of a plan into what happens, and tells the checker what they touch."""

from __future__ import annotations

from raytrade.core.clock import SECOND, Nanos
from raytrade.simulation.checks import Calm
from raytrade.simulation.cluster import Cluster
from raytrade.simulation.network import LinkFault
from raytrade.simulation.plan import ANY_LINE, COLLECTORS, VENUES, Fault
from raytrade.simulation.world import World

SETTLE_NS = 6 * SECOND
"""How long after a fault an actor or a link may still be finding its feet."""
ARMED_NS = 2 * SECOND
"""How long an actor that is to die at a step may take to come there."""


class Injector:
    """Starts and ends every fault at its time."""

    def __init__(self, world: World, cluster: Cluster, calm: Calm) -> None:
        self._world = world
        self._cluster = cluster
        self._calm = calm
        self.end_ns: Nanos = 0
        """When the last fault is over."""

    def plan(self, faults: tuple[Fault, ...]) -> None:
        """Enter the faults into the queue."""
        for fault in faults:
            start_ns = self._world.now_ns + fault.start_ns
            self.end_ns = max(self.end_ns, start_ns + fault.duration_ns)
            self._world.at(start_ns, self._start, fault)

    def _start(self, fault: Fault) -> None:
        self._world.note("fault", f"{fault.kind} {fault.target} begins")
        match fault.kind:
            case "crash" | "step" | "pause" | "clock":
                self._start_at_actor(fault)
            case "link" | "partition":
                self._start_at_link(fault)
            case "slow_disk" | "full_disk" | "slow_consumer":
                self._start_at_consumer(fault)
            case "rest":
                self._set_rest(fault.target, True)
                self._world.after(fault.duration_ns, self._set_rest, fault.target, False)
            case "crossing":
                self._cluster.venues[fault.target.partition("/")[2]].cross()
            case _:
                self._start_at_lines(fault)

    def _touch(self, element: str, duration_ns: Nanos) -> None:
        now_ns = self._world.now_ns
        self._calm.touch(element, now_ns - SECOND // 2, now_ns + duration_ns + SETTLE_NS)

    # Actors.

    def _start_at_actor(self, fault: Fault) -> None:
        world, name = self._world, fault.target
        self._touch(name, fault.duration_ns)
        match fault.kind:
            case "crash":
                self._cluster.down_ns[name] = fault.duration_ns
                self._cluster.network.crash(name)
            case "step":
                self._touch(name, fault.duration_ns + ARMED_NS)
                self._cluster.down_ns[name] = fault.duration_ns
                world.crash_in[name] = int(fault.amount)
                world.after(ARMED_NS, self._disarm, name)
            case "pause":
                self._cluster.pause(name, fault.duration_ns)
            case _:
                world.offsets_ns[name] = world.offsets_ns.get(name, 0) + int(fault.amount)
                self._touch(name, abs(int(fault.amount)))

    def _disarm(self, name: str) -> None:
        self._world.crash_in.pop(name, None)

    def _start_at_link(self, fault: Fault) -> None:
        one, _, other = fault.target.partition(">")
        is_cut = fault.kind == "partition"
        share = fault.amount
        trouble = LinkFault(is_cut=True) if is_cut else LinkFault(lose=share, repeat=share, reorder=share)
        self._cluster.network.faults[one, other] = trouble
        self._touch(fault.target, fault.duration_ns)
        self._world.after(fault.duration_ns, self._end_at_link, one, other)

    def _end_at_link(self, one: str, other: str) -> None:
        self._cluster.network.faults.pop((one, other), None)

    def _start_at_consumer(self, fault: Fault) -> None:
        self._touch(fault.target, fault.duration_ns)
        self._cluster.trouble(fault.kind, fault.target, int(fault.amount))
        self._world.after(fault.duration_ns, self._cluster.trouble, fault.kind, fault.target, 0)

    def _set_rest(self, venue: str, is_failing: bool) -> None:
        self._cluster.venues[venue].rest_failing = is_failing

    # Lines.

    @staticmethod
    def lines(target: str) -> list[str]:
        """Give the lines that a fault hits."""
        collector, _, venue = target.partition("/")
        collectors = COLLECTORS if collector == ANY_LINE else (collector,)
        venues = VENUES if venue == ANY_LINE else (venue,)
        return [f"{each}/{of}" for each in collectors for of in venues]

    def _start_at_lines(self, fault: Fault) -> None:
        for name in self.lines(fault.target):
            path = self._cluster.paths[name]
            match fault.kind:
                case "cut":
                    path.active["refuse"] = 1.0
                    self._cluster.cut(name)
                case "stall":
                    path.active["stall"] = float(self._world.now_ns + fault.duration_ns)
                case _:
                    path.active[fault.kind] = 1.0 if fault.kind == "blackout" else fault.amount
            self._world.after(fault.duration_ns, self._end_at_line, name, fault.kind)

    def _end_at_line(self, name: str, kind: str) -> None:
        self._cluster.paths[name].active.pop("refuse" if kind == "cut" else kind, None)
