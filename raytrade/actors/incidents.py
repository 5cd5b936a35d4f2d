"""`Incidents`: an actor's log of incidents, each also one line of JSON on its standard error (Ray's log files)."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.incidents import Field, Incident, IncidentLog


class Incidents:
    """Notes incidents; its methods may be called from any thread of the owner."""

    def __init__(self, actor: str) -> None:
        self._actor = actor
        self._log = IncidentLog()
        self._lock = threading.Lock()

    def note(self, incident: Incident, ts_ns: Nanos, **fields: Field) -> None:
        """Keep an incident and write it out, if that disk has room: an actor outlives its own log."""
        with self._lock:
            record = self._log.note(incident, ts_ns, fields)
        if record is not None:
            line = {"event": record.incident, "actor": self._actor, "ts_ns": ts_ns, **fields}
            with suppress(OSError):
                sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
                sys.stderr.flush()

    def status(self) -> dict[str, Any]:
        """Give the newest incidents, and how many there was no room for."""
        with self._lock:
            return {"incidents": msgspec.to_builtins(self._log.records()), "incidents_suppressed": self._log.suppressed}
