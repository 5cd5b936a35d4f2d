"""One websocket connection: `websockets`' protocol without I/O under an asyncio transport.

The library's own asyncio connection costs a task switch and a queue per frame; here the frames of one read are handed
on in the read callback itself. Text frames are handed on as the bytes they are: the decoders take bytes.

Whole messages in one frame, which is nearly all that comes, are cut out here. The library gets all else, always whole
frames, so that between two calls it never waits for the rest of one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from raytrade.errors import LineLost
from raytrade.transport.egress import Egress, connect
from raytrade.transport.framing import FIRST_BYTES, frame_at, handshake_end

KEEPALIVE_S = 20.0
"""A ping goes out this often; if nothing at all came since the last one, the connection is dead."""
WRITE_BYTES_MAX = 4 * 1024 * 1024
"""A venue that does not read what we send (pongs, subscriptions) for this much is given up."""

DIRECT = Egress()
CONNECTING, OPEN = State.CONNECTING, State.OPEN

OnFrame = Callable[[bytes], None]
OnOpen = Callable[["Websocket"], None]


class Websocket(asyncio.Protocol):
    """A connection; `closed` gives the reason of its end.

    `on_open` is called once, after the handshake and before the first message; `on_frame` with every whole message.
    """

    def __init__(self, uri: WebSocketURI, on_open: OnOpen, on_frame: OnFrame, frame_bytes_max: int) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol = ClientProtocol(uri, max_size=frame_bytes_max)
        self._on_open = on_open
        self._on_frame = on_frame
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._frame_bytes_max = frame_bytes_max
        self._rest = bytearray()
        """What came of a frame that is not all there; while the handshake lasts, its last bytes."""
        self._rest_wanted = 0
        self._is_handed_over = False
        """Whether the library gets all that still comes: a refusal, or what it must refuse."""
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Parse what came and hand the messages on."""
        self._heard = True
        if self._protocol.state is CONNECTING and not self._is_handed_over:
            data = self._shake_hands(data)
        elif self._rest:
            self._rest += data
            if len(self._rest) < self._rest_wanted:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at = 0
        while at < len(data) and not self._is_handed_over:
            frame = frame_at(data, at)
            if frame is not None and (not frame[1] or frame[1] - frame[0] > self._frame_bytes_max):
                self._is_handed_over = True
            elif frame is None or frame[1] > len(data):
                self._rest, self._rest_wanted = bytearray(data[at:]), frame[1] - at if frame is not None else 0
                return
            else:
                start, end = frame
                if data[at] in FIRST_BYTES and not self._parts and self._protocol.state is OPEN:
                    self._on_frame(data[start:end])
                else:
                    self._pass_on(data[at:end])
                at = end
        if at < len(data):
            self._pass_on(data[at:])

    def _shake_hands(self, data: bytes) -> bytes:
        """Let the library have the handshake; gives what comes behind it."""
        end = handshake_end(self._rest, data)
        self._rest = bytearray() if end else (self._rest + data)[-3:]
        self._pass_on(data[:end] if end else data)
        self._is_handed_over = bool(end) and self._protocol.state is not State.OPEN
        return data[end:] if end else b""

    def _pass_on(self, data: bytes) -> None:
        """Let the library parse it."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._receive_frame(event)
            elif isinstance(event, Response):
                self._receive_response()
        self._flush()
        if self._protocol.close_expected() and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> None:
        """The venue has closed its side."""
        if self._rest and self._protocol.state is not State.CONNECTING:
            self._pass_on(bytes(self._rest))
            self._rest.clear()
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        reason = str(error) if error is not None else self._reason()
        if not self._opened.done():
            self._opened.set_exception(LineLost(self._protocol.uri.host, reason))
        if not self.closed.done():
            self.closed.set_result(reason)

    def _reason(self) -> str:
        problem = self._protocol.handshake_exc or self._protocol.parser_exc
        if problem is not None:
            return str(problem)
        received = self._protocol.close_rcvd
        return f"the venue closed the connection ({received})" if received else "the connection was cut"

    def _receive_response(self) -> None:
        problem = self._protocol.handshake_exc
        if problem is None:
            self._opened.set_result(None)
            self._on_open(self)
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._keep_alive)
        elif not self._opened.done():
            self._opened.set_exception(LineLost(self._protocol.uri.host, str(problem)))

    def _receive_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            if frame.fin and not self._parts:
                self._on_frame(bytes(frame.data))
                return
            self._parts.append(bytes(frame.data))
            self._parts_bytes += len(frame.data)
            if self._parts_bytes > self._frame_bytes_max:
                self._protocol.fail(CloseCode.MESSAGE_TOO_BIG)
            elif frame.fin:
                whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
                self._on_frame(whole)

    def _keep_alive(self) -> None:
        if not self._heard:
            self.abort()
            return
        self._heard = False
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._flush()
        self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._keep_alive)

    def _flush(self) -> None:
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                return
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
        if transport is not None and transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            transport.abort()

    # Called by the line.

    @property
    def local_address(self) -> str:
        """Host and port of this end."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return f"{name[0]}:{name[1]}" if name else ""

    async def opened(self) -> None:
        """Wait for the handshake.

        Raises:
            LineLost: the venue refused it.
        """
        await self._opened

    def send(self, text: str) -> None:
        """Send a text message, if the connection is open."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())
            self._flush()

    def close(self) -> None:
        """Say goodbye and close."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


async def open_websocket(
    url: str, on_open: OnOpen, on_frame: OnFrame, frame_bytes_max: int, timeout_s: float, egress: Egress = DIRECT
) -> Websocket:
    """Connect, by this way out, and shake hands.

    Raises:
        LineLost: no connection within `timeout_s`, or the venue refused it.
    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise LineLost(url, str(error)) from None
    context = ssl.create_default_context() if uri.secure else None
    host = uri.host if uri.secure else None
    socket: Websocket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            create = partial(asyncio.get_running_loop().create_connection, ssl=context, server_hostname=host)

            def make() -> Websocket:
                return Websocket(uri, on_open, on_frame, frame_bytes_max)

            if egress == DIRECT:
                _, socket = await create(make, uri.host, uri.port)
            else:
                _, socket = await create(make, sock=await connect(uri.host, uri.port, egress))
            await socket.opened()
    except (TimeoutError, OSError, InvalidHandshake) as error:
        if socket is not None:
            socket.abort()
        raise LineLost(uri.host, str(error) or f"no answer within {timeout_s:.0f} s") from None
    return socket
