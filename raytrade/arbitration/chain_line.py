"""One line of a chain: its own position, and the holes in its own numbering."""

from __future__ import annotations

from raytrade.arbitration.stream import LineCounts
from raytrade.core.message import Message

HOLES_REMEMBERED_MAX = 1024
"""How many holes of one line are remembered to tell which were filled by others."""


class ChainLine:
    """A line's own position and the holes in its own numbering that are not healed yet."""

    __slots__ = ("counts", "holes", "position", "up")

    def __init__(self, counts: LineCounts) -> None:
        self.counts = counts
        self.position = 0
        self.up = False
        self.holes: list[tuple[int, int]] = []

    def follow(self, message: Message, merged: int | None) -> None:
        """Note the holes in the line's own numbering; `merged` is how far the stream has come."""
        if self.position and message.id_prev > self.position:
            self.miss(self.position, message.id_prev, merged)
        if message.id_last > self.position:
            self.position = message.id_last

    def miss(self, start: int, end: int, merged: int | None) -> None:
        """The line did not deliver ``(start, end]``."""
        if end <= self.position:
            return
        self.position = end
        self.counts.gaps_seen += 1
        if merged is not None and merged >= end:
            self.counts.gaps_healed += 1
        elif len(self.holes) < HOLES_REMEMBERED_MAX:
            self.holes.append((start, end))

    def heal(self, merged: int) -> None:
        """Count the holes that others have filled."""
        left = [hole for hole in self.holes if hole[1] > merged]
        self.counts.gaps_healed += len(self.holes) - len(left)
        self.holes = left
