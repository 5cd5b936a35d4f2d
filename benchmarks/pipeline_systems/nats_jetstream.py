"""The same pipeline over NATS JetStream: Debian's server on loopback, a stream in memory, asynchronous publishing
(up to 4,000 acknowledgements outstanding, the client's default) and ordered push consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from .plain import PlainSystem, Publisher
from .servers import ServerSystem, free_port
from .system import Task, Unavailable

STREAM = "bench"


class _Publisher:
    """Sends in a task, in order."""

    def __init__(self, context: Any, subject: str) -> None:
        self._context, self._subject = context, subject
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())
        self.put = self._waiting.put_nowait

    async def _run(self) -> None:
        publish, take = self._context.publish_async, self._waiting.get
        while True:
            await publish(self._subject, await take())


class NatsBus:
    """One stream, a subject per topic."""

    def __init__(self, address: str) -> None:
        self._nats: Any = import_module("nats")
        self._address = address
        self._context: Any = None

    async def _connect(self) -> Any:
        if self._context is None:
            connection = await self._nats.connect(f"nats://{self._address}")
            self._context = connection.jetstream()
            storage = import_module("nats.js.api").StorageType.MEMORY
            await self._context.add_stream(name=STREAM, subjects=[f"{STREAM}.>"], storage=storage)
        return self._context

    async def publisher(self, topic: str) -> Publisher:
        return _Publisher(await self._connect(), f"{STREAM}.{topic}")

    async def subscribe(self, topic: str) -> AsyncIterator[list[bytes]]:
        context = await self._connect()
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def take(message: Any) -> None:
            queue.put_nowait(message.data)

        await context.subscribe(f"{STREAM}.{topic}", cb=take, ordered_consumer=True)
        return _batches(queue)


async def _batches(queue: asyncio.Queue[bytes]) -> AsyncIterator[list[bytes]]:
    while True:
        batch = [await queue.get()]
        while not queue.empty():
            batch.append(queue.get_nowait())
        yield batch


def nats_jetstream(task: Task) -> PlainSystem:
    """Make the NATS system."""
    try:
        import_module("nats")
    except ImportError:
        raise Unavailable("nats-py is not installed") from None
    port = free_port()
    command = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(task.directory / "jetstream")]
    return ServerSystem(task, NatsBus, "nats-server", command, f"127.0.0.1:{port}")
