"""Delays between attempts: doubled each time, with jitter, so that lines do not come back in step."""

from __future__ import annotations

import random


class Backoff:
    """Gives growing delays in seconds until `reset`."""

    def __init__(self, seed: int, first_s: float = 0.25, most_s: float = 30.0) -> None:
        self._random = random.Random(seed)
        self._first_s, self._most_s = first_s, most_s
        self._next_s = first_s

    def delay_s(self) -> float:
        """Give the next delay: between half and all of a doubling bound."""
        bound, self._next_s = self._next_s, min(self._next_s * 2, self._most_s)
        return bound * (0.5 + 0.5 * self._random.random())

    def reset(self) -> None:
        """An attempt succeeded."""
        self._next_s = self._first_s
