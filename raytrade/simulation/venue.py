"""`SimVenue` owns the truth of one instrument and serves it to connections; `FaultyLine` is the way to one of them."""

from __future__ import annotations

from collections.abc import Callable

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.simulation.dialects import Dialect
from raytrade.simulation.lies import crossed, falsified
from raytrade.simulation.market import Market
from raytrade.simulation.world import World

FrameTaker = Callable[[bytes], None]


class Connection:
    """One websocket, as both ends see it."""

    def __init__(
        self, dialect: Dialect, line: FaultyLine, on_frame: FrameTaker, on_close: Callable[[str], None]
    ) -> None:
        self.dialect = dialect
        self.line = line
        self.is_open = True
        self.must_cross = False
        self.on_frame = on_frame
        self._on_close = on_close

    def close(self, reason: str, *, told: bool = True) -> None:
        """Cut the connection; what is under way is lost."""
        if self.is_open:
            self.is_open = False
            if told:
                self._on_close(reason)


class FaultyLine:
    """Carries frames of one venue to one collector: in order and at once, unless faults are active."""

    def __init__(self, world: World, name: str, latency_ns: Nanos, jitter_ns: Nanos) -> None:
        self.name = name
        self.latency_ns = latency_ns
        self.active: dict[str, float] = {}
        """Faults by kind, with their share of frames or (delay, stall) their time in nanoseconds."""
        self.dropped = 0
        self._world = world
        self._jitter_ns = jitter_ns
        self._last_ns: Nanos = 0

    def is_refusing(self) -> bool:
        """Tell whether no connection can be made now."""
        return "refuse" in self.active

    def carry(self, connection: Connection, text: str) -> None:
        """Send a frame of the venue on its way."""
        world, active = self._world, self.active
        if not active:
            self._send(connection, text.encode(), 0)
            return
        if "lie" in active and world.chance(active["lie"]):
            text = falsified(text, world.random) or text
        frame = text.encode()
        if world.chance(active.get("drop", 0.0)) or world.chance(active.get("blackout", 0.0)):
            self.dropped += 1
            return
        if world.chance(active.get("corrupt", 0.0)):
            frame = frame[: len(frame) // 2] + b"\x00"
        extra_ns = world.between(0, int(active.get("delay", 0.0)))
        if world.chance(active.get("duplicate", 0.0)):
            self._send(connection, frame, extra_ns)
        if world.chance(active.get("reorder", 0.0)):
            due_ns = world.now_ns + self.latency_ns + world.between(5 * MILLISECOND, 80 * MILLISECOND)
            world.at(due_ns, self._arrive, connection, frame)
        else:
            self._send(connection, frame, extra_ns)

    def _send(self, connection: Connection, frame: bytes, extra_ns: Nanos) -> None:
        world = self._world
        due_ns = world.now_ns + self.latency_ns + extra_ns + world.between(0, self._jitter_ns)
        self._last_ns = max(due_ns, self._last_ns + 1, int(self.active.get("stall", 0)))
        world.at(self._last_ns, self._arrive, connection, frame)

    @staticmethod
    def _arrive(connection: Connection, frame: bytes) -> None:
        if connection.is_open:
            connection.on_frame(frame)


class SimVenue:
    """One instrument of one venue, its connections and its REST server."""

    def __init__(self, world: World, name: str, symbol: str, market: Market, dialect: Callable[[], Dialect]) -> None:
        self.name = name
        self.symbol = symbol
        self.instrument = f"{name}:{symbol}"
        self.market = market
        self.frames = 0
        self.rest_failing = False
        self._world = world
        self._dialect = dialect
        self._connections: list[Connection] = []

    def connect(self, line: FaultyLine, on_frame: FrameTaker, on_close: Callable[[str], None]) -> Connection:
        """Take a client on."""
        connection = Connection(self._dialect(), line, on_frame, on_close)
        self._connections = [each for each in self._connections if each.is_open]
        self._connections.append(connection)
        return connection

    def receive(self, connection: Connection, text: str) -> None:
        """Take a client's frame."""
        if connection.is_open:
            self._send(connection, connection.dialect.receive(text, self._world.now_ns))

    def _send(self, connection: Connection, texts: list[str]) -> None:
        for text in texts:
            self.frames += 1
            wrong = crossed(text) if connection.must_cross else None
            if wrong is not None:
                connection.must_cross = False
            connection.line.carry(connection, wrong or text)

    def cross(self) -> None:
        """Tell everybody, with the next change, of a bid above all asks, and never again of it."""
        for connection in self._connections:
            connection.must_cross = True

    def _tell(self, texts_of: Callable[[Dialect], list[str]]) -> None:
        for connection in self._connections:
            if connection.is_open:
                self._send(connection, texts_of(connection.dialect))

    def change(self) -> None:
        """Let the book change once."""
        now_ns = self._world.now_ns
        self.market.advance(now_ns)
        self._tell(lambda dialect: dialect.changed(now_ns))

    def trade(self) -> None:
        """Let one trade happen."""
        now_ns = self._world.now_ns
        print_ = self.market.trade(now_ns)
        self._tell(lambda dialect: dialect.traded(print_, now_ns))

    def beat(self) -> None:
        """Send what the venue sends each second."""
        now_ns = self._world.now_ns
        self._tell(lambda dialect: dialect.beat(now_ns))

    def flush(self) -> None:
        """End every open window."""
        now_ns = self._world.now_ns
        self._tell(lambda dialect: dialect.flush(now_ns))

    def fetch(self, answer: Callable[[bytes | None], None]) -> None:
        """Serve a REST request: the book of some moment before the answer arrives, or nothing."""
        world = self._world

        def serve() -> None:
            body = None if self.rest_failing else self._dialect().rest_book()
            world.after(world.between(5 * MILLISECOND, 120 * MILLISECOND), answer, body)

        world.after(world.between(5 * MILLISECOND, SECOND // 10), serve)
