"""`Recent`: a dictionary that forgets its oldest entries.

The order stands in a queue beside it: finding a dictionary's first key gets slower with every key deleted before it.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(dict[K, V]):
    """Holds at most `entries_max` entries; only `add` may bring new keys in."""

    def __init__(self, entries_max: int) -> None:
        super().__init__()
        self._entries_max = entries_max
        self._order: deque[K] = deque()

    def add(self, key: K, value: V) -> V | None:
        """Put an entry in; gives the value that was forgotten for it."""
        if key not in self:
            self._order.append(key)
        self[key] = value
        if len(self._order) > self._entries_max:
            return self.pop(self._order.popleft(), None)
        return None

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._order.clear()
