"""Who may see the page: names, tokens, sizes, and how many at once; nothing that is refused reaches the application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raytrade.web.guard import COOKIE, Guard, GuardCounts, Message, Receive, Scope, Send

TOKEN = "s3cret"


class Application:
    """Answers everything, and keeps websockets open until it is told to end."""

    def __init__(self) -> None:
        self.reached = 0
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        if scope["type"] == "websocket":
            await self.end.wait()
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"page"})


def scope(kind: str = "http", query: str = "", **headers: str) -> Scope:
    named = {"host": "127.0.0.1:8420", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items() if value]
    return {"type": kind, "path": "/", "query_string": query.encode(), "headers": pairs}


async def answer(guard: Guard, asked: Scope) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await guard(asked, receive, send)
    return sent


@pytest.mark.parametrize(
    ("token", "asked", "status"),
    [
        ("", scope(), 200),
        ("", scope(host="localhost:1"), 200),
        ("", scope(host="[::1]:8420"), 200),
        ("", scope(host="evil.example"), 403),
        ("", scope(host=""), 403),
        ("", scope(origin="http://evil.example"), 403),
        ("", scope(origin="http://127.0.0.1:8420"), 200),
        ("", scope(content_length="999999999"), 413),
        ("", scope(content_length="-1"), 413),
        (TOKEN, scope(host="desk.example"), 401),
        (TOKEN, scope(host="desk.example", query="token=wrong"), 401),
        (TOKEN, scope(host="desk.example", cookie=f"{COOKIE}=wrong"), 401),
        (TOKEN, scope(host="desk.example", cookie="\x01=;;;=,"), 401),
        (TOKEN, scope(host="desk.example", query=f"token={TOKEN}"), 200),
        (TOKEN, scope(host="desk.example", cookie=f"{COOKIE}={TOKEN}"), 200),
    ],
)
def test_who_may_pass(token: str, asked: Any, status: int) -> None:
    async def course() -> None:
        application = Application()
        sent = await answer(Guard(application, token, GuardCounts()), asked)
        assert sent[0]["status"] == status
        assert application.reached == (status == 200)

    asyncio.run(course())


def test_the_token_is_kept_as_a_cookie_that_scripts_cannot_read() -> None:
    async def course() -> None:
        sent = await answer(Guard(Application(), TOKEN, GuardCounts()), scope(query=f"token={TOKEN}"))
        cookie = dict(sent[0]["headers"])[b"set-cookie"].decode()
        assert cookie == f"{COOKIE}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"

    asyncio.run(course())


def test_websockets_are_bounded_and_a_place_comes_free() -> None:
    async def course() -> None:
        application, counts = Application(), GuardCounts()
        guard = Guard(application, "", counts, clients_max=2)
        open_ = [asyncio.create_task(answer(guard, scope("websocket"))) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await answer(guard, scope("websocket"))
        assert refused == [{"type": "websocket.close", "code": 1013}]
        assert (counts.clients, counts.refused_full, application.reached) == (2, 1, 2)
        application.end.set()
        await asyncio.gather(*open_)
        assert counts.clients == 0
        assert await answer(guard, scope("websocket")) == []
        assert counts.clients_peak == 2

    asyncio.run(course())


def test_a_websocket_without_the_token_is_closed() -> None:
    async def course() -> None:
        sent = await answer(Guard(Application(), TOKEN, GuardCounts()), scope("websocket"))
        assert sent == [{"type": "websocket.close", "code": 1008}]

    asyncio.run(course())
