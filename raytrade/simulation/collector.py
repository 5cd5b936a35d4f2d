"""`SimCollector` and `SimLine`: the logic of `raytrade.actors.collector` and `raytrade.transport.line` without I/O."""

from __future__ import annotations

from collections.abc import Callable

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Event, LineDown, LineUp
from raytrade.core.message import encode, parse
from raytrade.links.line_books import LineBooks
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Publisher
from raytrade.links.writer import LinkSettings
from raytrade.simulation.actor import Actor
from raytrade.simulation.network import Network
from raytrade.simulation.rules import simulated_rule
from raytrade.simulation.venue import Connection, FaultyLine, SimVenue
from raytrade.simulation.world import World
from raytrade.venues.protocol import FetchSnapshot, Reconnect, SendFrame, VenueMachine

TICK_NS = 250 * MILLISECOND
GOOD_AFTER_NS = 10 * SECOND
BACKOFF_NS = SECOND // 4
BACKOFF_NS_MAX = 8 * SECOND
WRITER_BITS = 62

Witness = Callable[[str, Event], None]
"""Told of every event that a line's machine gave: the line and the event."""


class SimLine:
    """One connection of one collector, opened again whenever it is lost."""

    def __init__(self, owner: SimCollector, path: FaultyLine, venue: SimVenue, machine: VenueMachine) -> None:
        self.name = path.name
        self.venue = venue
        self.machine = machine
        self.path = path
        self.is_up = False
        self._owner = owner
        self._world = owner.world
        self._connection: Connection | None = None
        self._opened_ns: Nanos = 0
        self._backoff_ns = BACKOFF_NS
        self._fetched_ns: Nanos = 0
        self._ticked_ns: Nanos = 0
        self._world.after(self.path.latency_ns * 2, owner.post, self._connect)

    def _connect(self) -> None:
        if self.path.is_refusing():
            self._wait()
            return
        owner = self._owner
        self._connection = connection = self.venue.connect(
            self.path,
            lambda frame: owner.post(self._receive, connection, frame),
            lambda reason: owner.post(self._closed, connection, reason),
        )
        self._opened_ns = now_ns = owner.now_ns
        self.machine.receive_open(now_ns)
        self.is_up = True
        owner.deliver(self.name, [LineUp(venue=self.machine.venue, ts_recv_ns=now_ns)])
        self.drain()

    def _receive(self, connection: Connection, frame: bytes) -> None:
        if connection.is_open and connection is self._connection:
            self.machine.receive_frame(frame, self._owner.now_ns)
            self.drain()

    def drain(self) -> None:
        """Hand on what the machine delivered and run what it asks for."""
        events = self.machine.events()
        if events:
            self._owner.deliver(self.name, events)
        for command in self.machine.commands():
            match command:
                case SendFrame(data):
                    self._send(data)
                case FetchSnapshot(symbol):
                    self.venue.fetch(lambda body: self._owner.post(self._fetched, symbol, body))
                case Reconnect(reason):
                    self._close(reason)

    def _send(self, data: str) -> None:
        connection = self._connection
        if connection is not None:
            self._world.after(self.path.latency_ns, self.venue.receive, connection, data)

    def _close(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.close(reason)

    def _fetched(self, symbol: str, body: bytes | None) -> None:
        if body is not None:
            self.machine.receive_snapshot(symbol, body, self._owner.now_ns)
            self._owner.deliver(self.name, self.machine.events())

    def _closed(self, connection: Connection, reason: str) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        now_ns = self._owner.now_ns
        self.machine.receive_close(now_ns)
        if self.is_up:
            self.is_up = False
            self._owner.deliver(self.name, [LineDown(venue=self.machine.venue, cause=reason, ts_recv_ns=now_ns)])
        if now_ns - self._opened_ns > GOOD_AFTER_NS:
            self._backoff_ns = BACKOFF_NS
        self._wait()

    def _wait(self) -> None:
        bound_ns, self._backoff_ns = self._backoff_ns, min(2 * self._backoff_ns, BACKOFF_NS_MAX)
        self._world.after(self._world.between(bound_ns // 2, bound_ns), self._owner.post, self._connect)

    def tick(self, now_ns: Nanos) -> None:
        """Let the machine watch its deadlines."""
        if 0 <= now_ns - self._ticked_ns < TICK_NS:
            return
        self._ticked_ns = now_ns
        due_ns = self.machine.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self.machine.receive_timeout(now_ns)
            self.drain()

    def request_snapshot(self) -> bool:
        """Ask the venue for a fresh book, unless it was asked within the last second."""
        now_ns = self._owner.now_ns
        if not self.is_up or now_ns - self._fetched_ns < SECOND:
            return self.is_up
        self._fetched_ns = now_ns
        self.machine.request_snapshot(self.venue.symbol, now_ns)
        self.drain()
        return True

    def break_connection(self) -> None:
        """The network cuts the connection, if there is one."""
        self._close("cut")

    def abandon(self) -> None:
        """The collector is dead: the venue sees the connection end."""
        if self._connection is not None:
            self._connection.close("", told=False)


class SimCollector(Actor):
    """Owns one line to each venue and publishes what they deliver."""

    def __init__(self, name: str, world: World, network: Network, links: LinkSettings, witness: Witness) -> None:
        super().__init__(name, world, network)
        self.lines: dict[str, SimLine] = {}
        self._witness = witness
        self._books = LineBooks(simulated_rule)
        writer_id = world.random.getrandbits(WRITER_BITS) | 1
        self.publisher = Publisher(writer_id, links, self._books.images, self._wake_link)

    def add_line(self, path: FaultyLine, venue: SimVenue, machine: VenueMachine) -> None:
        """Open a line."""
        self.lines[path.name] = SimLine(self, path, venue, machine)

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Watch the lines; send what is due."""
        for line in self.lines.values():
            line.tick(now_ns)
        self.publisher.pump(now_ns)
        return self.publisher.due_ns()

    def die(self) -> None:
        """The connections end with the process."""
        super().die()
        for line in self.lines.values():
            line.abandon()

    def deliver(self, line: str, events: list[Event]) -> None:
        """Publish what a line delivered."""
        self.step()
        messages = [parse(encode(event, line)) for event in events]
        for event in events:
            self._witness(line, event)
        self.publisher.append(messages)
        for event, message in zip(events, messages, strict=True):
            self._books.follow(line, event, message)
        self.publisher.pump(self.now_ns)

    def _wake_link(self, link: int, problem: str | None) -> None:
        self.post(self.publisher.sent, link, problem)

    def open_link(self, wish: OpenLink, reader: str) -> int:
        """Open a link to `reader`; gives this writer's id."""
        self.publisher.open(wish, self.network.lane(self, reader), self.now_ns)
        return self.publisher.writer_id

    def request_snapshot(self, instrument: str, wanted: str) -> None:
        """Ask the venue for a fresh book, on the first line that is up, or on the wanted one."""
        for name, line in self.lines.items():
            if line.venue.instrument == instrument and wanted in ("", name) and line.request_snapshot():
                return
