"""`subscribe`: the merged stream for programs without asyncio: a callback, in a thread of its own.

with raytrade.subscribe(print, "kraken-v2:BTC/USD"):
    ...
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from raytrade.core.book import L2Book
from raytrade.core.events import Event
from raytrade.streaming.live import Stream, Urls, stream
from raytrade.streaming.merging import QUEUE_EVENTS_MAX

JOIN_S = 10.0


def subscribe(
    callback: Callable[[Event], None],
    *instruments: str,
    connections: int = 2,
    channels: Iterable[str] = ("book", "trades"),
    urls: Urls | None = None,
    queue_events_max: int = QUEUE_EVENTS_MAX,
) -> StreamThread:
    """Call `callback` with every event of the merged stream, one at a time, from a thread of the subscription.

    Otherwise as `raytrade.stream`. An exception out of the callback ends the subscription; `stop` raises it again.

    Raises:
        ConfigError: an instrument, a venue, a channel or a number is wrong.
    """
    events = stream(
        *instruments, connections=connections, channels=channels, urls=urls, queue_events_max=queue_events_max
    )
    return StreamThread(callback, events)


class StreamThread:
    """A running subscription; `stop` (or leaving the block) ends it."""

    def __init__(self, callback: Callable[[Event], None], events: Stream) -> None:
        self._callback = callback
        self._stream = events
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="raytrade-stream", daemon=True)
        self._thread.start()

    @property
    def books(self) -> Mapping[str, L2Book]:
        """The books by instrument, to be read in the callback only: the thread moves them."""
        return self._stream.books

    def is_running(self) -> bool:
        """Tell whether events still come."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Close the connections and wait for the last callback; raises what the callback has raised."""
        if self._thread is not threading.current_thread():
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._ask_to_close)
            self._thread.join(JOIN_S)
            error, self._error = self._error, None
            if error is not None:
                raise error
        else:
            self._ask_to_close()

    def _ask_to_close(self) -> None:
        self._closing = self._loop.create_task(self._stream.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._follow())
        except Exception as error:  # noqa: BLE001 - handed to whoever calls `stop`
            self._error = error
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        async with self._stream:
            async for event in self._stream:
                self._callback(event)
