"""`IncidentBook`: gathers the incidents of all actors from successive statuses, and adds what only a watcher can see.

An actor's own incidents are known by (actor, process, index), so that each is taken once however often it is shown.
What a watcher sees is the difference between two statuses: actors lost, restarted or moved, refused subscriptions,
consumers that were passed by the ring.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.incidents import Field, Incident, IncidentRecord
from raytrade.observation.status import ALIVE, Status

KEPT_MAX = 2000


class PipelineIncident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident of a pipeline. `number` counts them from the watcher's start on."""

    number: int
    ts_ns: Nanos
    incident: str
    actor: str
    fields: dict[str, Field] = {}


class _Seen:
    """What is known of one actor from the last status."""

    __slots__ = ("index", "node", "overruns", "pid", "refused", "state")

    def __init__(self) -> None:
        self.state = ""
        self.pid = 0
        self.node = ""
        self.index = -1
        self.refused: dict[str, str] = {}
        self.overruns: dict[str, int] = {}


class IncidentBook:
    """Takes one status after the other; keeps the newest `kept_max` incidents."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept: deque[PipelineIncident] = deque(maxlen=kept_max)
        self._seen: dict[str, _Seen] = {}
        self._problems: set[str] = set()
        self._number = 0

    def receive(self, status: Status, now_ns: Nanos) -> list[PipelineIncident]:
        """Take a status in; gives what is new, oldest first."""
        before = self._number
        for name, actor in status["actors"].items():
            self._receive_actor(name, actor, now_ns)
        for name in [name for name in self._seen if name not in status["actors"]]:
            del self._seen[name]
            self.note(Incident.ACTOR_REMOVED, name, now_ns)
        for problem in status["problems"]:
            if problem not in self._problems:
                self._problems.add(problem)
                self.note(Incident.PROBLEM, status["name"], now_ns, problem=problem)
        self._problems &= set(status["problems"])
        return self.since(before)

    def note(self, incident: Incident, actor: str, ts_ns: Nanos, **fields: Field) -> None:
        """Add one incident."""
        self._keep(incident.value, actor, ts_ns, fields)

    def _keep(self, incident: str, actor: str, ts_ns: Nanos, fields: dict[str, Field]) -> None:
        record = PipelineIncident(number=self._number, ts_ns=ts_ns, incident=incident, actor=actor, fields=fields)
        self._number += 1
        self._kept.append(record)

    def since(self, number: int) -> list[PipelineIncident]:
        """Give what is kept from `number` on."""
        return [record for record in self._kept if record.number >= number]

    def _receive_actor(self, name: str, actor: dict[str, Any], now_ns: Nanos) -> None:
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = _Seen()
        if actor["state"] != ALIVE:
            if seen.state != actor["state"]:
                self.note(Incident.ACTOR_LOST, name, now_ns, state=actor["state"])
            seen.state = actor["state"]
            return
        self._note_process(seen, name, actor, now_ns)
        self._take_own(seen, name, actor)
        self._note_refused(seen, name, actor, now_ns)
        self._note_overruns(seen, name, actor, now_ns)

    def _note_process(self, seen: _Seen, name: str, actor: dict[str, Any], now_ns: Nanos) -> None:
        pid, node = actor["pid"], actor["node"]
        if (pid, node) == (seen.pid, seen.node):
            seen.state = ALIVE
            return
        if not seen.pid:
            self.note(Incident.ACTOR_STARTED, name, now_ns, pid=pid, node=node)
        elif node != seen.node:
            self.note(Incident.ACTOR_MOVED, name, now_ns, pid=pid, node=node, node_before=seen.node)
        else:
            self.note(Incident.ACTOR_RESTARTED, name, now_ns, pid=pid, pid_before=seen.pid)
        seen.state, seen.pid, seen.node, seen.index, seen.overruns = ALIVE, pid, node, -1, {}

    def _take_own(self, seen: _Seen, name: str, actor: dict[str, Any]) -> None:
        records = msgspec.convert(actor.get("incidents", []), list[IncidentRecord])
        for record in records:
            if record.index > seen.index:
                seen.index = record.index
                self._keep(record.incident, name, record.ts_ns, record.fields)

    def _note_refused(self, seen: _Seen, name: str, actor: dict[str, Any], now_ns: Nanos) -> None:
        refused = {
            f"{line} {symbol}": reason
            for line, part in actor.get("lines", {}).items()
            if actor["role"] == "collector"
            for symbol, reason in part["status"]["refused"].items()
        }
        for subject, reason in refused.items():
            if seen.refused.get(subject) != reason:
                line, _, symbol = subject.rpartition(" ")
                self.note(Incident.SUBSCRIPTION_REFUSED, name, now_ns, line=line, symbol=symbol, reason=reason)
        seen.refused = refused

    def _note_overruns(self, seen: _Seen, name: str, actor: dict[str, Any], now_ns: Nanos) -> None:
        for reader, counts in actor.get("links", {}).items():
            overruns = counts["overruns"]
            if overruns > seen.overruns.get(reader, 0):
                self.note(Incident.CONSUMER_OVERRUN, name, now_ns, consumer=reader, overruns=overruns)
            seen.overruns[reader] = overruns
