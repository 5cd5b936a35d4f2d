"""Clients of the page that are no browsers: they take what is pushed and draw nothing.

python -m benchmarks.page_client ADDRESS COUNT [browser]
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import threading
import urllib.request
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import socketio

CLIENT_ID = re.compile(rb"['\"]client_id['\"]: ?['\"]([0-9a-f-]+)['\"]")
SOCKET_PATH = "/_nicegui_ws/socket.io"
TIMEOUT_S = 20.0


def query_of(address: str) -> dict[str, str]:
    """Have a page made and give what its websocket must say to belong to it."""
    with urllib.request.urlopen(f"{address}/", timeout=TIMEOUT_S) as reply:
        found = CLIENT_ID.search(reply.read())
    assert found is not None, "no page"
    tab, document = str(uuid.uuid4()), str(uuid.uuid4())
    return {
        "client_id": found[1].decode(),
        "implicit_handshake": "true",
        "tab_id": tab,
        "old_tab_id": "",
        "document_id": document,
        "next_message_id": "0",
    }


class PageClient:
    """One websocket, on a thread of its own; counts what is pushed."""

    def __init__(self, address: str) -> None:
        self.updates = 0
        self.bytes = 0
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page client", daemon=True)
        self._socket: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._socket.disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    def _call(self, course: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(course, self._loop).result(TIMEOUT_S)

    async def _open(self) -> None:
        query = await asyncio.to_thread(query_of, self._address)
        self._socket = socketio.AsyncClient(reconnection=False)
        self._socket.on("update", self._take)
        await self._socket.connect(
            f"{self._address}?{urlencode(query)}", transports=["websocket"], socketio_path=SOCKET_PATH
        )

    def _take(self, data: Any) -> None:
        self.updates += 1
        self.bytes += len(str(data))

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return bool(self._socket.connected)


def main() -> None:
    """Open clients (and a browser on the book, with ``browser``) until standard input ends; at each line of it
    print what was pushed so far."""
    address, count, *browser = sys.argv[1:]
    address = address.rstrip("/")
    with ExitStack() as stack:
        clients = [stack.enter_context(PageClient(address)) for _ in range(int(count))]
        if browser:
            from tests.browser.driving import Browser

            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(Browser(address, directory)).click_tab("BOOK")
        print("ready", flush=True)
        before = pushed(clients)
        for _ in sys.stdin:
            now = pushed(clients)
            print(json.dumps({name: now[name] - before[name] for name in now}), flush=True)
        assert all(client.is_open for client in clients), "a client was dropped"


def pushed(clients: list[PageClient]) -> dict[str, int]:
    """Add up what all clients were pushed."""
    return {"updates": sum(one.updates for one in clients), "bytes": sum(one.bytes for one in clients)}


if __name__ == "__main__":
    main()
