"""`MachineThread`: the one thread of an actor that owns its state; everything else posts to its bounded mailbox."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from queue import Empty, Full, Queue
from typing import Any

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.errors import PipelineError
from raytrade.transport.clock import SystemClock

MAILBOX_ITEMS_MAX = 1024
TAKE_MAX = 64
IDLE_NS = 100 * MILLISECOND
POST_TIMEOUT_S = 30.0


class MachineThread:
    """Runs posted calls one after the other, and `tick(now_ns)` after each group of them and when it is due.

    `tick` gives the time at which it wants to be called next, or None. An exception that nobody caught is our own fault:
    it is printed and ends the process, so that the actor is started again and its readers notice.
    """

    def __init__(self, name: str, tick: Callable[[Nanos], Nanos | None]) -> None:
        self.clock = SystemClock()
        self._tick = tick
        self._mailbox: Queue[tuple[Callable[..., None], tuple[Any, ...]]] = Queue(MAILBOX_ITEMS_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function` called on the thread; waits while the mailbox is full.

        Raises:
            PipelineError: the thread has not taken anything for `POST_TIMEOUT_S`.
        """
        try:
            self._mailbox.put((function, arguments), timeout=POST_TIMEOUT_S)
        except Full:
            raise PipelineError(f"{self._thread.name}: the mailbox is full") from None

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
                self._take(due_ns)
                due_ns = self._tick(self.clock.now_ns())
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(70)

    def _take(self, due_ns: Nanos | None) -> None:
        now_ns = self.clock.now_ns()
        wait_ns = IDLE_NS if due_ns is None else min(IDLE_NS, due_ns - now_ns)
        try:
            function, arguments = self._mailbox.get(wait_ns > 0, max(wait_ns, 0) / SECOND)
            function(*arguments)
            for _ in range(TAKE_MAX):
                function, arguments = self._mailbox.get_nowait()
                function(*arguments)
        except Empty:
            pass
