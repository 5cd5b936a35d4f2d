"""The emulator: a websocket and REST server around a feed.

Invariant: one event loop owns everything; a feed, its links and the journal are touched by no
other thread. Called by tests, by `running.py` and through it by the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from raytrade.errors import ConfigError

from .capture_feed import CaptureFeed
from .control import answer_control
from .dialect import Session
from .faults import FaultPlan, FaultRule, parse_faults
from .feed import Feed
from .journal import Journal, Truth
from .link import Link, is_congested
from .settings import EmulatorSettings
from .synthetic_feed import SyntheticFeed

CONGESTED_BYTES = 256 * 1024
"""Bytes waiting for one client at which a stream without a pace of its own waits."""
PAUSE_S_MAX = 0.02
"""Longest sleep of the pace loop."""
PAUSE_S_BUSY = 0.001
"""Sleep of the pace loop while faults hold messages or a client is congested."""
TURN_S_MAX = 0.002
"""Time the pace loop may publish before it flushes and lets others run."""
MESSAGE_BYTES_MAX = 1 << 20


class Emulator:
    """Speaks a venue's protocol on one port, from `start()` to `stop()`."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.port = settings.port
        self._journal = Journal(settings.venue or "capture", settings.journal)
        self._feed: Feed = self._make_feed()
        self._rules: list[tuple[FaultRule, float]] = [(r, 0.0) for r in settings.fault_rules()]
        self._links: list[Link] = []
        self._server: Server | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._started_at_s: float | None = None
        self._opened_at_s = 0.0
        self._finished = asyncio.Event()
        self._connections = 0

    @property
    def url(self) -> str:
        """Websocket address; REST is served at the same place under http."""
        return f"ws://{self.settings.host}:{self.port}"

    @property
    def is_started(self) -> bool:
        """Tell whether the stream has begun."""
        return self._started_at_s is not None

    @property
    def is_finished(self) -> bool:
        """Tell whether all updates or frames have been handed to the sockets."""
        return self._finished.is_set()

    @property
    def connections(self) -> list[int]:
        """List the numbers of the open connections."""
        return [link.number for link in self._links if link.is_open]

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ConfigError: the port is taken or the address is not of this machine.
        """
        every_s = self._feed.ping_every_s or None
        try:
            self._server = await serve_websocket(
                self._handle,
                self.settings.host,
                self.settings.port,
                process_request=self._answer_rest,
                compression=None,
                ping_interval=every_s,
                ping_timeout=60.0 if every_s else None,
                max_size=MESSAGE_BYTES_MAX,
                close_timeout=1.0,
            )
        except OSError as error:
            raise ConfigError("", "port", self._bind_problem(error)) from error
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self._opened_at_s = asyncio.get_running_loop().time()
        if self.settings.clients == 0:
            self.begin()
        self._loop_task = asyncio.create_task(self._pace())

    async def stop(self) -> None:
        """Close every connection and the journal; further calls do nothing."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
            self._loop_task = None
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self._journal.close(self._feed.books())

    async def run_until_finished(self) -> None:
        """Wait until all updates or frames have been handed to the sockets.

        Raises:
            Exception: whatever ended the pace loop, if it failed.
        """
        waiter = asyncio.create_task(self._finished.wait())
        tasks = {waiter} if self._loop_task is None else {waiter, self._loop_task}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not waiter.done():
            waiter.cancel()
            if self._loop_task is not None:
                self._loop_task.result()

    def begin(self) -> None:
        """Start the stream now, whoever is connected."""
        if self._started_at_s is None:
            self._started_at_s = asyncio.get_running_loop().time()

    def truth(self) -> Truth:
        """Copy what was truly done and sent so far."""
        self._journal.counts["open"] = len(self.connections)
        return self._journal.truth(self._feed.books(), self.is_finished)

    def cut(self, connection: int | None = None) -> int:
        """Close one connection, or all, at once without handshake; return how many."""
        chosen = [link for link in self._links if connection in (None, link.number)]
        chosen = [link for link in chosen if link.is_open]
        for link in chosen:
            link.cut("cut")
        return len(chosen)

    def set_fault(self, text: str) -> None:
        """Put faults in force on open and future connections; their times count from now.

        Raises:
            ConfigError: malformed, or not possible with this source.
        """
        rules = parse_faults([text])
        for rule in rules:
            self.settings.check_fault(rule)
        origin_s = self._now_s()
        for rule in rules:
            self._rules.append((rule, origin_s))
            for link in self._links:
                self._plan_of(link).add(rule, origin_s)

    def clear_faults(self) -> None:
        """Lift every fault, on open and future connections."""
        self._rules = []
        for link in self._links:
            if link.plan is not None:
                link.plan.clear()

    def status(self) -> dict[str, object]:
        """Tell in a few counts where the stream is."""
        symbols = self._journal.symbols
        return {
            "venue": self._journal.venue,
            "is_started": self.is_started,
            "is_finished": self.is_finished,
            "connections": self.connections,
            "updates": {symbol: len(log.ids) for symbol, log in symbols.items()},
            "faults": dict(self._journal.fault_counts),
            "rules": [rule.text for rule, _ in self._rules],
        }

    def _make_feed(self) -> Feed:
        if not self.settings.capture:
            return SyntheticFeed(self.settings, self._journal)
        feed = CaptureFeed(self.settings, self._journal)
        self._journal.venue = feed.venue
        return feed

    def _bind_problem(self, error: OSError) -> str:
        place = f"{self.settings.host}:{self.settings.port}"
        if error.errno == errno.EADDRINUSE:
            return f"{place} is in use by another program"
        return f"cannot listen on {place}: {error.strerror or error}"

    def _now_s(self) -> float:
        if self._started_at_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._started_at_s

    def _plan_of(self, link: Link) -> FaultPlan:
        if link.plan is None:
            link.plan = FaultPlan(link.number, self.settings.seed, self._now_s())
        return link.plan

    async def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        if request is None:
            return
        self._connections += 1
        link = Link(connection, self._connections, session_of(request.path), self._journal)
        for rule, origin_s in self._rules:
            self._plan_of(link).add(rule, origin_s)
        self._links.append(link)
        try:
            self._feed.connect(link)
            link.flush()
            async for text in connection:
                self._feed.receive(link, text)
                link.flush()
        except ConnectionClosed:
            pass
        finally:
            self._links.remove(link)
            self._feed.disconnect(link)

    async def _answer_rest(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        session = session_of(request.path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if self._feed.accepts(session):
                return None
            return connection.respond(HTTPStatus.NOT_FOUND, "no such stream\n")
        reply = answer_control(self, session) or self._feed.rest(
            session.path, session.query, request.path
        )
        if reply is None:
            return connection.respond(HTTPStatus.NOT_FOUND, '{"error":"no such path"}')
        self._journal.counts["rest"] += 1
        response = connection.respond(HTTPStatus(reply.status), reply.body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause_s = self._turn(loop)
            await asyncio.sleep(pause_s)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> float:
        """Publish what is due and flush; return how long to sleep."""
        if self._started_at_s is None and self._is_ready():
            self.begin()
        self._feed.beat(loop.time() - self._opened_at_s)
        pause_s = PAUSE_S_MAX
        if self._started_at_s is not None and not self._feed.is_finished:
            pause_s = self._publish(loop)
        now_s = self._now_s()
        for link in list(self._links):
            link.poll(now_s)
            link.flush()
        self._drop_slow(loop)
        if self._feed.is_finished and all(link.is_idle for link in self._links):
            self._finished.set()
        if any(not link.is_idle for link in self._links):
            return min(pause_s, PAUSE_S_BUSY)
        return min(pause_s, PAUSE_S_MAX)

    def _publish(self, loop: asyncio.AbstractEventLoop) -> float:
        if is_congested(self._links, CONGESTED_BYTES) and self._feed.is_greedy:
            return PAUSE_S_BUSY
        deadline_s = loop.time() + TURN_S_MAX
        pause_s = 0.0
        while pause_s == 0.0 and loop.time() < deadline_s:
            pause_s = self._feed.publish(self._now_s())
        return pause_s

    def _is_ready(self) -> bool:
        ready = sum(link.is_ready for link in self._links)
        return 0 < self.settings.clients <= ready

    def _drop_slow(self, loop: asyncio.AbstractEventLoop) -> None:
        for link in self._links:
            if not link.is_open:
                continue
            is_holding_up = (
                self._feed.is_greedy
                and link.congested_s is not None
                and loop.time() - link.congested_s > self.settings.slow_client_s_max
            )
            if is_holding_up or link.backlog_bytes > self.settings.buffer_bytes_max:
                link.cut("slow_client")


def session_of(target: str) -> Session:
    """Divide the target of a request into path and query."""
    parts = urlsplit(target)
    return Session(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)))
