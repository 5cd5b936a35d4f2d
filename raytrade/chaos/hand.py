"""`Hand`: kills and pauses actors of a demo at a person's wish. What is not of the demo is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raytrade.chaos import processes
from raytrade.chaos.targets import Target, running
from raytrade.errors import ConfigError

ROLES = ("collector", "dedup", "strategy", "recorder")
PAUSE_S_MAX = 10.0


class Hand:
    """Acts on processes of this host, found in the status that `look` gives; `spared` actors are not hit."""

    def __init__(self, pipeline: str, look: Callable[[], Mapping[str, Any]], spared: frozenset[str]) -> None:
        self._pipeline = pipeline
        self._look = look
        self._spared = spared

    def targets(self) -> list[str]:
        """Give the names of the actors that may be hit now."""
        return sorted(self._targets())

    def kill(self, actor: str) -> str:
        """SIGKILL an actor's process; says what was done.

        Raises:
            ConfigError: it is none of the demo's actors, or spared.
            PipelineError: its process has just gone.
        """
        target = self._target(actor)
        processes.kill_actor(target.pid, target.role)
        return f"killed {target.name} (pid {target.pid})"

    def pause(self, actor: str, seconds: float) -> str:
        """Stop an actor's process for a while, and have it go on; raises as `kill`."""
        target = self._target(actor)
        seconds = min(seconds, PAUSE_S_MAX)
        processes.pause_actor(target.pid, target.role, seconds)
        return f"paused {target.name} (pid {target.pid}) for {seconds:g} s"

    def _targets(self) -> dict[str, Target]:
        status = self._look()
        if status.get("name") != self._pipeline:
            return {}
        found = [target for role in ROLES for target in running(status, role)]
        return {target.name: target for target in found if target.name not in self._spared}

    def _target(self, actor: str) -> Target:
        targets = self._targets()
        if actor not in targets:
            known = ", ".join(sorted(targets)) or "none"
            raise ConfigError("", actor, f"may not be hit from here (what may: {known})")
        return targets[actor]
