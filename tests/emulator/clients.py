"""Deliberately plain clients: they rebuild a book as a dict and know one venue's rules each."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from raytrade.emulator import Emulator

Frame = dict[str, Any]
Sides = tuple[dict[str, str], dict[str, str]]
DEADLINE_S = 4.0


def canonical(text: str) -> str:
    """Strip trailing zeros, as the truth does."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def apply_pairs(side: dict[str, str], pairs: list[list[str]]) -> None:
    """Set absolute sizes; zero removes."""
    for price, size in pairs:
        if canonical(size) == "0":
            side.pop(canonical(price), None)
        else:
            side[canonical(price)] = canonical(size)


def sorted_book(sides: Sides) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Order a book as the truth does: best level first."""
    bids = sorted(sides[0].items(), key=lambda level: -float(level[0]))
    asks = sorted(sides[1].items(), key=lambda level: float(level[0]))
    return bids, asks


def assert_book(emulator: Emulator, symbol: str, sides: Sides, depth: int | None = None) -> None:
    """Compare a rebuilt book with the true one."""
    truth = emulator.truth().book(symbol, depth)
    assert sorted_book(sides) == (truth.bids, truth.asks)


async def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll a condition until it holds; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def finish(emulator: Emulator, *readers: Reader) -> None:
    """Wait for the end of the stream, then for everything that is under way to the readers."""
    await until(lambda: emulator.is_finished)
    await emulator.stop()
    await until(lambda: all(reader.is_closed for reader in readers))


def _fetch(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


async def fetch(emulator: Emulator, target: str) -> tuple[int, Any]:
    """GET a REST target of the emulator: status and parsed body."""
    url = emulator.url.replace("ws://", "http://") + target
    return await asyncio.get_running_loop().run_in_executor(None, _fetch, url)


class Reader:
    """Collects every frame of one connection in the background."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.raw: list[str | bytes] = []
        self.is_closed = False
        self._task = asyncio.create_task(self._read())

    @property
    def frames(self) -> list[Frame]:
        """Parse what arrived."""
        return [json.loads(text) for text in self.raw]

    async def send(self, request: object) -> None:
        """Send a request as JSON."""
        await self.socket.send(json.dumps(request))

    async def close(self) -> None:
        """End the connection."""
        await self.socket.close()
        await self._task

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                self.raw.append(text)
        except Exception:  # noqa: BLE001 - the way in which a socket dies is not the matter here
            pass
        self.is_closed = True


async def open_reader(emulator: Emulator, target: str = "/", *requests: object) -> Reader:
    """Connect, send the requests, and read from then on."""
    socket = await connect(emulator.url + target, compression=None, max_size=None)
    reader = Reader(socket)
    for request in requests:
        await reader.send(request)
    return reader


def levels_of(side: list[Frame], price: str, size: str) -> list[list[str]]:
    """Turn levels written as objects into pairs."""
    return [[str(level[price]), str(level[size])] for level in side]
