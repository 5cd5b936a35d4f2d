"""The course's pipeline over any bus: collectors -> bus -> dedup (the first copy wins) -> bus -> strategy and recorder.

Every stage is a process; what crosses the buses is the exchange's JSON text, parsed by every stage that looks into it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import urllib.request
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .market import LOTS_PER_UNIT, SYMBOL, TICKS_PER_UNIT, digest
from .system import READY_TIMEOUT_S, Failed, Task
from .timelog import AppliedLog

ROWS_PER_WRITE = 100_000
DRAIN_TIMEOUT_S = 60.0
SETTLE_S = 0.5
"""For subscriptions that a bus carries out without saying when."""


class Publisher(Protocol):
    """The writing end of one topic."""

    def put(self, message: bytes) -> None:
        """Send, or have sent, one message; order is kept."""


class Bus(Protocol):
    """Two topics, `raw` and `merged`."""

    async def publisher(self, topic: str) -> Publisher:
        """Open a writing end."""

    async def subscribe(self, topic: str) -> AsyncIterator[list[bytes]]:
        """Begin to listen; gives the messages in batches, as they come."""


MakeBus = Callable[[str], Bus]


@dataclass(frozen=True)
class Stage:
    """What every process of the pipeline is given."""

    task: Task
    address: str
    ready: Semaphore
    make_bus: MakeBus

    def bus(self) -> Bus:
        return self.make_bus(self.address)


def run_stage(stage: Stage, role: str) -> None:
    """Run one stage until the process is ended (entry of the process)."""
    stages = {"collector": _collect, "dedup": _dedup, "strategy": _strategy, "recorder": _record}
    asyncio.run(stages[role](stage))


async def _collect(stage: Stage) -> None:
    publisher = await stage.bus().publisher("raw")
    request = {"method": "SUBSCRIBE", "params": [f"{SYMBOL.lower()}@depth@100ms"], "id": 1}
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_queue": 1024}
    async with connect(f"ws://127.0.0.1:{stage.task.port}/stream", **options) as socket:
        await socket.send(msgspec.json.encode(request).decode())
        await socket.recv()
        stage.ready.release()
        put = publisher.put
        with suppress(ConnectionClosed):
            while True:
                put(await socket.recv(decode=False))


async def _dedup(stage: Stage) -> None:
    bus = stage.bus()
    batches = await bus.subscribe("raw")
    publisher = await bus.publisher("merged")
    put, decode, last = publisher.put, msgspec.json.decode, 0
    stage.ready.release()
    async for batch in batches:
        for message in batch:
            number = decode(message)["u"]
            if number > last:
                last = number
                put(message)


class FloatBook:
    """The course's book: sizes by price as floats, and the prices sorted for the best ones."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[float, float]] = {"b": {}, "a": {}}
        self.prices: dict[str, list[float]] = {"b": [], "a": []}

    def apply(self, update: dict[str, Any]) -> None:
        for side in ("b", "a"):
            sizes, prices = self.sides[side], self.prices[side]
            for price_text, size_text in update[side]:
                price, size = float(price_text), float(size_text)
                if size:
                    if price not in sizes:
                        insort(prices, price)
                    sizes[price] = size
                elif price in sizes:
                    del sizes[price]
                    del prices[bisect_left(prices, price)]

    def top(self) -> tuple[float, float] | None:
        bids, asks = self.prices["b"], self.prices["a"]
        return (bids[-1], asks[0]) if bids and asks else None

    def digest(self) -> str:
        halves = [
            {round(price * TICKS_PER_UNIT): round(size * LOTS_PER_UNIT) for price, size in self.sides[side].items()}
            for side in ("b", "a")
        ]
        return digest([(halves[0], halves[1])])


async def _strategy(stage: Stage) -> None:
    task = stage.task
    log = AppliedLog(task.applied_path, task.capacity)
    book, decode = FloatBook(), msgspec.json.decode
    batches = await stage.bus().subscribe("merged")
    snapshot = _fetch_book(task.port)
    book.apply({"b": snapshot["bids"], "a": snapshot["asks"]})
    last = snapshot["lastUpdateId"]
    stage.ready.release()
    async for batch in batches:
        for message in batch:
            update = decode(message)
            if update["u"] > last:
                last = update["u"]
                book.apply(update)
                book.top()
                log.append(last, time.time_ns())
        if last == task.last_id:
            _digest_path(task).write_text(book.digest())


def _digest_path(task: Task) -> Path:
    return task.directory / "digest"


def _fetch_book(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v3/depth?symbol={SYMBOL}", timeout=10) as reply:
        return dict(msgspec.json.decode(reply.read()))


class _Recording:
    """Rows of levels, written in one row group each `ROWS_PER_WRITE`."""

    _NAMES: ClassVar[list[str]] = ["ts_venue_ms", "ts_recv_ns", "id_last", "side", "price", "size"]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[int, int, int, str, float, float]] = []
        self._writer: Any = None

    def append(self, update: dict[str, Any], now_ns: int) -> None:
        event, number = update["E"], update["u"]
        for side in ("b", "a"):
            self._rows += [(event, now_ns, number, side, float(price), float(size)) for price, size in update[side]]
        if len(self._rows) >= ROWS_PER_WRITE:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_arrays([pa.array(column) for column in zip(*self._rows, strict=True)], names=self._NAMES)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()


async def _record(stage: Stage) -> None:
    task, decode = stage.task, msgspec.json.decode
    task.recording.mkdir()
    recording = _Recording(task.recording / "book.parquet")
    batches = await stage.bus().subscribe("merged")
    stage.ready.release()
    async for batch in batches:
        now_ns = time.time_ns()
        for message in batch:
            update = decode(message)
            recording.append(update, now_ns)
            if update["u"] == task.last_id:
                recording.close()
                (task.directory / "recorded").touch()


class PlainSystem:
    """Runs the stages over a bus; `roles` of servers that the bus needs come from a subclass."""

    id_column = "id_last"

    def __init__(self, task: Task, make_bus: MakeBus) -> None:
        self.task = task
        self._make_bus = make_bus
        self._processes: list[tuple[str, Any]] = []

    def address(self) -> str:
        """Start what the bus needs and give its address."""
        return str(self.task.directory)

    def servers(self) -> dict[int, str]:
        """Give the servers that `address` started."""
        return {}

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ready = context.Semaphore(0)
        stage = Stage(self.task, self.address(), ready, self._make_bus)
        for group in (("dedup",), ("strategy", "recorder"), ("collector", "collector")):
            for role in group:
                process = context.Process(target=run_stage, args=(stage, role), daemon=True)
                process.start()
                self._processes.append((role, process))
            for role in group:
                if not ready.acquire(timeout=READY_TIMEOUT_S / 4):
                    raise Failed(f"{role} did not come up")
            time.sleep(SETTLE_S)

    def roots(self) -> dict[int, str]:
        return {process.pid: role for role, process in self._processes} | self.servers()

    def drain(self) -> None:
        self._wait_for(self.task.directory / "recorded", "the recorder did not get the last update")

    @staticmethod
    def _wait_for(path: Path, problem: str) -> None:
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while not path.exists():
            if time.monotonic() > deadline_s:
                raise Failed(problem)
            time.sleep(0.01)

    def digests(self) -> list[str]:
        path = _digest_path(self.task)
        self._wait_for(path, "the strategy did not give its book")
        return [path.read_text()]

    def stop(self) -> None:
        for _, process in self._processes:
            process.terminate()
        for _, process in self._processes:
            process.join(3)
            if process.is_alive():
                process.kill()
                process.join(3)
