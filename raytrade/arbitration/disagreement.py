"""`Disagreements`: which lines contradict others, told once for each time that the counts have grown. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from raytrade.arbitration.stream import StreamCounts, StreamKey
from raytrade.core.clock import SECOND, Nanos

EVERY_NS = SECOND


class Contradiction(msgspec.Struct, frozen=True):
    """A line had another state than the others at the same place of a stream, so many times since the last word."""

    line: str
    instrument: str
    count: int


class MergeChange(msgspec.Struct, frozen=True):
    """Another class is in force for an instrument than before, and why; empty: the venue's own again."""

    instrument: str
    in_force: str


class Disagreements:
    """Looks at the counts of an arbiter, at most once in `EVERY_NS`."""

    def __init__(self) -> None:
        self._known: dict[tuple[StreamKey, str], int] = {}
        self._in_force: dict[StreamKey, str] = {}
        self._looked_ns: Nanos = 0

    def review(self, streams: Mapping[StreamKey, StreamCounts], now_ns: Nanos) -> list[Contradiction]:
        """Give what is new."""
        if 0 <= now_ns - self._looked_ns < EVERY_NS:
            return []
        self._looked_ns = now_ns
        news: list[Contradiction] = []
        for stream, counts in streams.items():
            for line, part in counts.lines.items():
                if part.disagreements:
                    count = part.disagreements - self._known.get((stream, line), 0)
                    self._known[stream, line] = part.disagreements
                    if count > 0:
                        news.append(Contradiction(line, stream[0], count))
        return news

    def changes(self, streams: Mapping[StreamKey, StreamCounts]) -> list[MergeChange]:
        """Give the streams that are merged in another way than at the last look."""
        news: list[MergeChange] = []
        for stream, counts in streams.items():
            if counts.in_force != self._in_force.get(stream, ""):
                self._in_force[stream] = counts.in_force
                news.append(MergeChange(stream[0], counts.in_force))
        return news
