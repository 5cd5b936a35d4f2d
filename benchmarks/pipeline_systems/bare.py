"""Bare clients of the exchange: they read every frame and look at its id, and nothing else."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .market import SYMBOL
from .timelog import AppliedLog


class _Update(msgspec.Struct):
    u: int


def run_client(port: int, path: str, capacity: int) -> None:
    """Read until the connection is closed (entry of the process)."""
    asyncio.run(_read(port, AppliedLog(Path(path), capacity)))


async def _read(port: int, log: AppliedLog) -> None:
    decode = msgspec.json.Decoder(_Update).decode
    request = {"method": "SUBSCRIBE", "params": [f"{SYMBOL.lower()}@depth@100ms"], "id": 1}
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_queue": 1024}
    async with connect(f"ws://127.0.0.1:{port}/stream", **options) as socket:
        await socket.send(msgspec.json.encode(request).decode())
        await socket.recv()
        with suppress(ConnectionClosed):
            while True:
                log.append(decode(await socket.recv(decode=False)).u, time.time_ns())


class BareClients:
    """As many as there would be collectors."""

    def __init__(self, port: int, directory: Path, capacity: int, count: int) -> None:
        paths = [directory / f"bare-{at}" for at in range(count)]
        self.logs = [AppliedLog(path, capacity) for path in paths]
        context = multiprocessing.get_context("spawn")
        arguments = [(port, str(path), capacity) for path in paths]
        self._processes = [context.Process(target=run_client, args=each, daemon=True) for each in arguments]
        for process in self._processes:
            process.start()

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(3)
            if process.is_alive():
                process.kill()
                process.join(3)
