"""Carries a drawn fault out on the pipeline of a soak, whose processes are all on this host."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from raytrade.chaos import processes, venue_lines
from raytrade.chaos.draw import DAMAGE, DAMAGE_SHARE, Action, Fault
from raytrade.chaos.targets import Target, lines_up, running
from raytrade.core.clock import Nanos
from raytrade.errors import PipelineError
from raytrade.transport.clock import SystemClock

Status = Mapping[str, Any]
WINDOW_S = 1.0
"""For so long after a fault nothing else is done: what is measured is the fault."""


class Hit(msgspec.Struct, kw_only=True):
    """A fault that was carried out: on whom, when, until when it lasted, and who is dead because of it."""

    fault: Fault
    target: str
    at_ns: Nanos
    over_ns: Nanos = 0
    held_s: float = 0.0
    gone: set[int] = set()
    node: str = ""


class Striker:
    """Strikes, and holds the restart of what was killed back for `hold_s`."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._clock = SystemClock()
        self._patience = threading.Event()

    def strike(self, fault: Fault, status: Status, nodes: list[str]) -> Hit:
        """Carry the fault out; gives what was done when it is over. `nodes`: those that may be killed.

        Raises:
            PipelineError: its target has just gone.
        """
        if fault.action is Action.KILL and fault.role == "node":
            return self._kill_node(fault.choose(nodes), fault)
        if fault.role == "line":
            return self._hit_line(fault, status)
        candidates = running(status, fault.role)
        if not candidates:
            raise PipelineError(f"no {fault.role} runs")
        target = fault.choose(candidates)
        if fault.action is Action.KILL:
            return self.kill([target], fault)
        hit = Hit(fault=fault, target=target.name, at_ns=self._clock.now_ns())
        if fault.action is Action.PAUSE:
            processes.pause_actor(target.pid, target.role, fault.seconds)
        else:
            processes.fill_disk(target.pid, fault.seconds)
        return self._over(hit)

    def kill(self, targets: list[Target], fault: Fault) -> Hit:
        """SIGKILL actors at the same moment; Ray starts them again after the hold-back."""
        held = [processes.stop_raylet(node) for node in {target.node for target in targets}] if self._hold_s else []
        try:
            name = " and ".join(target.name for target in targets)
            hit = Hit(fault=fault, target=name, at_ns=self._clock.now_ns(), held_s=self._hold_s)
            hit.gone = {processes.kill_actor(target.pid, target.role) for target in targets}
            self._patience.wait(self._hold_s or WINDOW_S)
        finally:
            for pid in held:
                processes.go_on(pid)
        hit.over_ns = self._clock.now_ns() if held else hit.at_ns
        return hit

    def _kill_node(self, node: str, fault: Fault) -> Hit:
        hit = Hit(fault=fault, target=node[:12], at_ns=self._clock.now_ns(), node=node)
        hit.gone = set(processes.kill_node(node))
        self._patience.wait(max(self._hold_s, WINDOW_S))
        hit.over_ns = hit.at_ns
        return hit

    def _hit_line(self, fault: Fault, status: Status) -> Hit:
        line = fault.choose(lines_up(status))
        hit = Hit(fault=fault, target=line.name, at_ns=self._clock.now_ns())
        if fault.action in DAMAGE:
            venue_lines.damage(line, fault.action, DAMAGE_SHARE, fault.seconds)
            self._patience.wait(fault.seconds)
            venue_lines.repair(line)
        else:
            venue_lines.cut(line)
        return self._over(hit)

    def _over(self, hit: Hit) -> Hit:
        hit.over_ns = self._clock.now_ns()
        self._patience.wait(max(0.0, WINDOW_S - (hit.over_ns - hit.at_ns) / 1e9))
        return hit
