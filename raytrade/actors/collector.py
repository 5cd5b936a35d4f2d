"""`Collector`: owns the lines of one node and publishes what they deliver.

Everything happens on one event loop in a thread of its own; Ray's calls post to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from typing import Any

import msgspec
import ray
import uvloop

from raytrade.actors.incidents import Incidents
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Event, LineDown, LineUp
from raytrade.core.incidents import Incident
from raytrade.core.instrument import split_instrument
from raytrade.core.message import message_of
from raytrade.errors import PipelineError
from raytrade.links.lanes import open_lane
from raytrade.links.line_books import LineBooks
from raytrade.links.opening import OpenLink, read_wish, reader_of
from raytrade.links.publisher import Publisher
from raytrade.links.writer import LinkSettings
from raytrade.rules import rule_of
from raytrade.transport.clock import SystemClock
from raytrade.transport.egress import Egress
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget
from raytrade.venues import find_venue
from raytrade.venues.protocol import SERVICE_TIMEOUT_NS, Endpoint

CALL_TIMEOUT_S = 10.0
TIMER_NS_MIN = MILLISECOND
"""What the event loop's timers can tell apart."""
_log = logging.getLogger("raytrade.links")


class LinePlan(msgspec.Struct, frozen=True):
    """A line to open: name, venue, what is subscribed on it, slot of the rotation, and how it leaves the host."""

    name: str
    venue: str
    endpoint: Endpoint
    slot: int = 0
    egress: Egress = Egress()


class BudgetPlan(msgspec.Struct, frozen=True):
    """What a collector may spend of a venue's request weight in a minute (0: no limit), see `WeightBudget`."""

    weight_max: int = 0
    turn: int = 0
    turns: int = 1


class CollectorWork(msgspec.Struct, frozen=True):
    """What a collector is to run from now on."""

    lines: list[LinePlan]
    budgets: dict[str, BudgetPlan]


class CollectorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a collector is to do. `is_late`: others run already and may have spent of its budgets."""

    name: str
    lines: list[LinePlan]
    links: LinkSettings = LinkSettings()
    service_timeout_ns: Nanos = SERVICE_TIMEOUT_NS
    budgets: dict[str, BudgetPlan] = {}
    is_late: bool = False

    @property
    def work(self) -> CollectorWork:
        """Give the part that may change while it runs."""
        return CollectorWork(self.lines, self.budgets)


class Held(msgspec.Struct, frozen=True):
    """A line that a collector runs. `is_served`: it is up and delivers all its books."""

    plan: LinePlan
    is_served: bool


class Collector:
    """Runs the planned lines from its construction on."""

    def __init__(self, plan: CollectorPlan) -> None:
        self.plan = plan
        self._clock = SystemClock()
        self._loop = uvloop.new_event_loop()
        self._plans = {line.name: line for line in plan.lines}
        self._budgets: dict[str, WeightBudget] = {}
        self._incidents = Incidents(plan.name)
        self._grant(plan.budgets, plan.is_late or ray.get_runtime_context().was_current_actor_reconstructed)
        self._lines = {line.name: self._line(line) for line in plan.lines}
        self._line_books = LineBooks(rule_of)
        self._publisher = Publisher(secrets.randbits(62) | 1, plan.links, self._line_books.images, self._wake)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: Nanos = 0
        self._pumping = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def _line(self, plan: LinePlan) -> Line:
        spec = find_venue(plan.venue)
        budget = self._budgets.setdefault(plan.venue, WeightBudget(0))
        machine = spec.machine(plan.venue, plan.endpoint)
        machine.service_timeout_ns = self.plan.service_timeout_ns
        life_s = spec.limits.connection_life_s
        return Line(plan.name, machine, self._clock, budget, life_s, plan.egress, plan.slot)

    def _grant(self, budgets: dict[str, BudgetPlan], is_late: bool) -> None:
        now_ns = self._clock.now_ns()
        for venue, part in budgets.items():
            budget = self._budgets.get(venue)
            if budget is not None:
                budget.limit(part.weight_max, part.turn, part.turns, now_ns)
                continue
            budget = self._budgets[venue] = WeightBudget(part.weight_max, part.turn, part.turns)
            if is_late:
                budget.begin_late(find_venue(venue).limits.snapshot_weight, now_ns)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for line in self._lines.values():
            self._start(line)
        self._loop.run_forever()

    def _start(self, line: Line) -> None:
        task = self._running[line.name] = self._loop.create_task(line.run(self._deliver))
        task.add_done_callback(_end_process_on_failure)

    # On the event loop.

    def _deliver(self, line: str, events: list[Event]) -> None:
        messages = [message_of(event, line) for event in events]
        self._publisher.append(messages)
        for event, message in zip(events, messages, strict=True):
            self._line_books.follow(line, event, message)
        if len(events) == 1:
            self._note(line, events[0])
        self._pump_soon()

    def _note(self, line: str, event: Event) -> None:
        """Note what a line says of itself; it comes alone."""
        if type(event) is LineUp:
            self._incidents.note(Incident.LINE_UP, event.ts_recv_ns, line=line, venue=event.venue)
        elif type(event) is LineDown:
            self._incidents.note(Incident.LINE_DOWN, event.ts_recv_ns, line=line, venue=event.venue, cause=event.cause)

    def _pump_soon(self) -> None:
        """Pump once for all the frames that one read of the sockets brings."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        now_ns = self._clock.now_ns()
        self._publisher.pump(now_ns)
        for note in self._publisher.notes():
            _log.warning("%s: %s", self.plan.name, note)
        due_ns = self._publisher.due_ns()
        if due_ns is not None:
            self._wake_at(due_ns, now_ns)

    def _wake_at(self, due_ns: Nanos, now_ns: Nanos) -> None:
        """Set the timer; one that is due earlier is left alone, and looks again: setting timers costs more."""
        if self._timer is not None:
            if self._timer_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_ns = max(due_ns, now_ns + TIMER_NS_MIN)
        self._timer = self._loop.call_later((self._timer_ns - now_ns) / SECOND, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._pump()

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

    async def _request_snapshot(self, instrument: str, wanted: str) -> bool:
        venue, symbol = split_instrument(instrument)
        for name, line in self._lines.items():
            if wanted not in ("", name):
                continue
            symbols = {subscription.symbol for subscription in line.machine.endpoint.subscriptions}
            if line.machine.venue == venue and symbol in symbols and line.status.is_up:
                budget, weight = self._budgets[venue], find_venue(venue).limits.snapshot_weight
                if weight and budget.wait_ns(weight, self._clock.now_ns()):
                    budget.counts.refused += 1
                    return False
                line.request_snapshot(symbol, self._deliver)
                return True
        return False

    async def _run_lines(self, work: CollectorWork) -> None:
        """Open what is new, give up what is gone; what stays is not touched but for its slot."""
        self._grant(work.budgets, True)
        wanted = {plan.name: plan for plan in work.lines}
        for name in [name for name in self._lines if name not in wanted]:
            self._retire(name)
        for name, plan in wanted.items():
            if name in self._lines:
                self._lines[name].slot = plan.slot
            else:
                self._lines[name] = self._line(plan)
                self._start(self._lines[name])
        self._plans = wanted

    def _retire(self, name: str) -> None:
        line, task = self._lines.pop(name), self._running.pop(name)
        task.remove_done_callback(_end_process_on_failure)
        task.cancel()
        line.close()
        line.retire(self._deliver)

    async def _held(self) -> list[Held]:
        return [Held(self._plans[name], line.is_served) for name, line in self._lines.items()]

    async def _status(self) -> dict[str, Any]:
        egress = {name: msgspec.to_builtins(plan.egress) for name, plan in self._plans.items()}
        return {
            "name": self.plan.name,
            "role": "collector",
            "pid": os.getpid(),
            "lines": {
                name: {
                    "venue": line.machine.venue,
                    "url": line.machine.endpoint.url,
                    "egress": {way: text for way, text in egress[name].items() if text},
                    "status": msgspec.to_builtins(line.status),
                    "counts": msgspec.to_builtins(line.machine.statistics()),
                }
                for name, line in self._lines.items()
            },
            "problems": self._publisher.problems(),
            "slow": dict(self._publisher.episodes),
            "budgets": self._budget_counts(),
            "links": msgspec.to_builtins(self._publisher.statistics()),
            "lanes": self._publisher.lanes(),
            "ring_bytes": self._publisher.ring.bytes_held,
            **self._incidents.status(),
        }

    def _budget_counts(self) -> dict[str, Any]:
        now_ns = self._clock.now_ns()
        for venue, budget in self._budgets.items():
            budget.wait_ns(find_venue(venue).limits.snapshot_weight, now_ns)
        return {venue: msgspec.to_builtins(budget.counts) for venue, budget in self._budgets.items()}

    async def _stop(self) -> None:
        for task in self._running.values():
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
        try:
            opening = read_wish(wish)
        except PipelineError as error:
            self._loop.call_soon_threadsafe(self._publisher.refuse, reader_of(wish), str(error))
            raise
        return int(self._on_loop(self._open(opening, reader)))

    def request_snapshot(self, instrument: str, line: str = "") -> bool:
        """Ask the venue for a fresh book, on any line or on one; it goes out to all readers.

        False if no line is up for it, or the budget of the venue is spent: another collector may do better.
        """
        return bool(self._on_loop(self._request_snapshot(instrument, line)))

    def run_lines(self, work: bytes) -> None:
        """Run these lines and no others from now on, within these budgets; may be called again with the same."""
        self._on_loop(self._run_lines(msgspec.msgpack.decode(work, type=CollectorWork)))

    def held(self) -> bytes:
        """Give the lines that run, as a list of `Held`."""
        return msgspec.msgpack.encode(self._on_loop(self._held()))

    def status(self) -> dict[str, Any]:
        """Give the state of lines and links."""
        return dict(self._on_loop(self._status()))

    def stop(self) -> None:
        """Close the lines; the links stay until everything is taken."""
        self._on_loop(self._stop())

    def is_drained(self) -> bool:
        """Tell whether every reader has everything."""
        return bool(self._on_loop(self._is_drained()))


def _end_process_on_failure(task: asyncio.Task[None]) -> None:
    """A line's task never ends by itself: if it does, the program is wrong and the actor must start anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        import traceback

        traceback.print_exception(error)
        os._exit(70)
