"""Lines over real sockets: against the emulator, and against a server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from raytrade.core.events import BookDelta, BookSnapshot, Event, LineDown, LineUp
from raytrade.emulator import EmulatorSettings, run_in_thread
from raytrade.errors import LineLost
from raytrade.transport.clock import SystemClock
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget
from raytrade.transport.websocket import Websocket, open_websocket
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription

DEADLINE_S = 15.0
Handler = Callable[[ServerConnection], Awaitable[None]]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


class Watcher:
    """A line and everything it delivered."""

    def __init__(self, venue: str, symbol: str, ws_url: str, rest_url: str = "", life_s: int = 0) -> None:
        machine = find_venue(venue).machine
        endpoint = machine.endpoints(ws_url, rest_url, (Subscription(symbol),))[0]
        self.events: list[Event] = []
        self.line = Line("a", machine(venue, endpoint), SystemClock(), WeightBudget(0), life_s)
        self.task = asyncio.create_task(self.line.run(lambda _, events: self.events.extend(events)))

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def stop(self) -> None:
        self.task.cancel()
        self.line.close()


def test_a_line_delivers_everything_reconnects_after_a_cut_and_fetches_a_book() -> None:
    settings = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=500, updates=300)

    async def course() -> list[Event]:
        watcher = Watcher("binance-spot", "BTCUSDT", emulator.url, emulator.url.replace("ws://", "http://"))
        await until(lambda: watcher.count(BookDelta) == 300)
        watcher.line.request_snapshot("BTCUSDT", lambda _, events: watcher.events.extend(events))
        await until(lambda: watcher.count(BookSnapshot) == 1)
        emulator.cut()
        await until(lambda: watcher.count(LineUp) == 2)
        watcher.stop()
        return watcher.events

    with run_in_thread(settings) as emulator:
        events = asyncio.run(course())
    kinds = [type(event) for event in events if isinstance(event, LineUp | LineDown)]
    assert kinds == [LineUp, LineDown, LineUp]
    snapshot = next(event for event in events if isinstance(event, BookSnapshot))
    assert snapshot.id_last == max(event.id_last for event in events if isinstance(event, BookDelta))


def test_in_band_books_come_again_when_asked_for() -> None:
    settings = EmulatorSettings(venue="hitbtc-v2", symbols=("ETHBTC",), rate=100, updates=50)

    async def course() -> int:
        watcher = Watcher("hitbtc-v2", "ETHBTC", emulator.url)
        await until(lambda: watcher.count(BookDelta) == 50)
        watcher.line.request_snapshot("ETHBTC", lambda _, events: watcher.events.extend(events))
        await until(lambda: watcher.count(BookSnapshot) == 2)
        watcher.stop()
        return watcher.count(BookSnapshot)

    with run_in_thread(settings) as emulator:
        assert asyncio.run(course()) == 2


async def with_server(handler: Handler, course: Callable[[str], Awaitable[None]]) -> None:
    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await course(f"ws://127.0.0.1:{port}/")


def test_fragments_are_put_together_and_pings_answered() -> None:

    async def handler(connection: ServerConnection) -> None:
        await connection.send(["one ", "message"])
        await (await connection.ping())
        await connection.send(b"ponged")
        await connection.wait_closed()

    async def course(url: str) -> None:
        frames: list[bytes] = []
        socket = await open_websocket(url, lambda _: None, frames.append, 1024, DEADLINE_S)
        await until(lambda: len(frames) == 2)
        assert frames == [b"one message", b"ponged"]
        socket.close()
        assert await socket.closed

    asyncio.run(with_server(handler, course))


def test_a_message_over_the_bound_ends_the_connection() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("x" * 2000)
        await connection.wait_closed()

    async def course(url: str) -> None:
        frames: list[bytes] = []
        socket = await open_websocket(url, lambda _: None, frames.append, 1024, DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            assert await socket.closed
        assert frames == []

    asyncio.run(with_server(handler, course))


def test_the_first_frame_comes_after_the_opening() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()

    async def course(url: str) -> None:
        order: list[str] = []

        def opened(_: Websocket) -> None:
            order.append("open")

        socket = await open_websocket(url, opened, lambda frame: order.append(frame.decode()), 1024, DEADLINE_S)
        await until(lambda: len(order) == 2)
        assert order == ["open", "hello"]
        socket.close()

    asyncio.run(with_server(handler, course))


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:1/", "nonsense", "ws://", "http://127.0.0.1:1/"], ids=["closed", "text", "empty", "http"]
)
def test_no_connection_is_one_clear_line(url: str) -> None:
    async def course() -> None:
        await open_websocket(url, lambda _: None, lambda _: None, 1024, 2)

    with pytest.raises(LineLost) as caught:
        asyncio.run(course())
    assert "\n" not in str(caught.value)


def test_a_server_that_refuses_the_handshake() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def course() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await open_websocket(f"ws://127.0.0.1:{port}/", lambda _: None, lambda _: None, 1024, 5)

    with pytest.raises(LineLost, match="403"):
        asyncio.run(course())


def test_a_rotation_is_a_reconnect_with_its_reason() -> None:
    settings = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=20)

    async def course() -> str:
        watcher = Watcher("binance-spot", "BTCUSDT", emulator.url, life_s=1)
        await until(lambda: watcher.line.status.reconnects == 1)
        watcher.stop()
        return watcher.line.status.last_reason

    with run_in_thread(settings) as emulator:
        assert "rotated" in asyncio.run(course())
