"""`ArrivalsFeed`: fetches the logs of copies from the dedups, at its own pace and past the links.

A log is fetched, not sent: whoever does not want it never sees it, a link never carries it, and a recorder that was
away asks for what the dedup still holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from raytrade.actors.upstreams import NAMESPACE
from raytrade.errors import PipelineError
from raytrade.storage.arrivals import Cursors

EVERY_S = 1.0
TIMEOUT_S = 10.0
ROUNDS_MAX = 64
"""How often a log is asked for more in one go, when it has more than one answer holds."""


class ArrivalsFeed:
    """Asks each dedup in turn, on a thread of its own; `on_blocks` must return only when the blocks are taken."""

    def __init__(self, dedups: list[str], cursors: Cursors, on_blocks: Callable[[list[bytes]], None]) -> None:
        """`cursors` is followed, not changed: `on_blocks` moves it."""
        self._dedups = dedups
        self._cursors = cursors
        self._on_blocks = on_blocks
        self._handles: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)
        self._thread.start()

    def set_dedups(self, names: list[str]) -> None:
        """Follow these and no others."""
        self._dedups = list(names)

    def stop(self) -> None:
        """Fetch once more and end."""
        self._stopping.set()
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._fetch_all()
        self._fetch_all()

    def _fetch_all(self) -> None:
        for name in self._dedups:
            try:
                self._fetch(name)
            except (RayError, PipelineError, ValueError, TimeoutError):
                self._handles.pop(name, None)

    def _fetch(self, name: str) -> None:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
        for _ in range(ROUNDS_MAX):
            cursor = self._cursors.get(name, (0, 0))
            blocks = ray.get(handle.arrivals.remote(*cursor), timeout=TIMEOUT_S)
            if not blocks:
                return
            self._on_blocks(blocks)
            if self._cursors.get(name, (0, 0)) == cursor:
                return
