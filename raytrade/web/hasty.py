"""`hasty`: the HTTP protocol of the page's server, which waits for nobody: an idle connection must not hold a place.

uvicorn's own waits for ever for the first request, and reads a head of any length.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from raytrade.web.guard import BODY_BYTES_MAX, GuardCounts

CONNECTIONS_MAX = 256
HEAD_BYTES_MAX = 64 * 1024
REQUEST_S = 10.0
"""For so long a new connection may take over its first request."""


def hasty(counts: GuardCounts) -> type[HttpToolsProtocol]:
    """Give uvicorn's protocol, less its patience: who is too many, too slow or too long is dropped, and counted."""
    return type("Hasty", (_Hasty,), {"counts": counts})


class _Hasty(HttpToolsProtocol):
    """One connection."""

    counts: ClassVar[GuardCounts]
    _due: asyncio.TimerHandle | None = None
    _bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self.counts.refused_full += 1
            transport.abort()
        else:
            self._due = self.loop.call_later(REQUEST_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self.counts.refused_size += 1
            self.transport.abort()
        else:
            super().data_received(data)

    def _give_up(self) -> None:
        self.counts.dropped_silent += 1
        self.transport.abort()

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def on_message_complete(self) -> None:
        self._cancel()
        self._bytes = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._cancel()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self.counts.refused_bytes += 1
        super().send_400_response(msg)
