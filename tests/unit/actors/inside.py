"""Actors of one process: writers and readers with the real threads, sockets and openers, and no Ray between them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from ray.exceptions import RayActorError

from raytrade.actors import upstreams
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.core.clock import Nanos
from raytrade.core.events import BookSnapshot
from raytrade.core.instrument import Filter
from raytrade.core.message import Message, decode
from raytrade.links.lanes import open_lane
from raytrade.links.opening import OpenLink, read_wish
from raytrade.links.publisher import Publisher
from raytrade.links.writer import LinkSettings
from tests.unit.links.streams import images_of, message_of

PATIENCE_S = 20.0


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until the condition holds; give its value."""
    waiting, end = threading.Event(), time.monotonic() + PATIENCE_S
    while not (value := holds()):
        assert time.monotonic() < end, f"not in {PATIENCE_S:.0f} s: {what}"
        waiting.wait(0.002)
    return value


class Failed(RayActorError):
    """What Ray gives where the called actor raised; `cause` is what it raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class Registry:
    """Who bears which name, in the place of Ray."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.actors: dict[str, Any] = {}
        self._calls: dict[str, ThreadPoolExecutor] = {}
        self.me: Any = None
        patch.setattr(upstreams, "ray", self)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(current_actor=Handle(self, "", lambda: self.me), get_node_id=lambda: "here")

    def get_actor(self, name: str, namespace: str) -> Any:
        if name not in self.actors:
            raise ValueError(f"no actor {name} in {namespace}")
        return Handle(self, name, lambda: self.actors[name])

    def get(self, reference: Any, timeout: float) -> Any:
        try:
            return reference.result(timeout)
        except KeyError:
            raise RayActorError from None
        except Exception as error:
            raise Failed(error) from error

    def submit(self, name: str, call: Callable[[], Any]) -> Any:
        return self._calls.setdefault(name, ThreadPoolExecutor(max_workers=1)).submit(call)


class Handle:
    """Calls methods of an actor one after the other, on a thread of their own."""

    def __init__(self, registry: Registry, name: str, actor: Callable[[], Any]) -> None:
        self._registry = registry
        self._name = name
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            reference = self._registry.submit(self._name, lambda: getattr(self._actor(), name)(*arguments))
            return SimpleNamespace(future=lambda: reference, result=reference.result)

        return SimpleNamespace(remote=remote)


def at_id(image: Message, id_last: int) -> Message:
    """Give the same book at another id."""
    book = decode(image)
    assert isinstance(book, BookSnapshot)
    return message_of(msgspec.structs.replace(book, id_last=id_last), image.line)


class Source:
    """A writer whose images keep up with what it gives out: what `give` takes goes out to whoever opened a link."""

    def __init__(self, registry: Registry, name: str, *images: Message, settings: LinkSettings | None = None) -> None:
        self.name = name
        self.images = list(images)
        settings = settings or LinkSettings()
        writer_id = int.from_bytes(os.urandom(7), "little") | 1
        self.publisher = Publisher(writer_id, settings, self._images, self._wake)
        self.thread = MachineThread(name, self._tick)
        self.thread.start()
        registry.actors[name] = self

    def _images(self, wanted: Filter) -> list[Message]:
        newest = self.publisher.ring.newest
        ids = {key: message.id_last for key, (_, message) in newest.items()}
        images = [at_id(image, max(image.id_last, ids.get(image.stream, 0))) for image in self.images]
        return images_of(*images)(wanted)

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self.publisher.pump(now_ns)
        return self.publisher.due_ns()

    def _wake(self, link: int, problem: str | None) -> None:
        self.thread.post(self.publisher.sent, link, problem)

    def _open(self, wish: OpenLink, reader: Any) -> int:
        self.publisher.open(wish, open_lane(wish, reader, self.name), self.thread.clock.now_ns())
        return self.publisher.writer_id

    def open_link(self, wish: bytes, reader: Any) -> int:
        return int(self.thread.call(self._open, read_wish(wish), reader))

    def give(self, *messages: Message) -> None:
        self.thread.post(self.publisher.append, list(messages))

    def die(self, registry: Registry) -> None:
        registry.actors.pop(self.name, None)
        self.thread.call(self.publisher.close)
        self.thread.stop()


class Sink:
    """A reader: keeps what it was brought, and when links came up or were lost."""

    def __init__(self, registry: Registry, name: str, writers: list[str], **wish: Any) -> None:
        registry.me = self
        self.received: list[Message] = []
        self.changes: list[bool] = []
        self.thread = MachineThread(name, self._tick)
        template = OpenLink(link=0, reader=name, **wish)
        self.upstreams = Upstreams(name, template, self.thread, self._take, self._change)
        self.upstreams.set_writers(writers)
        self.thread.start()

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self.upstreams.tick(now_ns)
        return None

    def _take(self, writer: str, data: bytes) -> None:
        self.received += self.upstreams.receive(writer, data, self.thread.clock.now_ns())

    def _change(self, writer: str, is_up: bool, now_ns: Nanos) -> None:
        self.changes.append(is_up)

    def receive_batch(self, writer: str, data: bytes) -> None:
        self.thread.post(self._take, writer, data)

    def reopen(self) -> None:
        """Have every link opened anew, as after a batch that was lost."""
        for reader in self.upstreams._readers.values():
            reader.lost()
            reader._retry_ns = 0
        self.upstreams._is_eager = True
        self.upstreams.tick(self.thread.clock.now_ns())

    def stop(self) -> None:
        self.thread.call(self.upstreams.close)
        self.thread.stop()
