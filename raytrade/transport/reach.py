"""Can this host reach a venue? One websocket handshake per address, nothing subscribed."""

from __future__ import annotations

import asyncio
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
