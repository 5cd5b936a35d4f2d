"""`AlertRules`: what somebody must be told of, from successive statuses; rate-limited.

| rule | fires when |
|---|---|
| `gap_on_all_lines` | a stream got a gap that no line filled |
| `redundancy_low` | fewer collectors than wanted have all their lines to a venue up, for `hold_ns` |
| `recorder_behind` | a recorder fails to write, or lacks what a dedup had `recorder_behind_ns` ago |
| `disk_low` | less space than wanted under a recording |
| `strategy_stopped` | a strategy has failed |
| `actor_lost` | an actor has not answered for `hold_ns` |

A rule that holds is told once, again every `repeat_ns`, and once when it has ended. Gaps have no end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.observation.status import ALIVE, Actors, Status, lines_of, of_role, streams_of

NOTICES_PER_MINUTE_MAX = 30


class Rule(StrEnum):
    """What is watched."""

    GAP_ON_ALL_LINES = "gap_on_all_lines"
    REDUNDANCY_LOW = "redundancy_low"
    RECORDER_BEHIND = "recorder_behind"
    DISK_LOW = "disk_low"
    STRATEGY_STOPPED = "strategy_stopped"
    ACTOR_LOST = "actor_lost"


class AlertSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds. Times in nanoseconds."""

    redundancy: int = 2
    disk_free_bytes_min: int = 5 * 1024**3
    recorder_behind_ns: Nanos = 30 * SECOND
    hold_ns: Nanos = 5 * SECOND
    repeat_ns: Nanos = 300 * SECOND
    notices_per_minute_max: int = NOTICES_PER_MINUTE_MAX


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: `state` is ``firing`` or ``resolved``; `suppressed` counts notices that there was no room for."""

    pipeline: str
    alert: str
    subject: str
    state: str
    summary: str
    ts_ns: Nanos
    suppressed: int = 0


class _Standing(msgspec.Struct):
    """A rule that holds for a subject, and when it was last told."""

    since_ns: Nanos
    told_ns: Nanos | None = None


_Key = tuple[Rule, str]
_HOLDING = (Rule.REDUNDANCY_LOW, Rule.ACTOR_LOST)


class AlertRules:
    """Takes one status after the other; gives what is to be told."""

    def __init__(self, settings: AlertSettings | None = None) -> None:
        self.settings = settings or AlertSettings()
        self.suppressed = 0
        self._standing: dict[_Key, _Standing] = {}
        self._gaps: dict[str, int] = {}
        self._is_first = True
        self._gaps_untold: dict[str, int] = {}
        self._gaps_told_ns: dict[str, Nanos] = {}
        self._ends: deque[tuple[Nanos, dict[str, int]]] = deque()
        self._sent_ns: deque[Nanos] = deque()

    def receive(self, status: Status, now_ns: Nanos) -> list[Notice]:
        """Judge a status."""
        pipeline, actors = status["name"], status["actors"]
        holding = dict(self._holding(actors, now_ns))
        notices = [
            Notice(pipeline=pipeline, alert=rule, subject=subject, state=state, summary=text, ts_ns=now_ns)
            for rule, subject, state, text in [
                *self._changes(holding, now_ns),
                *self._new_gaps(actors, now_ns),
            ]
        ]
        return self._within_bounds(notices, now_ns)

    def firing(self) -> list[tuple[str, str]]:
        """Give (rule, subject) of all that was told and still holds."""
        return [(rule.value, subject) for (rule, subject), it in self._standing.items() if it.told_ns is not None]

    # What holds.

    def _holding(self, actors: Actors, now_ns: Nanos) -> Iterator[tuple[_Key, str]]:
        for name, actor in actors.items():
            if actor["state"] != ALIVE:
                yield (Rule.ACTOR_LOST, name), f"{name}: {actor['state']}"
        yield from self._venues_low(actors)
        yield from self._recorders(actors, now_ns)
        for name, actor in of_role(actors, "strategy").items():
            if actor["engine"]["failure"]:
                yield (Rule.STRATEGY_STOPPED, name), f"{name} stopped: {actor['engine']['failure']}"

    def _venues_low(self, actors: Actors) -> Iterator[tuple[_Key, str]]:
        for venue, up in redundancy_of(actors).items():
            if up < self.settings.redundancy:
                text = f"{venue}: {up} of the wanted {self.settings.redundancy} collectors have their lines up"
                yield (Rule.REDUNDANCY_LOW, venue), text

    def _recorders(self, actors: Actors, now_ns: Nanos) -> Iterator[tuple[_Key, str]]:
        old = self._old_ends(actors, now_ns)
        now = _ends_of(actors)
        for name, actor in of_role(actors, "recorder").items():
            if actor["problem"]:
                yield (Rule.RECORDER_BEHIND, name), f"{name} cannot write: {actor['problem']}"
            elif late := _late(actor, old, now):
                seconds = self.settings.recorder_behind_ns / SECOND
                yield (Rule.RECORDER_BEHIND, name), f"{name} is more than {seconds:.0f} s behind on {', '.join(late)}"
            free, wanted = actor["disk_free_bytes"], self.settings.disk_free_bytes_min
            if free < wanted:
                text = f"{name}: {free / 1e9:.1f} GB free under {actor['directory']}, wanted are {wanted / 1e9:.1f} GB"
                yield (Rule.DISK_LOW, name), text

    def _old_ends(self, actors: Actors, now_ns: Nanos) -> dict[str, int]:
        """Give where the streams were `recorder_behind_ns` ago."""
        self._ends.append((now_ns, _ends_of(actors)))
        due_ns = now_ns - self.settings.recorder_behind_ns
        while len(self._ends) > 1 and self._ends[1][0] <= due_ns:
            self._ends.popleft()
        at_ns, ends = self._ends[0]
        return ends if at_ns <= due_ns else {}

    # What is told of it.

    def _changes(self, holding: dict[_Key, str], now_ns: Nanos) -> Iterator[tuple[str, str, str, str]]:
        for key, text in holding.items():
            standing = self._standing.setdefault(key, _Standing(now_ns))
            wait_ns = self.settings.hold_ns if key[0] in _HOLDING else 0
            is_new = standing.told_ns is None and now_ns - standing.since_ns >= wait_ns
            is_due = standing.told_ns is not None and now_ns - standing.told_ns >= self.settings.repeat_ns
            if is_new or is_due:
                standing.told_ns = now_ns
                yield key[0].value, key[1], "firing", text
        for key in [key for key in self._standing if key not in holding]:
            if self._standing.pop(key).told_ns is not None:
                yield key[0].value, key[1], "resolved", f"{key[1]}: {key[0].value} has ended"

    def _new_gaps(self, actors: Actors, now_ns: Nanos) -> Iterator[tuple[str, str, str, str]]:
        for stream, by_dedup in streams_of(actors).items():
            count = max(counts["gaps"] for counts in by_dedup.values())
            before = self._gaps.get(stream, count if self._is_first else 0)
            self._gaps[stream] = count
            if count > before:
                self._gaps_untold[stream] = self._gaps_untold.get(stream, 0) + count - before
            told_ns = self._gaps_told_ns.get(stream)
            if stream in self._gaps_untold and (told_ns is None or now_ns - told_ns >= self.settings.repeat_ns):
                self._gaps_told_ns[stream] = now_ns
                untold = self._gaps_untold.pop(stream)
                yield Rule.GAP_ON_ALL_LINES.value, stream, "firing", f"{stream}: {untold} gaps that no line filled"
        self._is_first = False

    def _within_bounds(self, notices: list[Notice], now_ns: Nanos) -> list[Notice]:
        while self._sent_ns and now_ns - self._sent_ns[0] >= 60 * SECOND:
            self._sent_ns.popleft()
        room = max(0, self.settings.notices_per_minute_max - len(self._sent_ns))
        kept = notices[:room]
        self._sent_ns.extend([now_ns] * len(kept))
        if kept and self.suppressed:
            kept[0] = msgspec.structs.replace(kept[0], suppressed=self.suppressed)
            self.suppressed = 0
        self.suppressed += len(notices) - len(kept)
        return kept


def redundancy_of(actors: Actors) -> dict[str, int]:
    """Give for each venue how many collectors have all their lines to it up."""
    venues = {line["venue"]: 0 for line in lines_of(actors).values()}
    for actor in of_role(actors, "collector").values():
        states: dict[str, bool] = {}
        for line in actor["lines"].values():
            states[line["venue"]] = states.get(line["venue"], True) and line["status"]["is_up"]
        for venue, is_up in states.items():
            venues[venue] += is_up
    return venues


def _ends_of(actors: Actors) -> dict[str, int]:
    """Give the last id of each stream that a dedup has given out."""
    return {
        stream: max(counts["last_id"] or 0 for counts in by_dedup.values())
        for stream, by_dedup in streams_of(actors).items()
    }


def _late(recorder: Any, old: dict[str, int], now: dict[str, int]) -> list[str]:
    """Name the streams whose old end the recorder has not reached; ids that began anew since say nothing."""
    coverage = recorder["coverage"]
    return [
        stream
        for stream, at in old.items()
        if stream in coverage and coverage[stream]["last"] < at <= now.get(stream, 0)
    ]
