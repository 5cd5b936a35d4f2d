"""`Network`: finds actors by name, carries calls and batches between them, and lets them die.

Two kinds of lanes, as in the real thing: *call* (a batch is a call to whoever bears the name now; the answer comes
back) and *local* (a socket to one incarnation, with room for a few batches).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Done, Sent
from raytrade.simulation.actor import Actor
from raytrade.simulation.world import World

LOCAL_BATCHES_MAX = 8
OPEN_TIMEOUT_NS = 2 * SECOND
CALL_RETRY_NS = MILLISECOND


class Reader(Protocol):
    """What takes batches."""

    def receive_batch(self, writer: str, data: bytes) -> None:
        """Take a batch."""


class Writer(Protocol):
    """What opens links."""

    def open_link(self, wish: OpenLink, reader: str) -> int:
        """Open a link; gives the writer's id."""


class LinkFault(msgspec.Struct):
    """Shares of batches that a link loses, repeats or lets others overtake; `is_cut` loses everything and all calls."""

    lose: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    is_cut: bool = False


NO_FAULT = LinkFault()


class Network:
    """All actors that live, and the ways between them."""

    def __init__(self, world: World, call_ns: Nanos) -> None:
        self.actors: dict[str, Actor] = {}
        self.faults: dict[tuple[str, str], LinkFault] = {}
        self.local: dict[tuple[str, str], bool] = {}
        self.on_crash: Callable[[str], None] = lambda _name: None
        self._world = world
        self._call_ns = call_ns

    def crash(self, name: str) -> None:
        """Kill the actor of that name, if it lives."""
        actor = self.actors.pop(name, None)
        if actor is not None:
            actor.die()
            self._world.note(name, "died")
            self.on_crash(name)

    def fault(self, one: str, other: str) -> LinkFault:
        """Give what is wrong between two actors; it is the same in both directions."""
        return self.faults.get((one, other)) or self.faults.get((other, one)) or NO_FAULT

    def delay_ns(self) -> Nanos:
        """Draw how long a call is under way."""
        return self._call_ns + self._world.between(0, self._call_ns)

    def call(self, caller: str, name: str, function: Callable[[Actor], None]) -> None:
        """Have something done at an actor, if it is there when the call arrives."""

        def arrive() -> None:
            actor = self.actors.get(name)
            if actor is not None and not self.fault(caller, name).is_cut:
                actor.post(function, actor)

        self._world.after(self.delay_ns(), arrive)

    def open_link(self, caller: Actor, name: str, wish: OpenLink, answer: Callable[[int], None]) -> None:
        """Ask an actor to open a link; `answer` gets the writer's id, or 0 if there was no answer."""
        world = self._world
        answered: list[int] = []

        def reply(writer_id: int) -> None:
            if not answered:
                answered.append(writer_id)
                caller.post(answer, writer_id)

        def ask(actor: Actor) -> None:
            writer_id = actor.open_link(wish, caller.name)  # type: ignore[attr-defined]
            world.after(self.delay_ns(), reply, writer_id)

        def arrive() -> None:
            actor = self.actors.get(name)
            if actor is None:
                world.after(self.delay_ns(), reply, 0)
            elif not self.fault(caller.name, name).is_cut:
                actor.post(ask, actor)

        world.after(self.delay_ns(), arrive)
        world.after(OPEN_TIMEOUT_NS, reply, 0)

    def lane(self, writer: Actor, reader: str) -> SimLane:
        """Give the lane between two actors."""
        return SimLane(self._world, self, writer, reader, is_local=self.local.get((writer.name, reader), False))


class SimLane:
    """Carries batches of one link; see the module."""

    def __init__(self, world: World, network: Network, writer: Actor, reader: str, *, is_local: bool) -> None:
        self.name = "local" if is_local else "call"
        self.is_local = is_local
        self._world = world
        self._network = network
        self._writer = writer
        self._reader = reader
        self._incarnation = network.actors.get(reader)
        self._under_way = 0
        self._inbox: deque[tuple[bytes, Done, bool]] = deque()
        self._last_ns: Nanos = 0

    def send(self, data: bytes, done: Done) -> Sent:
        """Send a batch on its way."""
        if self.is_local:
            actor = self._network.actors.get(self._reader)
            if actor is None or actor is not self._incarnation:
                return Sent.LOST
            if self._under_way >= LOCAL_BATCHES_MAX:
                return Sent.FULL
        fault, world = self._network.fault(self._writer.name, self._reader), self._world
        delay_ns = MILLISECOND // 10 if self.is_local else self._network.delay_ns()
        due_ns = self._last_ns = max(world.now_ns + delay_ns, self._last_ns + 1)
        if world.chance(fault.reorder):
            due_ns += world.between(1, 20 * MILLISECOND)
        self._under_way += 1
        is_lost = fault.is_cut or world.chance(fault.lose)
        world.at(due_ns, self._arrive, data, done, is_lost)
        if world.chance(fault.repeat):
            world.at(due_ns + world.between(1, 5 * MILLISECOND), self._hand_over, data)
        return Sent.TAKEN if self.is_local else Sent.PENDING

    def _arrive(self, data: bytes, done: Done, is_lost: bool) -> None:
        if self._writer.is_alive or self._world.chance(0.5):
            self._inbox.append((data, done, is_lost))
            if len(self._inbox) == 1:
                self._deliver()

    def _deliver(self) -> None:
        """Hand over what has arrived, in its order; a full mailbox keeps it waiting."""
        while self._inbox:
            data, done, is_lost = self._inbox[0]
            actor = self._network.actors.get(self._reader)
            if actor is None or (self.is_local and actor is not self._incarnation):
                self._finish(done, "the actor is dead")
            elif is_lost:
                self._finish(done, None)
            elif not actor.has_room():
                self._world.after(CALL_RETRY_NS, self._deliver)
                return
            else:
                self._hand_over(data)
                self._finish(done, None)
            self._inbox.popleft()

    def _hand_over(self, data: bytes) -> None:
        actor = self._network.actors.get(self._reader)
        if actor is not None and actor.has_room():
            actor.post_batch(actor.receive_batch, self._writer.name, data)  # type: ignore[attr-defined]

    def _finish(self, done: Done, problem: str | None) -> None:
        self._under_way -= 1
        if not self.is_local:
            self._world.after(self._network.delay_ns(), done, problem)

    def close(self) -> None:
        """Nothing is held."""
