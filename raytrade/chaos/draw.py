"""Which fault comes next: a deck of all kinds, shuffled from a seed and shuffled anew when it is used up. Pure.

The same seed gives the same kinds in the same order with the same picks. Whom a pick means depends on who runs, so
that a repeated soak hits the same roles, and the same actors as long as names and places are the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

T = TypeVar("T")
PAUSE_S = (0.3, 3.0)
DISK_FULL_S = (3.0, 8.0)
DAMAGE_S = 0.5
DAMAGE_SHARE = 0.2


class Action(StrEnum):
    """What is done to a target."""

    KILL = "kill"
    PAUSE = "pause"
    CUT = "cut"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    CORRUPT = "corrupt"
    DISK_FULL = "disk-full"


DAMAGE = (Action.DROP, Action.DUPLICATE, Action.REORDER, Action.CORRUPT)
"""What a network or a venue does to single frames of one line."""

DECK: tuple[tuple[Action, str, int], ...] = (
    (Action.KILL, "collector", 4),
    (Action.KILL, "dedup", 4),
    (Action.KILL, "strategy", 3),
    (Action.KILL, "recorder", 3),
    (Action.KILL, "supervisor", 2),
    (Action.KILL, "node", 1),
    (Action.PAUSE, "collector", 1),
    (Action.PAUSE, "dedup", 1),
    (Action.PAUSE, "strategy", 1),
    (Action.PAUSE, "recorder", 1),
    (Action.CUT, "line", 2),
    (Action.DROP, "line", 1),
    (Action.DUPLICATE, "line", 1),
    (Action.REORDER, "line", 1),
    (Action.CORRUPT, "line", 1),
    (Action.DISK_FULL, "recorder", 1),
)
"""Action, role, and how often the pair is in the deck."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One drawn fault; `pick` in [0, 1) says which of the candidates, `seconds` for how long (0: at once)."""

    action: Action
    role: str
    pick: float
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        """Name what is done to whom."""
        return f"{self.action} {self.role}"

    def choose(self, candidates: Sequence[T]) -> T:
        """Give the candidate that is meant; there must be one."""
        return candidates[int(self.pick * len(candidates))]


class Draw:
    """Draws faults for ever; `actions` empty: all of them."""

    def __init__(self, seed: int, actions: Sequence[Action] = ()) -> None:
        self._rng = random.Random(f"chaos:{seed}")
        self._kinds = [
            (action, role) for action, role, copies in DECK for _ in range(copies) if not actions or action in actions
        ]
        self._deck: list[tuple[Action, str]] = []

    def next(self) -> Fault:
        """Draw one."""
        if not self._deck:
            self._deck = list(self._kinds)
            self._rng.shuffle(self._deck)
        action, role = self._deck.pop()
        return Fault(action=action, role=role, pick=self._rng.random(), seconds=self._seconds(action))

    def _seconds(self, action: Action) -> float:
        if action is Action.PAUSE:
            return round(self._rng.uniform(*PAUSE_S), 2)
        if action is Action.DISK_FULL:
            return round(self._rng.uniform(*DISK_FULL_S), 2)
        return DAMAGE_S if action in DAMAGE else 0.0
