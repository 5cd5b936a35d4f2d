"""`Feed`: looks at the pipeline once a second for all browsers together, in a thread of its own.

A browser never asks the pipeline: it is shown what the feed saw last. The instruments that somebody looks at come from
one viewer, which keeps their newest state only; so browsers cost the same, one or thirty-two, and never delay data.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from raytrade.core.clock import SECOND, Clock, Nanos
from raytrade.errors import RaytradeError
from raytrade.observation.overview import Overview, Overviews
from raytrade.terminal.source import Source
from raytrade.web.charts import DepthHistory

LOOK_S = 1.0
LADDER_DEPTH = 15
INCIDENTS_KEPT = 500
FORGOTTEN_NS = 30 * SECOND
INSTRUMENTS_MAX = 8
"""Ladders that are followed at once; of more the one that was looked at the longest ago is forgotten."""


class Feed:
    """What is shown, replaced as a whole at every look; read from any thread."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.status: Mapping[str, Any] = {}
        self.overview: Overview | None = None
        self.problem = ""
        self.number = 0
        self.incidents: deque[dict[str, Any]] = deque(maxlen=INCIDENTS_KEPT)
        self._source = source
        self._clock = clock
        self._overviews = Overviews()
        self._since = 0
        self._lock = threading.Lock()
        self._wanted: dict[str, Nanos] = {}
        self._ladders: dict[str, tuple[dict[str, Any], DepthHistory]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(10)
        self._source.close()

    def instruments(self) -> list[str]:
        """Give the names of all instruments that have a book."""
        if self.overview is None:
            return []
        return [row.instrument for row in self.overview.streams if row.channel == "book"]

    def ladder(self, instrument: str) -> tuple[dict[str, Any], DepthHistory] | None:
        """Give what is known of an instrument and have it followed for a while; None until it is known."""
        if instrument not in self.instruments():
            return None
        with self._lock:
            self._wanted.pop(instrument, None)
            self._wanted[instrument] = self._clock.now_ns()
            if len(self._wanted) > INSTRUMENTS_MAX:
                del self._wanted[next(iter(self._wanted))]
        return self._ladders.get(instrument)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
                self.problem = ""
            except RaytradeError as error:
                self.problem = str(error)
            self._stopping.wait(LOOK_S)

    def _look(self) -> None:
        now_ns = self._clock.now_ns()
        status = self._source.status()
        for record in self._source.incidents(self._since):
            self._since = record["number"] + 1
            self.incidents.append(record)
        self.overview = self._overviews.receive(status, now_ns)
        self.status = status
        for instrument in self._followed(now_ns):
            ladder = self._source.ladder(instrument, LADDER_DEPTH)
            _, history = self._ladders.get(instrument, ({}, DepthHistory()))
            history.add(ladder, self._clock.now_ns())
            self._ladders[instrument] = (ladder, history)
        self.number += 1

    def _followed(self, now_ns: Nanos) -> list[str]:
        with self._lock:
            for name in [name for name, at_ns in self._wanted.items() if now_ns - at_ns > FORGOTTEN_NS]:
                del self._wanted[name]
            for name in [name for name in self._ladders if name not in self._wanted]:
                del self._ladders[name]
            return list(self._wanted)
