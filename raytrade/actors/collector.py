"""`Collector`: owns the lines of one node and publishes what they deliver.

Everything happens on one event loop in a thread of its own; Ray's calls post to it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from typing import Any

import msgspec

from raytrade.arbitration import StreamRule
from raytrade.core.book import BookState, L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, LineDown, LineUp
from raytrade.core.instrument import Filter, split_instrument
from raytrade.core.message import Message, encode, parse
from raytrade.links.lanes import open_lane
from raytrade.links.publisher import Publisher
from raytrade.links.writer import LinkSettings, OpenLink
from raytrade.rules import rule_of
from raytrade.transport.clock import SystemClock
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget
from raytrade.venues import find_venue
from raytrade.venues.protocol import SERVICE_TIMEOUT_NS, Endpoint

CALL_TIMEOUT_S = 10.0


class LinePlan(msgspec.Struct, frozen=True):
    """A line to open: its name, its venue, and what is subscribed on it."""

    name: str
    venue: str
    endpoint: Endpoint


class CollectorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a collector is to do."""

    name: str
    lines: list[LinePlan]
    links: LinkSettings = LinkSettings()
    service_timeout_ns: Nanos = SERVICE_TIMEOUT_NS


class Collector:
    """Runs the planned lines from its construction on."""

    def __init__(self, plan: CollectorPlan) -> None:
        self.plan = plan
        self._clock = SystemClock()
        self._loop = asyncio.new_event_loop()
        self._budgets: dict[str, WeightBudget] = {}
        self._lines = {line.name: self._line(line) for line in plan.lines}
        self._books: dict[tuple[str, str], L2Book] = {}
        self._up: dict[str, Message] = {}
        self._rules: dict[str, StreamRule] = {}
        self._publisher = Publisher(secrets.randbits(62) | 1, plan.links, self._images, self._wake)
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._running: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def _line(self, plan: LinePlan) -> Line:
        spec = find_venue(plan.venue)
        budget = self._budgets.setdefault(plan.venue, WeightBudget(spec.limits.weight_per_minute_max))
        machine = spec.machine(plan.venue, plan.endpoint)
        machine.service_timeout_ns = self.plan.service_timeout_ns
        return Line(plan.name, machine, self._clock, budget, spec.limits.connection_life_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._running = [self._loop.create_task(line.run(self._deliver)) for line in self._lines.values()]
        for task in self._running:
            task.add_done_callback(_end_process_on_failure)
        self._loop.run_forever()

    # On the event loop.

    def _deliver(self, line: str, events: list[Event]) -> None:
        messages = [parse(encode(event, line)) for event in events]
        self._publisher.append(messages)
        for event, message in zip(events, messages, strict=True):
            self._follow(line, event, message)
        self._pump_soon()

    def _follow(self, line: str, event: Event, message: Message) -> None:
        """Keep the state of the line that opens links: its books where they come in band, and whether it is up."""
        match event:
            case BookSnapshot() | BookDelta() if self._rule(event.instrument).in_band:
                self._book(line, event.instrument).apply(event)
            case Gap():
                self._book(line, event.instrument).invalidate()
            case LineUp():
                self._up[line] = message
            case LineDown():
                self._up.pop(line, None)
                for (owner, _), book in self._books.items():
                    if owner == line:
                        book.invalidate()

    def _rule(self, instrument: str) -> StreamRule:
        rule = self._rules.get(instrument)
        if rule is None:
            rule = self._rules[instrument] = rule_of(instrument, Channel.BOOK)
        return rule

    def _book(self, line: str, instrument: str) -> L2Book:
        key = (line, instrument)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = L2Book(instrument)
        return book

    def _images(self, wanted: Filter) -> list[Message]:
        images = list(self._up.values())
        for (line, instrument), book in self._books.items():
            if book.state is BookState.LIVE and wanted.accepts(instrument, Channel.BOOK):
                images.append(parse(encode(checked_image(book, self._rule(instrument)), line)))
        return images

    def _pump_soon(self) -> None:
        """Pump once for all the frames that one read of the sockets brings."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        now_ns = self._clock.now_ns()
        self._publisher.pump(now_ns)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = self._publisher.due_ns()
        if due_ns is not None:
            delay_s = max(0, due_ns - now_ns) / SECOND
            self._timer = self._loop.call_later(delay_s, self._pump)

    def _wake(self, link: int, problem: str | None) -> None:
        """A batch was taken; called from a thread of Ray's."""
        self._loop.call_soon_threadsafe(self._sent, link, problem)

    def _sent(self, link: int, problem: str | None) -> None:
        self._publisher.sent(link, problem)
        self._pump()

    async def _open(self, wish: OpenLink, reader: Any) -> int:
        self._publisher.open(wish, open_lane(wish, reader, self.plan.name), self._clock.now_ns())
        self._pump()
        return self._publisher.writer_id

    async def _request_snapshot(self, instrument: str) -> bool:
        venue, symbol = split_instrument(instrument)
        for line in self._lines.values():
            symbols = {subscription.symbol for subscription in line.machine.endpoint.subscriptions}
            if line.machine.venue == venue and symbol in symbols and line.status.is_up:
                line.request_snapshot(symbol, self._deliver)
                return True
        return False

    async def _status(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "role": "collector",
            "pid": os.getpid(),
            "lines": {
                name: {
                    "venue": line.machine.venue,
                    "url": line.machine.endpoint.url,
                    "status": msgspec.to_builtins(line.status),
                    "counts": msgspec.to_builtins(line.machine.statistics()),
                }
                for name, line in self._lines.items()
            },
            "links": msgspec.to_builtins(self._publisher.statistics()),
            "lanes": self._publisher.lanes(),
            "ring_bytes": self._publisher.ring.bytes_held,
        }

    async def _stop(self) -> None:
        for task in self._running:
            task.remove_done_callback(_end_process_on_failure)
            task.cancel()
        for line in self._lines.values():
            line.close()

    async def _is_drained(self) -> bool:
        return self._publisher.is_drained()

    # Called by Ray.

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def open_link(self, wish: bytes, reader: Any) -> int:
        """Open a link to `reader`; gives this writer's id."""
        return int(self._on_loop(self._open(msgspec.msgpack.decode(wish, type=OpenLink), reader)))

    def request_snapshot(self, instrument: str) -> bool:
        """Ask the venue for a fresh book; it goes out to all readers. False if no line is up for it."""
        return bool(self._on_loop(self._request_snapshot(instrument)))

    def status(self) -> dict[str, Any]:
        """Give the state of lines and links."""
        return dict(self._on_loop(self._status()))

    def stop(self) -> None:
        """Close the lines; the links stay until everything is taken."""
        self._on_loop(self._stop())

    def is_drained(self) -> bool:
        """Tell whether every reader has everything."""
        return bool(self._on_loop(self._is_drained()))


def checked_image(book: L2Book, rule: StreamRule) -> BookSnapshot:
    """Give the image of a book, with the checksum that its deltas carry."""
    image = book.snapshot()
    if not rule.checksum:
        return image
    state_hash = CHECKSUMS[rule.checksum](book)
    return msgspec.structs.replace(image, state_hash=state_hash, flags=image.flags | Flag.CHECKED)


def _end_process_on_failure(task: asyncio.Task[None]) -> None:
    """A line's task never ends by itself: if it does, the program is wrong and the actor must start anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        import traceback

        traceback.print_exception(error)
        os._exit(70)
