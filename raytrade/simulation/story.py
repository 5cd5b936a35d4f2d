"""The plan of a seed and the story of its failure, in lines for people."""

from __future__ import annotations

from raytrade.core.clock import SECOND, Nanos
from raytrade.simulation.run import Result, Simulation
from raytrade.simulation.world import START_NS

STORY_LINES = 60


def plan_lines(simulation: Simulation) -> list[str]:
    """Say what the seed means."""
    plan = simulation.plan
    lines = [f"seed {plan.seed}: {plan.active_ns / SECOND:.1f} s of faults, rings of {plan.ring_items_max} messages"]
    lines += [
        f"  {venue.name:<18} a change each {venue.interval_ns // 1_000_000} ms, windows up to {venue.window_max}"
        for venue in plan.venues
    ]
    return [*lines, *(f"  {fault}" for fault in (*plan.faults, *plan.lies))]


def story_lines(simulation: Simulation, result: Result, count: int = STORY_LINES) -> list[str]:
    """Tell the last transitions around the failure: those of whoever broke the promise, and the faults."""
    violation = result.violation
    if violation is None:
        return []
    story = [
        f"  {_seconds(at_ns)} {who:<9} {what}"
        for at_ns, who, what in simulation.world.trace.story
        if who in (violation.who, "fault", "recorder") or violation.who not in simulation.cluster.network.actors
    ]
    verdict = f"{violation.who}: {violation.what}"
    return [*story[-count:], f"  {_seconds(violation.ts_ns)} BROKEN    {verdict}"]


def _seconds(at_ns: Nanos) -> str:
    return f"{(at_ns - START_NS) / SECOND:9.4f}"
