"""`stream`: an asynchronous iterator over the merged stream.

async with raytrade.stream("kraken-v2:BTC/USD", "binance-spot:BTCUSDT") as events:
    async for event in events:
        print(event)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from raytrade.arbitration.stream import LineCounts
from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND
from raytrade.core.events import Channel, Event
from raytrade.core.instrument import check_symbol, split_instrument
from raytrade.errors import ConfigError
from raytrade.streaming.merging import QUEUE_EVENTS_MAX, Merger
from raytrade.transport.clock import SystemClock
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription
from raytrade.venues.sockets import sockets_of

CONNECTIONS_MAX = 16
TAKE_MAX = 64
"""After so many events the sockets have their turn, however fast the consumer asks."""
Urls = Mapping[str, tuple[str, str]]
"""Per venue: the websocket's and the REST address, in place of the venue's own."""


def stream(
    *instruments: str,
    connections: int = 2,
    channels: Iterable[str] = ("book", "trades"),
    urls: Urls | None = None,
    queue_events_max: int = QUEUE_EVENTS_MAX,
) -> Stream:
    """Give the merged stream of `instruments` over `connections` connections to each venue, in this process, no Ray.

    Events are those of `raytrade.core.events`, in the venue's order, each once; what no connection delivered is a
    `Gap`. A consumer more than `queue_events_max` events behind gets a `Gap` and the books anew.

    Raises:
        ConfigError: an instrument, a venue, a channel or a number is wrong.
    """
    return Stream(
        _plan(instruments, channels), connections, dict(urls or {}), Merger(queue_events_max=queue_events_max)
    )


def _plan(instruments: Iterable[str], channels: Iterable[str]) -> dict[str, tuple[Subscription, ...]]:
    """Give the subscriptions per venue."""
    known = {channel.name.lower(): channel for channel in Channel}
    wanted = []
    for name in channels:
        if name not in known:
            raise ConfigError("", f"channel {name!r}", f"unknown; known are {', '.join(known)}")
        wanted.append(known[name])
    plan: dict[str, list[Subscription]] = {}
    for instrument in dict.fromkeys(instruments):
        venue, symbol = split_instrument(instrument)
        find_venue(venue)
        check_symbol(symbol)
        plan.setdefault(venue, []).append(Subscription(symbol, tuple(wanted)))
    if not plan or not wanted:
        raise ConfigError("", "stream", "name at least one instrument and one channel")
    return {venue: tuple(subscriptions) for venue, subscriptions in plan.items()}


class Stream:
    """Connects when it is entered or first asked for an event; `close` (or leaving the block) ends it."""

    def __init__(
        self,
        plan: dict[str, tuple[Subscription, ...]],
        connections: int,
        urls: dict[str, tuple[str, str]],
        merger: Merger,
    ) -> None:
        if not 1 <= connections <= CONNECTIONS_MAX:
            raise ConfigError("", "connections", f"{connections} is not within 1 and {CONNECTIONS_MAX}")
        self._merger = merger
        self._clock = SystemClock()
        self._lines = [line for venue, part in plan.items() for line in self._lines_of(venue, part, connections, urls)]
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._taken = 0
        self._closed = False

    def _lines_of(
        self, venue: str, subscriptions: tuple[Subscription, ...], connections: int, urls: dict[str, tuple[str, str]]
    ) -> Iterable[Line]:
        spec = find_venue(venue)
        ws_url, rest_url = urls.get(venue, ("", ""))
        budget = WeightBudget(spec.limits.weight_per_minute_max)
        for number in range(connections):
            for suffix, endpoint in sockets_of(spec, ws_url, rest_url, subscriptions):
                machine = spec.machine(venue, endpoint)
                name = f"{venue}/{number + 1}{suffix}"
                yield Line(name, machine, self._clock, budget, spec.limits.connection_life_s)

    @property
    def books(self) -> Mapping[str, L2Book]:
        """The books by instrument, as of the newest event received; ``top()`` is None unless a book is whole."""
        return self._merger.books

    @property
    def overruns(self) -> int:
        """How often the consumer was too slow."""
        return self._merger.overruns

    def statistics(self) -> dict[str, LineCounts]:
        """Give what each connection gave: first copies, duplicates, gaps, lead."""
        return self._merger.statistics()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        self._open()
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            self._taken += 1
            if self._taken % TAKE_MAX == 0:
                await asyncio.sleep(0)
            event = self._merger.next_event(self._clock.now_ns())
            if event is not None:
                return event
            self._raise_failure()
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    def _open(self) -> None:
        if not self._tasks and not self._closed:
            self._tasks = [asyncio.ensure_future(line.run(self._deliver)) for line in self._lines]
            for task in self._tasks:
                task.add_done_callback(lambda _: self._news.set())

    def _raise_failure(self) -> None:
        """A line's task never ends by itself: if it does, the error is ours and must not pass in silence."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _deliver(self, line: str, events: list[Event]) -> None:
        self._merger.receive(line, events, self._clock.now_ns())
        self._after()

    def _on_timer(self) -> None:
        self._timer = None
        self._merger.receive_timeout(self._clock.now_ns())
        self._after()

    def _after(self) -> None:
        self._news.set()
        for wanted in self._merger.commands():
            self._request_snapshot(wanted.instrument)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = self._merger.deadline_ns()
        if due_ns is not None and not self._closed:
            delay_s = max(0, due_ns - self._clock.now_ns()) / SECOND
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _request_snapshot(self, instrument: str) -> None:
        """Ask over one line that is up, over another at the next attempt."""
        venue, symbol = split_instrument(instrument)
        able = [
            line for line in self._lines if line.machine.venue == venue and line.status.is_up and _carries(line, symbol)
        ]
        if able:
            self._asked += 1
            able[self._asked % len(able)].request_snapshot(symbol, self._deliver)

    async def close(self) -> None:
        """Close all connections; who waits for the next event is told that there is none."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for line in self._lines:
            line.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._news.set()


def _carries(line: Line, symbol: str) -> bool:
    return any(subscription.symbol == symbol for subscription in line.machine.endpoint.subscriptions)
