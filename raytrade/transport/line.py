"""`Line`: one websocket and its venue machine. Reads frames, stamps them, runs the machine's commands, reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from raytrade.core.clock import SECOND, Clock
from raytrade.core.events import RETIRED, Event, LineDown, LineUp
from raytrade.errors import LineLost
from raytrade.transport.backoff import Backoff
from raytrade.transport.egress import Egress
from raytrade.transport.rest import WeightBudget, fetch
from raytrade.transport.rotation import rotation_due_ns
from raytrade.transport.websocket import DIRECT, Websocket, open_websocket
from raytrade.venues.protocol import (
    FRAME_BYTES_MAX,
    Command,
    FetchSnapshot,
    Reconnect,
    Refused,
    SendFrame,
    VenueMachine,
)

OPEN_TIMEOUT_S = 10.0
TICK_S = 0.25
GOOD_AFTER_S = 10.0
"""A connection that lasted this long resets the backoff."""

Deliver = Callable[[str, list[Event]], None]


class LineStatus(msgspec.Struct):
    """The state of a line for people; `local_address` is the socket's own."""

    is_up: bool = False
    local_address: str = ""
    reconnects: int = 0
    last_reason: str = ""
    refused: dict[str, str] = {}


class Line:
    """Runs one connection for ever; `deliver(name, events)` is called from the event loop."""

    def __init__(
        self,
        name: str,
        machine: VenueMachine,
        clock: Clock,
        budget: WeightBudget,
        life_s: int = 0,
        egress: Egress = DIRECT,
        slot: int = 0,
    ) -> None:
        """`life_s`: after how long the venue cuts every connection; 0 if it does not. `slot`: of the rotation."""
        self.name = name
        self.machine = machine
        self.status = LineStatus()
        self.fetched_ns: dict[str, int] = {}
        self._clock = clock
        self._budget = budget
        self._egress = egress
        self._backoff = Backoff(seed=sum(name.encode()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: Websocket | None = None
        self._given_up = ""
        self._life_s = life_s
        self.slot = slot

    async def run(self, deliver: Deliver) -> None:
        """Connect, read, and connect again."""
        while True:
            opened_s = asyncio.get_running_loop().time()
            reason = await self._session(deliver)
            self._given_up = ""
            self._closed(deliver, reason)
            if asyncio.get_running_loop().time() - opened_s > GOOD_AFTER_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.delay_s())

    async def _session(self, deliver: Deliver) -> str:
        """Run one connection; gives the reason of its end."""
        url, name = self.machine.endpoint.url, self.name

        def open_(socket: Websocket) -> None:
            now_ns = self._clock.now_ns()
            self._socket = socket
            self.machine.receive_open(now_ns)
            self.status.is_up = True
            self.status.local_address = socket.local_address
            self.status.refused.clear()
            deliver(name, [LineUp(venue=self.machine.venue, ts_recv_ns=now_ns)])
            self._drain(deliver)

        def receive(frame: bytes) -> None:
            self.machine.receive_frame(frame, self._clock.now_ns())
            self._drain(deliver)

        try:
            socket = await open_websocket(url, open_, receive, FRAME_BYTES_MAX, OPEN_TIMEOUT_S, self._egress)
        except LineLost as error:
            return error.reason
        ticker = asyncio.create_task(self._tick(deliver))
        try:
            reason = await socket.closed
        finally:
            ticker.cancel()
            socket.abort()
            self._socket = None
        return self._given_up or reason

    def _drain(self, deliver: Deliver) -> None:
        """Hand on what the machine delivered and run what it asks for."""
        events = self.machine.events()
        if events:
            deliver(self.name, events)
        commands = self.machine.commands()
        if commands:
            self._run(commands, deliver)

    async def _tick(self, deliver: Deliver) -> None:
        """Let the machine watch its deadlines, and rotate before the venue cuts."""
        opened_ns = self._clock.now_ns()
        while True:
            await asyncio.sleep(TICK_S)
            rotation_ns = rotation_due_ns(self.slot, opened_ns, self._life_s)
            if rotation_ns is not None and self._clock.now_ns() >= rotation_ns and self._socket is not None:
                self._given_up = "rotated before the venue's cut"
                self._socket.close()
            due_ns = self.machine.deadline_ns()
            if due_ns is not None and self._clock.now_ns() >= due_ns:
                self.machine.receive_timeout(self._clock.now_ns())
                self._drain(deliver)

    def request_snapshot(self, symbol: str, deliver: Deliver) -> None:
        """Ask the venue for a fresh book, unless it was asked within the last second."""
        now_ns = self._clock.now_ns()
        if not self.status.is_up or 0 <= now_ns - self.fetched_ns.get(symbol, 0) < SECOND:
            return
        self.fetched_ns[symbol] = now_ns
        self.machine.request_snapshot(symbol, now_ns)
        self._drain(deliver)

    def _run(self, commands: list[Command], deliver: Deliver) -> None:
        for command in commands:
            match command:
                case SendFrame(data):
                    if self._socket is not None:
                        self._socket.send(data)
                case FetchSnapshot():
                    self._spawn(self._fetch(command, deliver))
                case Refused(symbol, reason):
                    self.status.refused[symbol] = reason
                    if not reason:
                        del self.status.refused[symbol]
                case Reconnect(reason):
                    self._given_up = reason
                    if self._socket is not None:
                        self._socket.close()

    async def _fetch(self, command: FetchSnapshot, deliver: Deliver) -> None:
        while (wait_ns := self._budget.spend(command.weight, self._clock.now_ns())) > 0:
            await asyncio.sleep(wait_ns / SECOND)
        try:
            body = await fetch(command.url, self._egress)
        except LineLost as error:
            self.status.last_reason = str(error)
            return
        self.machine.receive_snapshot(command.symbol, body, self._clock.now_ns())
        deliver(self.name, self.machine.events())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _closed(self, deliver: Deliver, reason: str) -> None:
        now_ns = self._clock.now_ns()
        self.machine.receive_close(now_ns)
        self.status.last_reason = reason
        if self.status.is_up:
            self.status.is_up = False
            self.status.reconnects += 1
            deliver(self.name, [LineDown(venue=self.machine.venue, cause=reason, ts_recv_ns=now_ns)])

    @property
    def is_served(self) -> bool:
        """Tell whether it is up and the first book message of every subscription has come (or never will)."""
        return self.status.is_up and self.machine.is_served

    def retire(self, deliver: Deliver) -> None:
        """Say that the line is given up for good; its task must be cancelled before."""
        self.status.is_up = False
        deliver(self.name, [LineDown(venue=self.machine.venue, cause=RETIRED, ts_recv_ns=self._clock.now_ns())])

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._socket.close()
