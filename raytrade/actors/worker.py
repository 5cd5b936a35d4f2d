"""`MachineThread`: the one thread of an actor that owns its state.

Calls from other threads are posted to its bounded mailbox; sockets are read by the thread itself. It sleeps in the
kernel until one of them, or its own next deadline, wakes it; with `busy_poll` it looks again and again instead.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import traceback
from collections.abc import Callable
from queue import Empty, Full, Queue
from typing import Any, Protocol

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.errors import PipelineError
from raytrade.transport.clock import SystemClock

MAILBOX_ITEMS_MAX = 1024
TAKE_MAX = 256
IDLE_NS = 100 * MILLISECOND
POST_TIMEOUT_S = 30.0
FINE_NS = 3 * MILLISECOND
"""Shorter waits need a finer clock than epoll's milliseconds."""


class Readable(Protocol):
    """Something with a descriptor to wait on."""

    def fileno(self) -> int:
        """Give the descriptor."""
        ...


class MachineThread:
    """Runs posted calls and the callbacks of watched sockets, and `tick(now_ns)` after each group and when due.

    `tick` gives the time at which it wants to be called next, or None. An exception that nobody caught is our own
    fault: it is printed and ends the process, so that the actor is started again and its readers notice.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[Nanos], Nanos | None],
        *,
        busy_poll: bool = False,
        mailbox_items_max: int = MAILBOX_ITEMS_MAX,
    ) -> None:
        """`busy_poll`: never sleep, for a core that nothing else needs."""
        self.clock = SystemClock()
        self._tick = tick
        self._busy_poll = busy_poll
        self._mailbox: Queue[tuple[Callable[..., None], tuple[Any, ...]]] = Queue(mailbox_items_max)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._bell, select.EPOLLIN)
        self._watched: dict[int, Callable[[], None]] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def watch(self, source: Readable, callback: Callable[[], None]) -> None:
        """Have `callback` called on the thread whenever `source` can be read; from the thread or before `start`."""
        self._watched[source.fileno()] = callback
        self._epoll.register(source.fileno(), select.EPOLLIN)

    def unwatch(self, source: Readable) -> None:
        """Watch `source` no more; must come before it is closed."""
        if self._watched.pop(source.fileno(), None) is not None:
            self._epoll.unregister(source.fileno())

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function` called on the thread; waits while the mailbox is full.

        Raises:
            PipelineError: the thread has not taken anything for `POST_TIMEOUT_S`.
        """
        try:
            self._mailbox.put((function, arguments), timeout=POST_TIMEOUT_S)
        except Full:
            raise PipelineError(f"{self._thread.name}: the mailbox is full") from None
        os.eventfd_write(self._bell, 1)

    def wake(self) -> None:
        """Have `tick` called soon; from any thread."""
        os.eventfd_write(self._bell, 1)

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float = 10.0) -> Any:
        """Have `function` called on the thread and give its result.

        Raises:
            PipelineError: no result in time.
        """
        done = threading.Event()
        results: list[Any] = []

        def run() -> None:
            results.append(function(*arguments))
            done.set()

        self.post(run)
        if not done.wait(timeout_s):
            raise PipelineError(f"{self._thread.name}: no answer within {timeout_s:.0f} s")
        return results[0]

    def stop(self) -> None:
        """End the thread after what is in the mailbox now."""
        self.post(self._stopping.set)
        self._thread.join(POST_TIMEOUT_S)

    def _run(self) -> None:
        try:
            due_ns = self._tick(self.clock.now_ns())
            while not self._stopping.is_set():
                for callback in self._wait(due_ns):
                    callback()
                due_ns = self._tick(self.clock.now_ns())
        except BaseException:  # noqa: BLE001 - the boundary of the actor
            try:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(70)

    def _wait(self, due_ns: Nanos | None) -> list[Callable[[], None]]:
        """Sleep until something comes or is due. Epoll counts in milliseconds, select on it in microseconds."""
        wait_ns = IDLE_NS if due_ns is None else max(0, min(IDLE_NS, due_ns - self.clock.now_ns()))
        callbacks = []
        for descriptor, _ in self._spin(wait_ns) if self._busy_poll else self._sleep(wait_ns):
            callback = self._take if descriptor == self._bell else self._watched.get(descriptor)
            if callback is not None:
                callbacks.append(callback)
        return callbacks

    def _sleep(self, wait_ns: Nanos) -> list[tuple[int, int]]:
        if 0 < wait_ns < FINE_NS:
            select.select([self._epoll], (), (), wait_ns / SECOND)
            wait_ns = 0
        return self._epoll.poll(wait_ns / SECOND)

    def _spin(self, wait_ns: Nanos) -> list[tuple[int, int]]:
        """Look until something is there or due; each look lets other threads of the process have their turn."""
        poll, now_ns = self._epoll.poll, self.clock.now_ns
        until_ns = now_ns() + wait_ns
        while not (ready := poll(0)) and now_ns() < until_ns:
            pass
        return ready

    def _take(self) -> None:
        os.eventfd_read(self._bell)
        try:
            for _ in range(TAKE_MAX):
                function, arguments = self._mailbox.get_nowait()
                function(*arguments)
            os.eventfd_write(self._bell, 1)
        except Empty:
            pass
