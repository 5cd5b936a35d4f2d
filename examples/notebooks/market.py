"""What the notebooks work on: a synthetic exchange on this machine, followed over several connections and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import raytrade
from raytrade.arbitration.stream import LineCounts
from raytrade.core.message import encode, parse
from raytrade.emulator import EmulatorSettings, EmulatorThread, run_in_thread
from raytrade.storage.sink import ParquetSink
from raytrade.transport.clock import SystemClock

UPDATES = 1500
INSTRUMENT = "binance-spot:BTCUSDT"


@contextmanager
def exchange(faults: tuple[str, ...] = ()) -> Iterator[EmulatorThread]:
    """Serve a synthetic Binance with 500 updates a second until `UPDATES` are sent, with these faults."""
    settings = EmulatorSettings(
        venue="binance-spot", symbols=("BTCUSDT",), rate=500, updates=UPDATES, faults=faults, clients=1000
    )
    with run_in_thread(settings) as emulator:
        yield emulator


async def record(directory: Path, emulator: EmulatorThread, connections: int = 3) -> dict[str, LineCounts]:
    """Record the merged stream of all connections until the exchange has sent everything; gives what each line gave."""
    sink, clock = ParquetSink(directory), SystemClock()
    urls = {"binance-spot": (emulator.url, emulator.url.replace("ws://", "http://"))}
    async with raytrade.stream(INSTRUMENT, connections=connections, urls=urls) as stream:
        opened = 0
        async for event in stream:
            opened += isinstance(event, raytrade.LineUp)
            if isinstance(event, raytrade.LineUp) and opened == connections:
                emulator.begin()
            sink.write([parse(encode(event, "notebook"))], clock.now_ns())
            if isinstance(event, raytrade.BookDelta | raytrade.BookSnapshot) and _is_last(emulator, event.id_last):
                break
        await asyncio.to_thread(sink.close)
        return stream.statistics()


def _is_last(emulator: EmulatorThread, id_last: int) -> bool:
    """Tell whether the exchange has made all updates, and this is the id of the last; copies may still be under way."""
    ids = emulator.truth().ids["BTCUSDT"]
    return len(ids) == UPDATES and id_last >= ids[-1]
