"""`Line`: one websocket and its venue machine. Reads frames, stamps them, runs the machine's commands, reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from raytrade.core.clock import SECOND, Clock
from raytrade.core.events import Event, LineDown, LineUp
from raytrade.errors import LineLost
from raytrade.transport.backoff import Backoff
from raytrade.transport.rest import WeightBudget, fetch
from raytrade.venues.protocol import (
    FRAME_BYTES_MAX,
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
    """The state of a line for people."""

    is_up: bool = False
    reconnects: int = 0
    last_reason: str = ""
    refused: dict[str, str] = {}


class Line:
    """Runs one connection for ever; `deliver(name, events)` is called from the event loop."""

    def __init__(self, name: str, machine: VenueMachine, clock: Clock, budget: WeightBudget) -> None:
        self.name = name
        self.machine = machine
        self.status = LineStatus()
        self.fetched_ns: dict[str, int] = {}
        self._clock = clock
        self._budget = budget
        self._backoff = Backoff(seed=sum(name.encode()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: ClientConnection | None = None

    async def run(self, deliver: Deliver) -> None:
        """Connect, read, and connect again."""
        while True:
            opened_s = asyncio.get_running_loop().time()
            reason = await self._session(deliver)
            self._closed(deliver, reason)
            if asyncio.get_running_loop().time() - opened_s > GOOD_AFTER_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.delay_s())

    async def _session(self, deliver: Deliver) -> str:
        """Run one connection; gives the reason of its end."""
        url = self.machine.endpoint.url
        try:
            async with connect(
                url,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1,
                max_size=FRAME_BYTES_MAX,
                max_queue=1024,
                compression=None,
                ping_interval=20,
                ping_timeout=20,
            ) as socket:
                self._socket = socket
                await self._serve(socket, deliver)
            return "the venue closed the connection"
        except (OSError, WebSocketException, asyncio.TimeoutError, LineLost) as error:
            return str(error) or type(error).__name__
        finally:
            self._socket = None

    async def _serve(self, socket: ClientConnection, deliver: Deliver) -> None:
        machine, clock = self.machine, self._clock
        machine.receive_open(clock.now_ns())
        await self._run_commands(deliver)
        self.status.is_up = True
        deliver(self.name, [LineUp(venue=machine.venue, ts_recv_ns=clock.now_ns())])
        ticker = asyncio.create_task(self._tick(socket, deliver))
        try:
            async for frame in socket:
                machine.receive_frame(frame, clock.now_ns())
                events = machine.events()
                if events:
                    deliver(self.name, events)
                commands = machine.commands()
                if commands:
                    await self._run(commands, deliver)
            if ticker.done():
                ticker.result()
        finally:
            ticker.cancel()

    async def _tick(self, socket: ClientConnection, deliver: Deliver) -> None:
        """Let the machine watch its deadlines."""
        while True:
            await asyncio.sleep(TICK_S)
            due_ns = self.machine.deadline_ns()
            if due_ns is not None and self._clock.now_ns() >= due_ns:
                self.machine.receive_timeout(self._clock.now_ns())
                try:
                    await self._run_commands(deliver)
                except LineLost:
                    await socket.close()
                    raise

    def request_snapshot(self, symbol: str, deliver: Deliver) -> None:
        """Ask the venue for a fresh book, unless it was asked within the last second."""
        now_ns = self._clock.now_ns()
        if not self.status.is_up or now_ns - self.fetched_ns.get(symbol, 0) < SECOND:
            return
        self.fetched_ns[symbol] = now_ns
        self.machine.request_snapshot(symbol, now_ns)
        self._spawn(self._run_commands(deliver))

    async def _run_commands(self, deliver: Deliver) -> None:
        await self._run(self.machine.commands(), deliver)

    async def _run(self, commands: list[SendFrame | FetchSnapshot | Reconnect | Refused], deliver: Deliver) -> None:
        for command in commands:
            match command:
                case SendFrame(data):
                    if self._socket is not None:
                        await self._socket.send(data)
                case FetchSnapshot():
                    self._spawn(self._fetch(command, deliver))
                case Refused(symbol, reason):
                    self.status.refused[symbol] = reason
                case Reconnect(reason):
                    raise LineLost(self.name, reason)

    async def _fetch(self, command: FetchSnapshot, deliver: Deliver) -> None:
        while (wait_ns := self._budget.wait_ns(command.weight, self._clock.now_ns())) > 0:
            await asyncio.sleep(wait_ns / SECOND)
        try:
            body = await fetch(command.url)
        except LineLost as error:
            self.status.last_reason = str(error)
            return
        self.machine.receive_snapshot(command.symbol, body, self._clock.now_ns())
        deliver(self.name, self.machine.events())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(_quietly(work))
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

    async def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            with suppress(OSError, WebSocketException):
                await self._socket.close()


async def _quietly(work: Coroutine[object, object, None]) -> None:
    """A command whose connection went away in the meantime is void."""
    with suppress(OSError, WebSocketException, LineLost):
        await work
