"""Incidents: what happened to a pipeline, for people: lines and links that come and go, gaps, restarts, moves.

Each actor keeps its own bounded log and shows it in its status; `raytrade.observation` gathers them. Every name is
used in one place of the program, so that a name leads to the line that saw it.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import msgspec

from raytrade.core.clock import SECOND, Nanos

KEPT_MAX = 200
PER_SECOND_MAX = 50

Field = str | int | float


class Incident(StrEnum):
    """What can happen. The first group is seen by the actors themselves, the second by who watches them."""

    LINE_UP = "line_up"
    LINE_DOWN = "line_down"
    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    GAP = "gap"
    RESYNCED = "resynced"
    STALLED = "stalled"
    LINE_DISAGREES = "line_disagrees"
    MERGE_CHANGED = "merge_changed"
    BOOK_CROSSED = "book_crossed"
    SNAPSHOT_ASKED = "snapshot_asked"
    STRATEGY_STOPPED = "strategy_stopped"
    TAKEN_OVER = "taken_over"
    FENCED = "fenced"
    EPOCH_GRANTED = "epoch_granted"
    JOURNAL_FAILED = "journal_failed"
    RECORDING_FAILED = "recording_failed"
    RECORDING_RESUMED = "recording_resumed"
    CARRYING_FAILED = "carrying_failed"
    CARRYING_RESUMED = "carrying_resumed"

    ACTOR_STARTED = "actor_started"
    ACTOR_LOST = "actor_lost"
    ACTOR_RESTARTED = "actor_restarted"
    ACTOR_MOVED = "actor_moved"
    ACTOR_REMOVED = "actor_removed"
    SUBSCRIPTION_REFUSED = "subscription_refused"
    CONSUMER_OVERRUN = "consumer_overrun"
    PROBLEM = "problem"
    ALERT_FIRING = "alert_firing"
    ALERT_RESOLVED = "alert_resolved"


class IncidentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One incident: `index` counts those of one log, `ts_ns` is the host's clock when it was seen."""

    index: int
    ts_ns: Nanos
    incident: str
    fields: dict[str, Field] = {}


class IncidentLog:
    """The newest incidents of one actor: at most `KEPT_MAX`, and at most `PER_SECOND_MAX` of them in a second.

    What is over the second's share is counted in `suppressed`.
    """

    def __init__(self, kept_max: int = KEPT_MAX, per_second_max: int = PER_SECOND_MAX) -> None:
        self.suppressed = 0
        self._kept: deque[IncidentRecord] = deque(maxlen=kept_max)
        self._per_second_max = per_second_max
        self._second = 0
        self._in_second = 0
        self._index = 0

    def note(self, incident: Incident, ts_ns: Nanos, fields: dict[str, Field]) -> IncidentRecord | None:
        """Keep an incident and give its record; None if there were too many within this second."""
        second = ts_ns // SECOND
        if second != self._second:
            self._second, self._in_second = second, 0
        if self._in_second >= self._per_second_max:
            self.suppressed += 1
            return None
        self._in_second += 1
        record = IncidentRecord(index=self._index, ts_ns=ts_ns, incident=incident.value, fields=fields)
        self._index += 1
        self._kept.append(record)
        return record

    def records(self) -> list[IncidentRecord]:
        """Give what is kept, oldest first."""
        return list(self._kept)
