"""The two ends of one hop, for each way of carrying bytes from one process to another of the same host."""

from __future__ import annotations

import ctypes
import select
import tempfile
import uuid
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Protocol

from raytrade.links.local import LocalLane, LocalListener, LocalReceiver
from raytrade.links.publisher import Sent

WAIT_S = 0.1


class ReceivingEnd(Protocol):
    """Sleeps in the kernel until something comes."""

    @property
    def address(self) -> tuple[str, ...]:
        """What the sending end must know."""

    def read(self) -> Iterable[bytes]:
        """Wait up to `WAIT_S`; give what has come."""


class SendingEnd(Protocol):
    """Knows the other end's address."""

    def send(self, data: bytes) -> None:
        """Hand over one message."""


class LocalReceivingEnd:
    """raytrade's local lane, read as an actor reads it: epoll, then every packet that is there."""

    def __init__(self) -> None:
        self._listener = LocalListener()
        self.address = (self._listener.address, self._listener.token)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._receiver: LocalReceiver | None = None

    def read(self) -> Iterable[bytes]:
        for descriptor, _ in self._epoll.poll(WAIT_S):
            if self._receiver is not None and descriptor == self._receiver.fileno():
                return self._receiver.read() or ()
            self._receiver = self._listener.accept()
            if self._receiver is not None:
                self._epoll.register(self._receiver.fileno(), select.EPOLLIN)
        return ()


class LocalSendingEnd:
    """The writing end of raytrade's local lane."""

    def __init__(self, address: tuple[str, ...]) -> None:
        self._lane = LocalLane(address[0], address[1], "hop")

    def send(self, data: bytes) -> None:
        while self._lane.send(data, _ignore) is Sent.FULL:
            select.select((), (), (), 0.0002)


def _ignore(problem: str | None) -> None:
    """A local lane answers at once."""


class ZeroMqReceivingEnd:
    """A SUB socket on ipc."""

    def __init__(self) -> None:
        self._zmq: Any = import_module("zmq")
        self._directory = tempfile.TemporaryDirectory(prefix="hop-")
        self.address = (f"ipc://{self._directory.name}/hop",)
        self._socket = self._zmq.Context.instance().socket(self._zmq.SUB)
        self._socket.setsockopt(self._zmq.RCVHWM, 0)
        self._socket.setsockopt(self._zmq.RCVTIMEO, int(WAIT_S * 1000))
        self._socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        self._socket.bind(self.address[0])

    def read(self) -> Iterable[bytes]:
        try:
            return (self._socket.recv(),)
        except self._zmq.Again:
            return ()


class ZeroMqSendingEnd:
    """A PUB socket on ipc."""

    def __init__(self, address: tuple[str, ...]) -> None:
        zmq: Any = import_module("zmq")
        socket = zmq.Context.instance().socket(zmq.PUB)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.connect(address[0])
        self._send = socket.send

    def send(self, data: bytes) -> None:
        self._send(data)


class _Iceoryx:
    """The services of one hop: samples of bytes, and an event that wakes the reader."""

    def __init__(self, name: str) -> None:
        self.iox: Any = import_module("iceoryx2")
        self.iox.set_log_level(self.iox.LogLevel.Error)
        self.node = self.iox.NodeBuilder.new().create(self.iox.ServiceType.Ipc)
        payload = self.iox.Slice[ctypes.c_uint8]
        samples = self.node.service_builder(self.iox.ServiceName.new(name)).publish_subscribe(payload)
        self.samples = samples.subscriber_max_buffer_size(1024).enable_safe_overflow(False).open_or_create()
        self.events = self.node.service_builder(self.iox.ServiceName.new(f"{name}-bell")).event().open_or_create()


class IceoryxReceivingEnd:
    """An iceoryx2 subscriber that is woken by an event."""

    def __init__(self) -> None:
        self.address = (f"hop-{uuid.uuid4()}",)
        self._services = services = _Iceoryx(self.address[0])
        self._subscriber = services.samples.subscriber_builder().create()
        self._listener = services.events.listener_builder().create()
        self._wait = services.iox.Duration.from_millis(int(WAIT_S * 1000))

    def read(self) -> Iterable[bytes]:
        self._listener.timed_wait(self._wait)
        received = []
        while (sample := self._subscriber.receive()) is not None:
            received.append(bytes(sample.payload().as_memory_view()))
            sample.delete()
        return received


class IceoryxSendingEnd:
    """An iceoryx2 publisher that rings after each sample."""

    def __init__(self, address: tuple[str, ...]) -> None:
        self._services = services = _Iceoryx(address[0])
        self._publisher = services.samples.publisher_builder().initial_max_slice_len(65_536).create()
        self._notifier = services.events.notifier_builder().create()

    def send(self, data: bytes) -> None:
        sample = self._publisher.loan_slice_uninit(len(data))
        ctypes.memmove(sample.payload_ptr, data, len(data))
        sample.assume_init().send()
        self._notifier.notify()


RECEIVERS: dict[str, Callable[[], ReceivingEnd]] = {
    "raytrade shm": LocalReceivingEnd,
    "iceoryx2": IceoryxReceivingEnd,
    "zeromq ipc": ZeroMqReceivingEnd,
}
SENDERS: dict[str, Callable[[tuple[str, ...]], SendingEnd]] = {
    "raytrade shm": LocalSendingEnd,
    "iceoryx2": IceoryxSendingEnd,
    "zeromq ipc": ZeroMqSendingEnd,
}
