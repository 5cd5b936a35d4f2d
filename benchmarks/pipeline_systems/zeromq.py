"""The bus as the course draws it: PUB/SUB sockets. High-water marks are off, because a PUB that is full drops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from .plain import PlainSystem, Publisher
from .system import Task, Unavailable


class _Publisher:
    def __init__(self, socket: Any) -> None:
        self.put = socket.send


class ZeroMqBus:
    """The dedup binds both sockets; all else connects. Sockets block: every process does one thing."""

    def __init__(self, address: str) -> None:
        self._zmq: Any = import_module("zmq")
        self._context = self._zmq.Context()
        self._address = address

    def _socket(self, kind: int, topic: str, binds: bool) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(self._zmq.SNDHWM, 0)
        socket.setsockopt(self._zmq.RCVHWM, 0)
        socket.setsockopt(self._zmq.LINGER, 0)
        (socket.bind if binds else socket.connect)(f"ipc://{self._address}/{topic}")
        return socket

    async def publisher(self, topic: str) -> Publisher:
        return _Publisher(self._socket(self._zmq.PUB, topic, topic == "merged"))

    async def subscribe(self, topic: str) -> AsyncIterator[list[bytes]]:
        socket = self._socket(self._zmq.SUB, topic, topic == "raw")
        socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        return _receive(socket)


async def _receive(socket: Any) -> AsyncIterator[list[bytes]]:
    receive = socket.recv
    while True:
        yield [receive()]


def zeromq(task: Task) -> PlainSystem:
    """Make the ZeroMQ system."""
    try:
        import_module("zmq")
    except ImportError:
        raise Unavailable("pyzmq is not installed") from None
    return PlainSystem(task, ZeroMqBus)
