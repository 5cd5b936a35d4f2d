"""`Intake`: between the thread that reads a recorder's links and the thread that writes its files."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from raytrade.core.clock import Nanos
from raytrade.errors import PipelineError
from raytrade.links.spill import CALM_NS, Arrived, SpillQueue

ROOM_TIMEOUT_S = 5.0
TAKEN_AT_ONCE_MAX = 64
_log = logging.getLogger("raytrade.links")


class Intake:
    """A `SpillQueue` shared by two threads; `wake` is called when there is something to take.

    What found no room waits in order, and links must not be read until it has gone (`is_full`).
    """

    def __init__(self, name: str, queue: SpillQueue, wake: Callable[[], None]) -> None:
        self._name = name
        self._queue = queue
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[Arrived] = deque()
        self._full_ns: Nanos | None = None
        self._room = threading.Event()
        self._room.set()

    def put(self, arrived: Arrived) -> None:
        """Take what arrived (links' thread)."""
        self._waiting.append(arrived)
        self.push()

    def push(self) -> None:
        """Put what waits into the queue, as far as there is room (links' thread)."""
        waiting = self._waiting
        with self._lock:
            count = len(waiting)
            while waiting and self._queue.put(waiting[0]):
                waiting.popleft()
            notes = self._queue.notes()
        for note in notes:
            _log.warning("%s: %s", self._name, note)
        if waiting and self._room.is_set():
            self._room.clear()
            self._note_full(waiting[0].ts_ns)
        elif not waiting:
            self._room.set()
        if count > len(waiting):
            self._wake()

    def _note_full(self, now_ns: Nanos) -> None:
        """Say that links are left unread, once for as long as it goes on."""
        since_ns, self._full_ns = self._full_ns, now_ns
        if since_ns is None or now_ns - since_ns > CALM_NS:
            _log.warning("%s: no room for what its links bring: they are left unread", self._name)

    @property
    def is_full(self) -> bool:
        """Whether something found no room."""
        return not self._room.is_set()

    def wait_for_room(self) -> None:
        """Have the caller of a call lane wait (Ray's thread).

        Raises:
            PipelineError: there is none: the batch must be offered again later.
        """
        if not self._room.wait(ROOM_TIMEOUT_S):
            raise PipelineError(f"{self._name} has no room for what its links bring")

    def take(self, count_max: int = TAKEN_AT_ONCE_MAX) -> list[Arrived]:
        """Give what has waited longest (files' thread)."""
        taken: list[Arrived] = []
        with self._lock:
            while len(taken) < count_max and (arrived := self._queue.take()) is not None:
                taken.append(arrived)
        return taken

    def is_empty(self) -> bool:
        """Tell whether there is nothing to take."""
        return not self._queue and not self._waiting

    def status(self) -> dict[str, Any]:
        """Give what waits and had to wait."""
        with self._lock:
            return {**msgspec.to_builtins(self._queue.counts), "is_full": self.is_full}

    def close(self) -> None:
        """Leave nothing behind."""
        with self._lock:
            self._queue.close()
