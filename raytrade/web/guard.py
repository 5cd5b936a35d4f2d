"""`Guard`: who may see the page, and how many at once. Pure ASGI, in front of everything else.

Without a token only names of this very host are answered, so that no other site's script can reach the page by a name
of its own (DNS rebinding). With a token a browser shows it once, as ``?token=``, and keeps a cookie. Websockets are
counted: beyond `clients_max` one more is refused, the others go on.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "raytrade_token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
CLIENTS_MAX = 32
BODY_BYTES_MAX = 64 * 1024
FRAME_BYTES_MAX = 256 * 1024


class GuardCounts(msgspec.Struct):
    """What was refused."""

    refused_token: int = 0
    refused_host: int = 0
    refused_full: int = 0
    refused_size: int = 0
    clients: int = 0
    clients_peak: int = 0


class Guard:
    """Passes on what may pass."""

    def __init__(self, app: Asgi, token: str, counts: GuardCounts, clients_max: int = CLIENTS_MAX) -> None:
        self._app = app
        self._token = token
        self._counts = counts
        self._clients_max = clients_max

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
            await self._app(scope, receive, self._with_cookie(scope, send))

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
        if scope["type"] == "websocket" and self._counts.clients >= self._clients_max:
            self._counts.refused_full += 1
            return 503
        return 0

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
        try:
            await self._app(scope, receive, send)
        finally:
            counts.clients -= 1


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
    body = {401: b"show the token: ?token=...", 403: b"not by this name", 413: b"too large", 503: b"full"}[status]
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
