"""``raytrade chaos soak``: faults drawn from a seed on a whole pipeline, and everything held against the truth.

The course: start, a quiet stretch to compare with, then fault after fault, the next one when every role has its spare
again; then the exchanges end, everything drains, and the checker reads the evidence from files alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from raytrade.chaos.draw import Action, Draw, Fault
from raytrade.chaos.ground import Ground, start_nodes
from raytrade.chaos.history import Entry, Soak
from raytrade.chaos.judgement import Judgement, stalls_ms
from raytrade.chaos.strike import WINDOW_S, Hit, Striker
from raytrade.chaos.targets import running
from raytrade.chaos.verdict import longest_gap
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.demo.nodes import REGIONS, Nodes
from raytrade.errors import PipelineError
from raytrade.transport.clock import SystemClock

QUIET_S = 15.0
WARM_S = 2.0
"""The first seconds of a stream are not compared with: every first call costs more."""
SETTLE_S = 1.5
NEVER_S = 90.0
"""Redundancy that is not back after this long is not waited for any more."""
Tell = Callable[[str], None]


class SoakSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to do and for how long; `actions` empty: all; `kills_max` 0: until the time is over."""

    seconds: float
    seed: int
    directory: Path
    rate: float = 2000.0
    hold_s: float = 5.0
    actions: tuple[Action, ...] = ()
    kills_max: int = 0
    both_copies: bool = False


class Course:
    """One soak; use `run_soak`."""

    def __init__(self, settings: SoakSettings, nodes: Nodes, ground: Ground, tell: Tell) -> None:
        self.settings = settings
        self.nodes = nodes
        self.ground = ground
        self.result = Soak(seed=settings.seed, rate=settings.rate, both_copies=settings.both_copies)
        self._tell = tell
        self._clock = SystemClock()
        self._striker = Striker(settings.hold_s)
        self._hits: list[tuple[Hit, Nanos | None, list[str]]] = []
        self._began_ns: Nanos = 0

    def run(self) -> Soak:
        """Run it all."""
        self.ground.begin()
        self._began_ns = self._clock.now_ns()
        self._tell(f"{self.settings.rate:.0f} updates/s; {QUIET_S:.0f} s without faults")
        self.ground.wait(QUIET_S)
        quiet_until_ns = self._clock.now_ns()
        if self.settings.both_copies:
            self._kill_both()
        else:
            self._strike_on()
        self.result.seconds = self._since_begin_s(self._clock.now_ns())
        judgement = Judgement(self.ground, self.result)
        self._measure(judgement, quiet_until_ns)
        if self.settings.both_copies and not any(life.stalls or life.gaps for life in judgement.lives):
            self.result.problems.append("both copies were killed, and no strategy was told of a stall or a gap")
        return self.result

    def _since_begin_s(self, at_ns: Nanos) -> float:
        return (at_ns - self._began_ns) / SECOND

    # Faults.

    def _strike_on(self) -> None:
        draw = Draw(self.settings.seed, self.settings.actions)
        while self._since_begin_s(self._clock.now_ns()) < self.settings.seconds and not self._is_enough():
            problem = self.ground.until_redundant(set(), NEVER_S)
            if problem:
                self.result.problems.append(f"without any fault: {problem}")
                return
            fault = draw.next()
            try:
                status = self.ground.status()
                hit = self._striker.strike(fault, status, self._nodes(status))
            except PipelineError as error:
                self._tell(f"{fault.kind}: {error}")
                continue
            if not self._restore(hit):
                return

    def _is_enough(self) -> bool:
        kills = sum(hit.fault.action is Action.KILL for hit, _, _ in self._hits)
        return 0 < self.settings.kills_max <= kills

    def _nodes(self, status: dict[str, Any]) -> list[str]:
        """Give the nodes that carry something: never the head."""
        return sorted({actor["node"] for actor in status["actors"].values()})

    def _restore(self, hit: Hit) -> bool:
        """Wait until every role has its spare; False if that is no longer to be expected."""
        if hit.node:
            self.nodes.replace(hit.node)
        problem = self.ground.until_redundant(hit.gone, NEVER_S)
        restored_ns = None if problem else self._clock.now_ns()
        self._hits.append((hit, restored_ns, self.ground.waited_for))
        took = f"redundant after {(restored_ns - hit.over_ns) / SECOND:.1f} s" if restored_ns else "never redundant"
        took += f" ({', '.join(self.ground.waited_for[-2:])})" if self.ground.waited_for else ""
        self._tell(f"{self._since_begin_s(hit.at_ns):6.1f} s  {hit.fault.kind} {hit.target}: {took}")
        self.ground.wait(SETTLE_S)
        return not problem

    def _kill_both(self) -> None:
        """Kill every copy of the dedup at once: no spare is left, and what is lost must be told."""
        targets = running(self.ground.status(), "dedup")
        fault = Fault(action=Action.KILL, role="both dedups", pick=0.0)
        self._restore(self._striker.kill(targets, fault))
        self.ground.wait(QUIET_S)

    # Stalls.

    def _measure(self, judgement: Judgement, quiet_until_ns: Nanos) -> None:
        window_ns, warm_ns = int(WINDOW_S * SECOND), int(WARM_S * SECOND)
        for start_ns in range(self._began_ns + warm_ns, quiet_until_ns - window_ns, window_ns):
            self.result.quiet_ms += stalls_ms(judgement.lives, start_ns, start_ns + window_ns)
        for hit, restored_ns, waited_for in self._hits:
            end_ns = hit.at_ns + window_ns
            after_ns = max(end_ns, hit.over_ns)
            others = [life for life in judgement.lives if not hit.target.endswith(life.strategy)]
            entry = Entry(
                kind=hit.fault.kind,
                target=hit.target,
                at_s=self._since_begin_s(hit.at_ns),
                seconds=hit.fault.seconds,
                held_s=hit.held_s,
                stall_ms=max(stalls_ms(others, hit.at_ns, end_ns), default=0.0),
                sent_ms=longest_gap(judgement.sent_ns, hit.at_ns, end_ns) / MILLISECOND,
                restart_ms=max(stalls_ms(others, after_ns, max(after_ns, restored_ns or 0)), default=0.0),
                restored_s=None if restored_ns is None else (restored_ns - hit.over_ns) / SECOND,
                waited_for=waited_for,
            )
            self.result.history.append(entry)


def run_soak(settings: SoakSettings, tell: Tell) -> Soak:
    """Run a soak; `tell(text)` is given a line per fault.

    Raises:
        PipelineError: the pipeline did not come up.
    """
    with ExitStack() as stack:
        nodes = start_nodes(stack)
        ground = Ground(stack, settings.directory, settings.rate, settings.seed, collectors=len(REGIONS))
        return Course(settings, nodes, ground, tell).run()
