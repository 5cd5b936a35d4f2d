"""The `call` lane: a batch is one actor call. Works between any two actors of a cluster.

Ray carries arguments below 100 kB inside the call and larger ones through the object store, owned by this end.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from typing import Any

from raytrade.links.publisher import Done, Sent


class CallLane:
    """Calls `receive_batch(writer, data)` of the reader's actor."""

    is_local = False

    def __init__(self, reader: Any, writer: str, name: str = "call") -> None:
        self.name = name
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes, done: Done) -> Sent:
        """Submit the call; Ray keeps the order of calls from one caller to a synchronous actor."""
        taken: Future[None] = self._reader.receive_batch.remote(self._writer, data).future()
        taken.add_done_callback(lambda future: done(_problem(future)))
        return Sent.PENDING

    def close(self) -> None:
        """Nothing is held."""


def _problem(future: Future[None]) -> str | None:
    try:
        error = future.exception()
    except CancelledError:
        return "cancelled"
    return None if error is None else f"{type(error).__name__}"
