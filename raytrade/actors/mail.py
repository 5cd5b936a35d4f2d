"""`Mail`: one-way calls to actors by name, of which any may be lost; whoever sends says again what matters."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raytrade.actors.upstreams import NAMESPACE

TELL_TIMEOUT_S = 2.0
UNDER_WAY_MAX = 4
"""Calls to one actor that have not come back: one that is stopped gets no more."""


class Mail:
    """Never waits: names are looked up on a thread of its own."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._under_way: dict[str, int] = {}
        self._looked_up: set[str] = set()
        self._lock = threading.Lock()
        self._finder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")

    def send(self, name: str, method: str, data: bytes) -> bool:
        """Call `method(data)` of an actor; tells whether it was called."""
        handle = self._handles.get(name)
        if handle is None:
            self._look_up(name)
            return False
        with self._lock:
            if self._under_way.get(name, 0) >= UNDER_WAY_MAX:
                return False
            self._under_way[name] = self._under_way.get(name, 0) + 1
        taken: Future[None] = getattr(handle, method).remote(data).future()
        taken.add_done_callback(lambda future: self._done(name, future))
        return True

    def tell(self, name: str, method: str, data: bytes) -> None:
        """Call `method(data)` of an actor and wait until it has come there, or cannot."""
        handle = self._handles.get(name)
        if handle is not None:
            with suppress(RayError):
                ray.get(getattr(handle, method).remote(data), timeout=TELL_TIMEOUT_S)

    def _look_up(self, name: str) -> None:
        with self._lock:
            if name in self._looked_up:
                return
            self._looked_up.add(name)
        self._finder.submit(self._find, name)

    def _find(self, name: str) -> None:
        try:
            self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
        except (ValueError, RayError):
            pass
        finally:
            with self._lock:
                self._looked_up.discard(name)

    def _done(self, name: str, future: Future[None]) -> None:
        with self._lock:
            self._under_way[name] -= 1
        try:
            error = future.exception()
        except CancelledError:
            return
        if error is not None:
            self._handles.pop(name, None)

    def close(self) -> None:
        """Look up nothing more."""
        self._finder.shutdown(wait=False, cancel_futures=True)
