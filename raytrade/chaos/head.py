"""``raytrade chaos head``: the whole head is killed and comes back; the stream must not notice.

While it is away a collector is killed too. After its return the supervisor answers, the collector is started again,
and a node that joins gets its collector. What was seen and recorded is held against the truth as in a soak.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import msgspec

from raytrade.chaos.ground import Ground, start_nodes
from raytrade.chaos.history import Soak
from raytrade.chaos.judgement import Judgement, stalls_ms
from raytrade.chaos.processes import check_actor, kill_tree
from raytrade.chaos.soak import Tell
from raytrade.chaos.targets import running
from raytrade.core.clock import SECOND, Nanos
from raytrade.demo.nodes import Nodes, every_role
from raytrade.transport.clock import SystemClock

FLOW_S = 5.0
SITES = ("frankfurt", "london")
GUEST = "oslo"
BACK_TIMEOUT_S = 120.0


class HeadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long the head is away, and how much flows; `directory` for what is seen and recorded."""

    away_s: float
    directory: Path
    rate: float = 500.0
    seed: int = 1


class HeadResult(msgspec.Struct, kw_only=True):
    """`away_s`: for how long there was no head; `delivered`: ids that each strategy saw meanwhile; `stall_ms`: its
    longest delivery gap meanwhile. `back_s`: from the head's start until every role had its spare; `joined_s`: from
    the start of a new node until its collector served everybody.
    """

    run: Soak
    away_s: float = 0.0
    delivered: dict[str, int] = {}
    stall_ms: float = 0.0
    back_s: float = 0.0
    joined_s: float = 0.0

    def failures(self) -> list[str]:
        """Name everything that must not be."""
        found = self.run.failures()
        found += [f"{name} saw nothing while the head was away" for name, count in self.delivered.items() if not count]
        return found


class HeadProof:
    """One proof; use `run_head_proof`."""

    def __init__(self, settings: HeadSettings, nodes: Nodes, ground: Ground, tell: Tell) -> None:
        self.settings = settings
        self.nodes = nodes
        self.ground = ground
        self.result = HeadResult(run=Soak(seed=settings.seed, rate=settings.rate))
        self._tell = tell
        self._clock = SystemClock()
        self._began_ns: Nanos = 0

    def run(self) -> HeadResult:
        """Run it all."""
        self.ground.begin()
        self._began_ns = self._clock.now_ns()
        self.ground.wait(FLOW_S)
        away_ns, victim = self._be_headless()
        back_ns = self._clock.now_ns()
        self._return({victim})
        self._join()
        self.ground.wait(FLOW_S)
        self.result.run.seconds = (self._clock.now_ns() - self._began_ns) / SECOND
        judgement = Judgement(self.ground, self.result.run)
        self.result.away_s = (back_ns - away_ns) / SECOND
        self.result.stall_ms = max(stalls_ms(judgement.lives, away_ns, back_ns), default=0.0)
        for life in judgement.lives:
            seen = sum(away_ns < at_ns < back_ns for at_ns in life.times)
            self.result.delivered[life.strategy] = self.result.delivered.get(life.strategy, 0) + seen
        return self.result

    def _be_headless(self) -> tuple[Nanos, int]:
        """Kill the head, and a collector while it is away; gives since when, and the collector's pid."""
        victim = running(self.ground.status(), "collector")[0]
        killed = [pid for root in self.nodes.leave_head() for pid in kill_tree(root)]
        away_ns = self._clock.now_ns()
        self._tell(f"killed the head: {len(killed)} processes")
        self.ground.wait(self.settings.away_s / 2)
        check_actor(victim.pid, victim.role)
        os.kill(victim.pid, signal.SIGKILL)
        self._tell(f"killed {victim.name}, which nobody can start again now")
        self.ground.wait(self.settings.away_s / 2)
        return away_ns, victim.pid

    def _return(self, gone: set[int]) -> None:
        start_ns = self._clock.now_ns()
        self.nodes.start_head()
        problem = self.ground.until_redundant(gone, BACK_TIMEOUT_S)
        self.result.back_s = (self._clock.now_ns() - start_ns) / SECOND
        if problem:
            self.result.run.problems.append(f"after the head's return: {problem}")
        self._tell(problem or f"every role has its spare {self.result.back_s:.1f} s after the head's start")

    def _join(self) -> None:
        start_ns = self._clock.now_ns()
        self.nodes.add(every_role(GUEST))
        self.ground.wanted["collector"] += 1
        problem = self.ground.until_redundant(set(), BACK_TIMEOUT_S)
        self.result.joined_s = (self._clock.now_ns() - start_ns) / SECOND
        if problem:
            self.result.run.problems.append(f"after a node joined: {problem}")
        self._tell(problem or f"a new node's collector serves {self.result.joined_s:.1f} s after its start")


def run_head_proof(settings: HeadSettings, tell: Tell) -> HeadResult:
    """Run the proof; `tell(text)` is given what happens.

    Raises:
        PipelineError: the cluster or the pipeline did not come up.
    """
    with ExitStack() as stack:
        nodes = start_nodes(stack, SITES, is_durable=True)
        ground = Ground(stack, settings.directory, settings.rate, settings.seed, collectors=len(SITES))
        return HeadProof(settings, nodes, ground, tell).run()
