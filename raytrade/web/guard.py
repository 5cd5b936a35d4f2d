"""`Guard`: who may see the page, and how many at once. Pure ASGI, in front of everything else.

Without a token only names of this very host are answered, so that no other site's script can reach the page by a name
of its own (DNS rebinding). With a token a browser shows it once, as ``?token=``, and keeps a cookie. Websockets are
counted: beyond `clients_max` one more is refused, the others go on. Nothing is pushed any other way.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import msgspec

_BODIES = {
    401: b"show the token: ?token=...",
    403: b"not by this name",
    404: b"not here",
    413: b"too large",
    503: b"full",
}
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "raytrade_token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
CLIENTS_MAX = 32
PAGES_MAX = 3 * CLIENTS_MAX
"""Pages that are made and kept at once: more than browsers, for those that are about to come back."""
STALLED_S = 10.0
PUSH_PATH = "/_nicegui_ws/"
BODY_BYTES_MAX = 64 * 1024
FRAME_BYTES_MAX = 256 * 1024


class GuardCounts(msgspec.Struct):
    """What was refused or dropped, by reason.

    `refused_path`: what is not there, outside the page's own files too. `refused_bytes`: no HTTP at all.
    `dropped_silent`: connections that sent no whole request in time. `dropped_stalled`: websockets that read or
    answered no longer.
    """

    refused_token: int = 0
    refused_host: int = 0
    refused_full: int = 0
    refused_size: int = 0
    refused_path: int = 0
    refused_bytes: int = 0
    dropped_silent: int = 0
    dropped_stalled: int = 0
    clients: int = 0
    clients_peak: int = 0

    def text(self) -> str:
        """Say it in one line."""
        reasons = [name for name in self.__struct_fields__ if name.startswith(("refused", "dropped"))]
        found = [f"{name.replace('_', ' ')} {getattr(self, name)}" for name in reasons if getattr(self, name)]
        return f"browsers: {self.clients} (at most {self.clients_peak}); {', '.join(found) or 'nothing refused'}"


class Guard:
    """Passes on what may pass."""

    def __init__(
        self,
        app: Asgi,
        token: str,
        counts: GuardCounts,
        clients_max: int = CLIENTS_MAX,
        pages: Callable[[], int] = lambda: 0,
    ) -> None:
        """`pages` tells how many pages are kept now."""
        self._app = app
        self._token = token
        self._counts = counts
        self._clients_max = clients_max
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        status = self._status_of(scope)
        if status:
            await _refuse(scope, receive, send, status)
        elif scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        else:
            await self._app(scope, receive, self._watched(self._with_cookie(scope, send)))

    def _status_of(self, scope: Scope) -> int:
        """Give the status of the refusal, 0 if there is none."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._token and not self._is_known(scope, headers):
            self._counts.refused_token += 1
            return 401
        if not self._token and not _is_loopback(headers):
            self._counts.refused_host += 1
            return 403
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self._counts.refused_size += 1
            return 413
        if self._is_full(scope):
            self._counts.refused_full += 1
            return 503
        if scope["type"] == "http" and scope["path"].startswith(PUSH_PATH):
            self._counts.refused_path += 1
            return 404
        return 0

    def _is_full(self, scope: Scope) -> bool:
        if scope["type"] == "websocket":
            return self._counts.clients >= self._clients_max
        return scope["path"] == "/" and self._pages() >= PAGES_MAX

    def _watched(self, send: Send) -> Send:
        """Count what the application refuses."""

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                self._counts.refused_path += 1
            await send(message)

        return watch

    def _is_known(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        cookie = SimpleCookie()
        try:
            cookie.load(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        given = [cookie[COOKIE].value] if COOKIE in cookie else []
        return any(hmac.compare_digest(one.encode(), self._token.encode()) for one in given + _asked(scope))

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        """Give the token as a cookie to who has shown it in the address."""
        if not (self._token and self._token in _asked(scope)):
            return send

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict".encode()
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie)]}
            await send(message)

        return sending

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts = self._counts
        counts.clients += 1
        counts.clients_peak = max(counts.clients_peak, counts.clients)

        socket = _Socket(receive, send, counts)
        try:
            await self._app(scope, socket.receive, socket.send)
        finally:
            counts.clients -= 1


class _Socket:
    """One websocket: what its browser does not take in time ends it, and so does a browser that answers no longer."""

    def __init__(self, receive: Receive, send: Send, counts: GuardCounts) -> None:
        self._receive = receive
        self._send = send
        self._counts = counts
        self._is_gone = False

    async def receive(self) -> Message:
        """Give the next message of the browser."""
        message = await self._receive()
        self._is_gone = self._is_gone or message["type"] == "websocket.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Send to the browser; a close that it has not asked for is one for want of answers."""
        if message["type"] == "websocket.close" and not self._is_gone:
            self._drop()
        try:
            async with asyncio.timeout(STALLED_S):
                await self._send(message)
        except TimeoutError:
            self._drop()
            raise OSError("the browser does not read") from None

    def _drop(self) -> None:
        if not self._is_gone:
            self._counts.dropped_stalled += 1
        self._is_gone = True


def _asked(scope: Scope) -> list[str]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])


def _is_loopback(headers: dict[bytes, bytes]) -> bool:
    """Tell whether host and origin are names of this very host."""
    names = [headers.get(b"host", b"").decode("latin-1")]
    if b"origin" in headers:
        names.append(headers[b"origin"].decode("latin-1").partition("://")[2])
    return all(_without_port(name) in LOOPBACK for name in names)


def _without_port(name: str) -> str:
    return name if name.endswith("]") else name.rpartition(":")[0] or name


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1013 if status == 503 else 1008})
        return
    body = {
        401: b"show the token: ?token=...",
        403: b"not by this name",
        404: b"not here",
        413: b"too large",
        503: b"full",
    }[status]
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
