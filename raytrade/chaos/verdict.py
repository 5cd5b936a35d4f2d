"""Compares what was sent with what was seen, by ids alone. Pure; shares no code with venue machines and arbiters."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

Range = tuple[int, int]
"""Ids ``(after, up_to]``."""


class Verdict(msgspec.Struct):
    """`missed` ids that should have been seen and were not; of these `untold` lie in no gap that was told.

    `repeated` were seen more than once, `late` after a higher one.
    """

    seen: int = 0
    missed: int = 0
    repeated: int = 0
    late: int = 0
    untold: int = 0
    examples: list[int] = []

    def add(self, other: Verdict) -> None:
        """Count another stream in."""
        self.seen += other.seen
        self.missed += other.missed
        self.repeated += other.repeated
        self.late += other.late
        self.untold += other.untold
        self.examples = [*self.examples, *other.examples][:10]


def judge(sent: Sequence[int], seen: Sequence[int], gaps: Sequence[Range] = (), is_last: bool = False) -> Verdict:
    """Judge one life of one consumer of one stream.

    `sent` rises; `seen` is in the order of delivery. What came before the first id seen is not owed, what came after
    the last one only if `is_last`: the consumer lived to the end of the stream.
    """
    if not seen:
        return Verdict(missed=len(sent), untold=len(sent), examples=list(sent[:10])) if is_last else Verdict()
    end = len(sent) if is_last else bisect_right(sent, seen[-1])
    owed = sent[bisect_right(sent, seen[0]) : end]
    have = set(seen)
    missed = [number for number in owed if number not in have]
    untold = [number for number in missed if not any(after < number <= up_to for after, up_to in gaps)]
    return Verdict(
        seen=len(have),
        missed=len(missed),
        repeated=len(seen) - len(have),
        late=_late(seen),
        untold=len(untold),
        examples=(untold or missed)[:10],
    )


def _late(seen: Sequence[int]) -> int:
    highest, count = -1, 0
    for number in seen:
        count += number < highest
        highest = max(highest, number)
    return count


def longest_gap(times: Sequence[int], start: int, end: int) -> int:
    """Give the longest time between two deliveries that reaches into ``[start, end]``; `times` rises.

    A gap that is still open when the times end counts up to `end`.
    """
    first = max(0, bisect_right(times, start) - 1)
    final = bisect_left(times, end)
    window = [*times[first : final + 1]]
    if final >= len(times):
        window.append(end)
    if not window or window[0] > start:
        window.insert(0, start)
    return max((later - earlier for earlier, later in pairwise(window)), default=end - start)
