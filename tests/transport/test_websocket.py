"""What is cut out of the bytes here is what the library's protocol gives, however the bytes are cut into reads."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from raytrade.transport.websocket import Websocket

FRAME_BYTES_MAX = 70_000


class Pipe(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Library(Websocket):
    """Lets the library parse all."""

    def data_received(self, data: bytes) -> None:
        self._pass_on(data)


def frame(opcode: Opcode, data: bytes, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=mask)


SIZES = st.sampled_from([0, 1, 5, 125, 126, 300, 65_535, 65_536])
WHOLE = st.builds(lambda kind, size: frame(kind, b"x" * size), st.sampled_from([Opcode.TEXT, Opcode.BINARY]), SIZES)
PARTS = st.tuples(SIZES, st.booleans()).map(
    lambda drawn: (
        frame(Opcode.TEXT, b"a" * drawn[0], fin=False)
        + (frame(Opcode.PING, b"between") if drawn[1] else b"")
        + frame(Opcode.CONT, b"b", fin=False)
        + frame(Opcode.CONT, b"c")
    )
)
CONTROL = st.sampled_from([frame(Opcode.PING, b"p"), frame(Opcode.PONG, b""), frame(Opcode.PING, b"")])
WRONG = st.sampled_from(
    [
        frame(Opcode.CLOSE, b"\x03\xe8bye"),
        frame(Opcode.TEXT, b"masked", mask=True),
        b"\xc1\x01x",
        frame(Opcode.CONT, b"of nothing"),
        frame(Opcode.TEXT, b"open", fin=False) + frame(Opcode.TEXT, b"another"),
        frame(Opcode.TEXT, b"x" * (FRAME_BYTES_MAX + 1)),
        b"\x83\x01x",
        b"\x81\x7f" + b"\xff" * 8,
    ]
)
FRAMES = st.lists(st.one_of(WHOLE, WHOLE, PARTS, CONTROL), max_size=8)


def handshake_of(request: bytes) -> bytes:
    """Give what a server answers."""
    server = ServerProtocol()
    server.receive_data(request)
    (event,) = server.events_received()
    assert isinstance(event, Request)
    server.send_response(server.accept(event))
    return b"".join(server.data_to_send())


async def converse(kind: type[Websocket], body: bytes, cuts: list[int], with_end: bool) -> tuple[Any, ...]:
    """Feed the handshake and `body`, cut at these places; gives everything that comes of it."""
    frames: list[bytes] = []
    opened: list[Websocket] = []
    socket = kind(parse_uri("ws://venue/"), opened.append, frames.append, FRAME_BYTES_MAX)
    pipe = Pipe()
    socket.connection_made(pipe)
    data = handshake_of(b"".join(pipe.written)) + body
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        socket.data_received(data[start:end])
    if with_end:
        socket.eof_received()
    socket.connection_lost(None)
    reason = socket.closed.result()
    unmasked = [len(part) for part in pipe.written[1:]]
    return frames, len(opened), unmasked, pipe.is_closed, reason


@given(FRAMES, st.one_of(st.just(b""), WRONG), FRAMES, st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_all_cuts_give_what_the_library_gives(
    before: list[bytes], wrong: bytes, after: list[bytes], cuts: list[int], with_end: bool
) -> None:
    body = b"".join([*before, wrong, *after])
    ours = asyncio.run(converse(Websocket, body, cuts, with_end))
    assert ours == asyncio.run(converse(Library, body, cuts, with_end))
    assert ours[1] == 1


@given(st.integers(0, 400), st.binary(max_size=30))
def test_a_refused_handshake_is_the_librarys(at: int, noise: bytes) -> None:
    """What is no handshake is refused alike; then nothing is a message."""

    async def meet(kind: type[Websocket]) -> tuple[Any, ...]:
        frames: list[bytes] = []
        socket = kind(parse_uri("ws://venue/"), lambda _: None, frames.append, FRAME_BYTES_MAX)
        pipe = Pipe()
        socket.connection_made(pipe)
        answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy" + frame(Opcode.TEXT, b"x")
        for part in (answer[:at], answer[at:], noise):
            socket.data_received(part)
        socket.connection_lost(None)
        return frames, str(socket._opened.exception()), socket.closed.result()

    ours = asyncio.run(meet(Websocket))
    assert ours == asyncio.run(meet(Library))
    assert ours[0] == []
