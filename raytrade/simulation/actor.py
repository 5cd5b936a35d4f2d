"""`Actor`: what a machine thread is to an actor's state, in the simulation: a mailbox, a clock and the next tick.

`receive_batch` and everything else that reaches an actor goes through `post`; an actor that is busy (stopped, or with
slow work) leaves it in the mailbox. An exception `Crashed` in the middle of it is the actor's death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.simulation.world import Crashed, World

if TYPE_CHECKING:
    from raytrade.simulation.network import Network

IDLE_NS = 100 * MILLISECOND
MAILBOX_BATCHES_MAX = 64
"""Batches that wait at a busy actor; what comes then waits on its lane."""


class Actor:
    """One incarnation; `name` is the same for all of them, `crashed` is told of its death."""

    def __init__(self, name: str, world: World, network: Network) -> None:
        self.name = name
        self.world = world
        self.network = network
        self.is_alive = True
        self.busy_until_ns: Nanos = 0
        self.batches_waiting = 0
        self.mailbox_max = 0
        self._mailbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake_ns: Nanos = 0
        self._is_running = False

    @property
    def now_ns(self) -> Nanos:
        """The time on this actor's host."""
        return self.world.now_ns + self.world.offsets_ns.get(self.name, 0)

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Do what is due; gives when to be called next, or None."""
        raise NotImplementedError

    def step(self) -> None:
        """Mark a point at which the actor may die."""
        crash_in = self.world.crash_in
        if self.name in crash_in:
            crash_in[self.name] -= 1
            if crash_in[self.name] <= 0:
                del crash_in[self.name]
                raise Crashed

    def die(self) -> None:
        """Be no more: nothing that was posted happens."""
        self.is_alive = False
        self._mailbox.clear()

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function` called, now or when the actor is not busy any more."""
        if self.is_alive:
            self._mailbox.append((function, arguments))
            self._run()

    def post_batch(self, function: Callable[..., None], *arguments: Any) -> None:
        """Like `post`, of a batch: counted against the mailbox's bound."""
        self.batches_waiting += 1
        self.mailbox_max = max(self.mailbox_max, self.batches_waiting)
        self.post(self._take_batch, function, arguments)

    def _take_batch(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.batches_waiting -= 1
        function(*arguments)

    def has_room(self) -> bool:
        """Tell whether another batch may be posted."""
        return self.batches_waiting < MAILBOX_BATCHES_MAX

    def work(self, duration_ns: Nanos) -> None:
        """Be busy for a while from now on (or after what is going on already)."""
        self.busy_until_ns = max(self.busy_until_ns, self.world.now_ns) + duration_ns

    def start(self) -> None:
        """Begin."""
        self._run()

    def _run(self) -> None:
        if self._is_running or not self.is_alive:
            return
        world = self.world
        if world.now_ns < self.busy_until_ns:
            self._wake_at(self.busy_until_ns)
            return
        self._is_running = True
        try:
            while self._mailbox and world.now_ns >= self.busy_until_ns:
                function, arguments = self._mailbox.popleft()
                function(*arguments)
            self.step()
            due_ns = self.tick(self.now_ns)
        except Crashed:
            self.network.crash(self.name)
            return
        finally:
            self._is_running = False
        wait_ns = IDLE_NS if due_ns is None else max(0, min(IDLE_NS, due_ns - self.now_ns))
        if self._mailbox:
            wait_ns = 0
        self._wake_at(max(world.now_ns + wait_ns, self.busy_until_ns))

    def _wake_at(self, wake_ns: Nanos) -> None:
        world = self.world
        if not world.now_ns < self._wake_ns <= wake_ns:
            self._wake_ns = max(wake_ns, world.now_ns + 1)
            world.at(self._wake_ns, self._wake, self._wake_ns)

    def _wake(self, wake_ns: Nanos) -> None:
        if wake_ns == self._wake_ns:
            self._wake_ns = 0
            self._run()
