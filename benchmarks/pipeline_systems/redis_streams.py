"""The same pipeline over Redis Streams: Debian's server on a Unix socket, nothing saved, XADD and a blocking XREAD.

What has piled up while one XADD was under way goes as one pipeline; readers take up to `READ_MAX` entries at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from .plain import PlainSystem, Publisher
from .servers import ServerSystem
from .system import Task, Unavailable

READ_MAX = 1000
FIELD = b"d"


class _Publisher:
    """Sends in a thread, in order."""

    def __init__(self, client: Any, stream: str) -> None:
        self._client, self._stream = client, stream
        self._waiting: deque[bytes] = deque()
        self._bell = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, message: bytes) -> None:
        self._waiting.append(message)
        self._bell.set()

    def _run(self) -> None:
        waiting = self._waiting
        while self._bell.wait():
            self._bell.clear()
            while waiting:
                pipe = self._client.pipeline(transaction=False)
                for _ in range(min(len(waiting), READ_MAX)):
                    pipe.xadd(self._stream, {FIELD: waiting.popleft()})
                pipe.execute()


class RedisBus:
    """A stream per topic."""

    def __init__(self, address: str) -> None:
        redis: Any = import_module("redis")
        self._client = redis.Redis(unix_socket_path=address)

    async def publisher(self, topic: str) -> Publisher:
        return _Publisher(self._client, topic)

    async def subscribe(self, topic: str) -> AsyncIterator[list[bytes]]:
        return _read(self._client, topic)


async def _read(client: Any, stream: str) -> AsyncIterator[list[bytes]]:
    last = "0"
    while True:
        for _, entries in client.xread({stream: last}, count=READ_MAX, block=1000) or ():
            last = entries[-1][0]
            yield [fields[FIELD] for _, fields in entries]


def redis_streams(task: Task) -> PlainSystem:
    """Make the Redis system."""
    try:
        import_module("redis")
    except ImportError:
        raise Unavailable("redis (redis-py) is not installed") from None
    address = str(task.directory / "redis.sock")
    command = ["--port", "0", "--unixsocket", address, "--save", "", "--appendonly", "no", "--dir", str(task.directory)]
    return ServerSystem(task, RedisBus, "redis-server", command, address)
