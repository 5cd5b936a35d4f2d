"""Can this host reach a venue, or another host's ports, and are its own free?

A venue: one websocket handshake per address, nothing subscribed. A port: one connection, nothing sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable

from raytrade.errors import LineLost
from raytrade.transport.websocket import Websocket, open_websocket

TIMEOUT_S = 5.0
FRAME_BYTES_MAX = 1024 * 1024


async def _reach(url: str) -> str:
    def ignore_open(socket: Websocket) -> None:
        pass

    def ignore_frame(frame: bytes) -> None:
        pass

    try:
        socket = await open_websocket(url, ignore_open, ignore_frame, FRAME_BYTES_MAX, TIMEOUT_S)
    except LineLost as error:
        return error.reason or "no connection"
    socket.abort()
    return ""


def unreachable(urls: Iterable[str]) -> dict[str, str]:
    """Shake hands with all addresses at once; gives the problem per address, empty where there is none."""
    addresses = list(dict.fromkeys(urls))

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(_reach(url) for url in addresses))

    return dict(zip(addresses, asyncio.run(all_of_them()), strict=True))


def closed(ports: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Connect to all ports at once; gives the problem per ``host:port``, empty where there is none."""
    places = list(dict.fromkeys(ports))

    async def connect(host: str, port: int) -> str:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT_S)
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return _reason(error)
        writer.transport.abort()
        return ""

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(connect(host, port) for host, port in places))

    problems = asyncio.run(all_of_them())
    return {f"{host}:{port}": problem for (host, port), problem in zip(places, problems, strict=True)}


def taken(port: int, host: str = "") -> str:
    """Give why nobody else can listen on a port of this host, empty if somebody can."""
    try:
        with socket.create_server((host, port)):
            return ""
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    """Give the system's own words, without what the libraries add."""
    return os.strerror(error.errno) if error.errno else str(error)
