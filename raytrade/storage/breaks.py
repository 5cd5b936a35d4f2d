"""`Chain`: follows the ids of a recorded stream and tells what they prove to be missing.

Works where ids are the venue's own and lead from one message to the next. What stands in the files without being
applicable (between a gap and its resync) is not missing. A snapshot may go back: the venue has restarted its ids.
"""

from __future__ import annotations

import numpy as np

from raytrade.arbitration import Rule
from raytrade.core.events import Channel, Flag
from raytrade.errors import ConfigError
from raytrade.rules import rule_of

CHAINED = (Rule.LOOSE, Rule.STRICT, Rule.DENSE)

Range = tuple[int, int]
"""Ids ``(after, up to]``."""


def rule_or_none(instrument: str, channel: Channel) -> Rule | None:
    """Give the rule of a stream, None of a venue that this program does not know."""
    try:
        return rule_of(instrument, channel).rule
    except ConfigError:
        return None


def is_chained(instrument: str, channel: Channel) -> bool:
    """Tell whether ids prove what is missing."""
    return rule_or_none(instrument, channel) in CHAINED


class Chain:
    """One stream, from its first message on; `rule` is one of `CHAINED`."""

    def __init__(self, rule: Rule) -> None:
        self.position: int | None = None
        self.torn: list[int] = []
        """Of the messages taken last, those that do not go on from the one before and bring no whole book either."""
        self._rule = rule
        self._unapplied: list[Range] = []

    def follow(
        self, ids: np.ndarray, id_prev: np.ndarray, is_snapshot: np.ndarray, flags: np.ndarray
    ) -> list[tuple[int, Range]]:
        """Take messages in their order; gives what is missing before which of them (by its place in the arrays)."""
        is_there = (ids > 0) & (flags & Flag.HISTORY == 0)
        applied = np.flatnonzero(is_there & (flags & Flag.UNAPPLIED == 0))
        spare = np.flatnonzero(is_there & (flags & Flag.UNAPPLIED != 0) & ~is_snapshot)
        found: list[tuple[int, Range]] = []
        self.torn = []
        if len(applied):
            numbers = ids[applied]
            first = self.position if self.position is not None else -1
            before = np.concatenate(([first], numbers[:-1]))
            prev = np.where(is_snapshot[applied], numbers, id_prev[applied])
            is_break = prev > before
            if self._rule is Rule.STRICT:
                is_break |= ~is_snapshot[applied] & (prev != before)
            if first < 0:
                is_break[0] = False
            for at in np.flatnonzero(is_break).tolist():
                known = [*self._unapplied, *_ranges(ids, id_prev, spare[spare < applied[at]])]
                if not is_snapshot[applied[at]]:
                    self.torn.append(int(applied[at]))
                found += [(int(applied[at]), part) for part in without((int(before[at]), int(prev[at])), known)]
            self.position = int(numbers[-1])
            self._unapplied = []
            spare = spare[spare > applied[-1]]
        self._unapplied += _ranges(ids, id_prev, spare)
        return found


def _ranges(ids: np.ndarray, id_prev: np.ndarray, places: np.ndarray) -> list[Range]:
    return list(zip(id_prev[places].tolist(), ids[places].tolist(), strict=True))


def without(whole: Range, parts: list[Range]) -> list[Range]:
    """Give what is left of a range when others are taken away. A range that runs backwards stays as it is."""
    first, last = whole
    if last <= first:
        return [whole]
    left: list[Range] = []
    for start, end in sorted(parts):
        if end <= first or start >= last:
            continue
        if start > first:
            left.append((first, start))
        first = max(first, end)
    if first < last:
        left.append((first, last))
    return left
