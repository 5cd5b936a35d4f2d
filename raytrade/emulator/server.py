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
from .link import Link
from .pace import Pace
from .scripted_feed import Script, ScriptedFeed
from .settings import EmulatorSettings
from .synthetic_feed import SyntheticFeed

MESSAGE_BYTES_MAX = 1 << 20


class Emulator:
    """Speaks a venue's protocol on one port, from `start()` to `stop()`."""

    def __init__(self, settings: EmulatorSettings, script: Script | None = None) -> None:
        """`script`: what to serve instead of a synthetic market."""
        self.settings = settings
        self._script = script
        self.port = settings.port
        self._journal = Journal(settings.venue or "capture", settings.journal)
        self._feed: Feed = self._make_feed()
        self._rules: list[tuple[FaultRule, float]] = [(r, 0.0) for r in settings.fault_rules()]
        self._pace = Pace(settings, self._feed)
        self._server: Server | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._connections = 0

    @property
    def url(self) -> str:
        """Websocket address; REST is served at the same place under http."""
        return f"ws://{self.settings.host}:{self.port}"

    @property
    def is_started(self) -> bool:
        """Tell whether the stream has begun."""
        return self._pace.is_started

    @property
    def is_finished(self) -> bool:
        """Tell whether all updates or frames have been handed to the sockets."""
        return self._pace.finished.is_set()

    @property
    def connections(self) -> list[int]:
        """List the numbers of the open connections."""
        return [link.number for link in self._pace.links if link.is_open]

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
        self._loop_task = asyncio.create_task(self._pace.run())

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
        waiter = asyncio.create_task(self._pace.finished.wait())
        tasks = {waiter} if self._loop_task is None else {waiter, self._loop_task}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not waiter.done():
            waiter.cancel()
            if self._loop_task is not None:
                self._loop_task.result()

    def begin(self) -> None:
        """Start the stream now, whoever is connected."""
        self._pace.begin()

    def finish(self) -> None:
        """End the stream with the update or frame that went out last."""
        self._feed.finish()

    def truth(self) -> Truth:
        """Copy what was truly done and sent so far."""
        self._journal.counts["open"] = len(self.connections)
        return self._journal.truth(self._feed.books(), self.is_finished)

    def cut(self, connection: int | None = None) -> int:
        """Close one connection, or all, at once without handshake; return how many."""
        chosen = [link for link in self._pace.links if connection in (None, link.number)]
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
        origin_s = self._pace.now_s
        for rule in rules:
            self._rules.append((rule, origin_s))
            for link in self._pace.links:
                self._plan_of(link).add(rule, origin_s)

    def clear_faults(self) -> None:
        """Lift every fault, on open and future connections."""
        self._rules = []
        for link in self._pace.links:
            link.lift_faults()

    def status(self) -> dict[str, object]:
        """Tell in a few counts where the stream is."""
        symbols = self._journal.symbols
        return {
            "venue": self._journal.venue,
            "is_started": self.is_started,
            "is_finished": self.is_finished,
            "connections": self.connections,
            "peers": {str(link.number): link.peer for link in self._pace.links if link.is_open},
            "updates": {symbol: len(log.ids) for symbol, log in symbols.items()},
            "faults": dict(self._journal.fault_counts),
            "rules": [rule.text for rule, _ in self._rules],
        }

    def _make_feed(self) -> Feed:
        if self._script is not None:
            return ScriptedFeed(self.settings, self._journal, self._script)
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

    def _plan_of(self, link: Link) -> FaultPlan:
        if link.plan is None:
            link.plan = FaultPlan(link.number, self.settings.seed, self._pace.now_s)
        return link.plan

    async def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        if request is None:
            return
        self._connections += 1
        link = Link(connection, self._connections, session_of(request.path), self._journal)
        for rule, origin_s in self._rules:
            self._plan_of(link).add(rule, origin_s)
        self._pace.links.append(link)
        try:
            self._feed.connect(link)
            link.flush()
            async for text in connection:
                self._feed.receive(link, text)
                link.flush()
        except ConnectionClosed:
            pass
        finally:
            self._pace.links.remove(link)
            self._feed.disconnect(link)

    async def _answer_rest(self, connection: ServerConnection, request: Request) -> Response | None:
        session = session_of(request.path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if self._feed.accepts(session):
                return None
            return connection.respond(HTTPStatus.NOT_FOUND, "no such stream\n")
        reply = answer_control(self, session) or self._feed.rest(session.path, session.query, request.path)
        if reply is None:
            return connection.respond(HTTPStatus.NOT_FOUND, '{"error":"no such path"}')
        self._journal.counts["rest"] += 1
        response = connection.respond(HTTPStatus(reply.status), reply.body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response


def session_of(target: str) -> Session:
    """Divide the target of a request into path and query."""
    parts = urlsplit(target)
    return Session(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)))
