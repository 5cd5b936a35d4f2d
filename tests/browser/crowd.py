"""What a page must bear: bytes that mean nothing, paths that lead out, and more clients than there is room for."""

from __future__ import annotations

import socket
from contextlib import suppress

HANDSHAKE = (
    "GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=none HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PATHS = ("/../../etc/passwd", "/_nicegui/..%2f..%2f..%2fetc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/nothing")


def ask(port: int, data: bytes) -> bytes:
    """Send bytes and give the first of the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        with suppress(OSError):
            return connection.recv(65_536)
    return b""


def rubbish(port: int) -> int:
    """Send what no browser sends; every answer must be a refusal or the end. Gives how many kinds were tried."""
    tried = 0
    for path in PATHS:
        answer = ask(port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert b"root:" not in answer, path
        assert answer[9:10] in (b"4", b"3"), answer[:60]
        tried += 1
    for data in (
        b"\x00" * 4096,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01 not plain\r\n\r\n",
        b"A" * 200_000 + b"\r\n\r\n",
    ):
        answer = ask(port, data)
        assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 431"), answer[:60]
        tried += 1
    frames = HANDSHAKE.format(port=port).encode() + b"\x81\xfe\xff\xffrubbish" + b"\xff" * 5000
    ask(port, frames)
    return tried + 1


def stalled(port: int, query: str) -> socket.socket:
    """Open the websocket of a page as its browser does, and read nothing of what is pushed."""
    one = socket.create_connection(("127.0.0.1", port), 10)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.sendall(HANDSHAKE.format(port=port).replace("client_id=none", query).encode())
    assert b" 101 " in one.recv(64)
    one.sendall(b"\x81\x82\x00\x00\x00\x0040")
    return one


class Crowd:
    """Websockets that are opened and then never read."""

    def __init__(self, port: int, count: int) -> None:
        self.open = 0
        self.refused = 0
        self._sockets: list[socket.socket] = []
        for _ in range(count):
            try:
                one = socket.create_connection(("127.0.0.1", port), 10)
                one.settimeout(10)
                one.sendall(HANDSHAKE.format(port=port).encode())
                answer = one.recv(64)
            except OSError:
                self.refused += 1
                continue
            self._sockets.append(one)
            if b" 101 " in answer:
                self.open += 1
            else:
                self.refused += 1

    def close(self) -> None:
        """Go away without a word."""
        for one in self._sockets:
            one.close()
