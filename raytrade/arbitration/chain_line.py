"""The lines of a chain: the position of each, and the holes in its own numbering."""

from __future__ import annotations

from raytrade.arbitration.stream import LineCounts, StreamCounts
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Gap, GapKind
from raytrade.core.message import Message, decode

SLOW_NS = 10 * SECOND
"""A gap this soon after a link has overrun its consumer is the consumer's own."""

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


class ChainLines:
    """All lines of a stream by name; whoever is not up delivers nothing and is waited for no longer."""

    def __init__(self, counts: StreamCounts) -> None:
        self._counts = counts
        self._lines: dict[str, ChainLine] = {}
        self._slow_ns: Nanos | None = None
        self._slow_cause = ""

    def known(self, line: str) -> ChainLine | None:
        """Give a line that was heard of before."""
        return self._lines.get(line)

    def of(self, line: str) -> ChainLine:
        """Give a line, from its first message on."""
        track = self._lines.get(line)
        if track is None:
            track = self._lines[line] = ChainLine(self._counts.line(line))
        return track

    def hear_gap(self, message: Message, now_ns: Nanos) -> None:
        """A line may say that this consumer was too slow for it: what is missing now is missing for that reason."""
        gap = decode(message)
        if isinstance(gap, Gap) and gap.kind is GapKind.SLOW_CONSUMER:
            self._slow_ns, self._slow_cause = now_ns, gap.cause

    def cause(self, now_ns: Nanos) -> tuple[GapKind, str]:
        """Say why something that no line brings is missing."""
        if self._slow_ns is not None and now_ns - self._slow_ns <= SLOW_NS:
            return GapKind.SLOW_CONSUMER, self._slow_cause
        return GapKind.VENUE, "no line delivered it"

    def up(self) -> tuple[str, ...]:
        """Name the lines that are up."""
        return tuple(sorted(line for line, track in self._lines.items() if track.up))

    def is_any_up(self) -> bool:
        """Tell whether one is up."""
        return any(track.up for track in self._lines.values())

    def have_passed(self, end: int) -> bool:
        """Tell whether every line that is up has come to `end`: lines keep order, so none will fill what is before."""
        return self.is_any_up() and all(track.position >= end for track in self._lines.values() if track.up)

    def passed_to(self) -> int:
        """Give the id that every line that is up has come to; 0 if none is up."""
        return min((track.position for track in self._lines.values() if track.up), default=0)

    def heal(self, merged: int) -> None:
        """The stream has come to `merged`: count the holes that others have filled."""
        for track in self._lines.values():
            if track.holes:
                track.heal(merged)

    def give_up(self, end: int) -> None:
        """What is missing up to `end` is told: nobody will be said to have filled it."""
        for track in self._lines.values():
            track.holes = [hole for hole in track.holes if hole[0] >= end]

    def forget(self) -> None:
        """The venue's ids run anew."""
        for track in self._lines.values():
            track.position = 0
            track.holes.clear()
