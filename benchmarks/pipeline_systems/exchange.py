"""The exchange: one process, a Binance-shaped websocket and its REST book, paced, in bursts, or as fast as it is taken.

Frames are rendered beforehand but for time and id, so that it costs little; what is due goes to every connection in
one write, stamped just before. It is quiet until it is told to send.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .market import FIRST_ID, POOL, SYMBOL, Market, symbol_names, texts, updates_of
from .timelog import SentLog

TICK_S = 0.0005
UNPACED = 0.0
BURST = -1.0
BURST_S = 0.05
CHUNK = 64
BUFFER_BYTES_MAX = 512 * 1024
_LENGTH = struct.Struct("!BBH")


def run_exchange(control: Connection, sent_path: str, capacity: int, symbols: int = 1) -> None:
    """Serve until the control connection is closed (entry of the process)."""
    asyncio.run(Exchange(control, SentLog(Path(sent_path), capacity), symbols).serve())


class Exchange:
    """Commands: `("status",)` gives subscribers and losses, `("send", count, rate)` sends, `("quit",)` ends.

    The symbols take turns, and each counts its own ids.
    """

    def __init__(self, control: Connection, log: SentLog, symbols: int) -> None:
        self._control = control
        self._log = log
        self._market = Market()
        self._names = {name: at for at, name in enumerate(symbol_names(symbols))}
        self._render = _one_symbol(self._market) if symbols == 1 else _many_symbols(self._market, symbols)
        self._subscribers: list[ServerConnection] = []
        self._lost = 0
        self._sent = 0
        self._commands: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._read_control)
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "process_request": self._answer_rest}
        async with serve(self._handle, "127.0.0.1", 0, **options) as server:
            self._control.send(_port(server))
            while (command := await self._commands.get())[0] != "quit":
                if command[0] == "send":
                    await self._send(*command[1:])
                self._control.send({"subscribers": len(self._subscribers), "lost": self._lost, "sent": self._sent})

    def _read_control(self) -> None:
        try:
            self._commands.put_nowait(self._control.recv())
        except EOFError:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._commands.put_nowait(("quit",))

    async def _handle(self, socket: ServerConnection) -> None:
        try:
            async for frame in socket:
                request = json.loads(frame)
                if request.get("method") == "SUBSCRIBE":
                    await socket.send(json.dumps({"result": None, "id": request.get("id")}))
                    if socket not in self._subscribers:
                        self._subscribers.append(socket)
        except ConnectionClosed:
            pass
        if socket in self._subscribers:
            self._subscribers.remove(socket)
            self._lost += 1

    def _answer_rest(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/api/v3/depth"):
            return None
        at = self._names.get(parse_qs(urlsplit(request.path).query).get("symbol", [""])[0])
        if at is None:
            return connection.respond(400, json.dumps({"code": -1121, "msg": "Invalid symbol."}))
        symbols = len(self._names)
        bids, asks = self._market.book(self._sent, at, symbols)
        body = {
            "lastUpdateId": FIRST_ID + updates_of(at, symbols, self._sent) - 1,
            "bids": texts(sorted(bids.items(), reverse=True)),
            "asks": texts(sorted(asks.items())),
        }
        return connection.respond(200, json.dumps(body))

    # Sending.

    async def _send(self, count: int, rate: float) -> None:
        if rate == UNPACED:
            await self._send_unpaced(count)
        else:
            await self._send_paced(count, count / BURST_S if rate == BURST else rate)

    async def _send_paced(self, count: int, rate: float) -> None:
        start, done = time.perf_counter(), 0
        while done < count:
            due = min(count, int((time.perf_counter() - start) * rate) + 1)
            self._write(due - done)
            done = due
            await asyncio.sleep(TICK_S)

    async def _send_unpaced(self, count: int) -> None:
        while count:
            if max((_buffered(socket) for socket in self._subscribers), default=0) > BUFFER_BYTES_MAX:
                await asyncio.sleep(TICK_S)
                continue
            self._write(min(count, CHUNK))
            count -= min(count, CHUNK)
            await asyncio.sleep(0)

    def _write(self, count: int) -> None:
        if not count:
            return
        first = self._sent
        data = self._render(time.time_ns() // 1_000_000, range(first, first + count))
        self._log.stamp(first, count, time.time_ns())
        for socket in self._subscribers:
            socket.transport.write(data)
        self._sent += count


def _one_symbol(market: Market) -> Callable[[int, range], bytes]:
    """Give what renders updates of one symbol at a time in milliseconds."""
    frames = [_template(levels) for levels in market.pool]
    return lambda milliseconds, numbers: b"".join([frames[n % POOL](milliseconds, FIRST_ID + n) for n in numbers])


def _many_symbols(market: Market, symbols: int) -> Callable[[int, range], bytes]:
    """The same for symbols that take turns."""
    names = [name.encode() for name in symbol_names(symbols)]
    blank = b"?" * len(names[0])
    heads_tails = [_parts(levels, blank) for levels in market.pool]

    def render(milliseconds: int, numbers: range) -> bytes:
        frames = []
        for n in numbers:
            head, tail = heads_tails[n % POOL]
            number = FIRST_ID + n // symbols
            ids = b'%d,"s":"%b","U":%d,"u":%d' % (milliseconds, names[n % symbols], number, number)
            frames.append(head + ids + tail)
        return b"".join(frames)

    return render


def _parts(levels: tuple[Any, Any], name: bytes) -> tuple[bytes, bytes]:
    """Give what stands in one update's websocket frame before the time and behind the ids."""
    bids, asks = (json.dumps(texts(side), separators=(",", ":")).encode() for side in levels)
    tail = b',"b":%b,"a":%b}' % (bids, asks)
    body = b'{"e":"depthUpdate","E":%013d,"s":"%b","U":%010d,"u":%010d%b'
    head = _LENGTH.pack(0x81, 126, len(body % (0, name, 0, 0, tail)))
    return head + b'{"e":"depthUpdate","E":', tail


def _template(levels: tuple[Any, Any]) -> Callable[[int, int], bytes]:
    """Give what makes one update's websocket frame; times and ids have as many digits for good."""
    name = SYMBOL.encode()
    head, tail = (part.replace(b"%", b"%%") for part in _parts(levels, name))
    form = head + b'%d,"s":"' + name + b'","U":%d,"u":%d' + tail
    return lambda milliseconds, number: form % (milliseconds, number, number)


def _buffered(socket: ServerConnection) -> int:
    return int(socket.transport.get_write_buffer_size())


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])
