"""`StrategyActor`: hosts a `StrategyEngine`, which arbitrates between the dedup replicas."""

from __future__ import annotations

import logging
import os
from collections import deque
from decimal import Decimal
from typing import Any

import msgspec
import ray

from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MAILBOX_ITEMS_MAX, MachineThread
from raytrade.arbitration import SnapshotWanted
from raytrade.core.book import BookState
from raytrade.core.clock import Nanos
from raytrade.core.coverage import Coverage
from raytrade.core.events import Flag
from raytrade.core.incidents import Incident
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.rules import rule_of
from raytrade.strategy.commands import StrategyFailed
from raytrade.strategy.engine import EngineSettings, StrategyEngine
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.orders import PaperSettings

NOTES_KEPT = 200
FILLS_KEPT = 50
LATEST_MAILBOX_ITEMS_MAX = 8
"""Where the latest is wanted only, few batches wait in the mailbox: what waits there is old."""
_log = logging.getLogger("raytrade.strategy")


class StrategyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy actor is to do; `strategy` is ``module:Class`` or ``file.py:Class``."""

    name: str
    dedups: list[str]
    strategy: str
    params: dict[str, Any] = {}
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"
    policy: Policy = Policy.SKIP
    busy_poll: bool = False
    paper: PaperSettings = PaperSettings()


class StrategyActor:
    """Runs one strategy from its construction on."""

    def __init__(self, plan: StrategyPlan) -> None:
        self.plan = plan
        strategy = load_strategy(plan.strategy, plan.params)
        settings = EngineSettings(paper=plan.paper)
        streams = Filter(*plan.filters)
        self._engine = StrategyEngine(plan.name, strategy, streams, rule_of, settings, self._observe)
        self._coverage: dict[tuple[str, bool], Coverage] = {}
        self._notes: deque[str] = deque(maxlen=NOTES_KEPT)
        self._fills: deque[Fill] = deque(maxlen=FILLS_KEPT)
        items_max = LATEST_MAILBOX_ITEMS_MAX if plan.policy is Policy.CONFLATE else MAILBOX_ITEMS_MAX
        self._thread = MachineThread(plan.name, self._tick, busy_poll=plan.busy_poll, mailbox_items_max=items_max)
        template = OpenLink(
            link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node, policy=plan.policy
        )
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.set_writers(plan.dedups)
        self._thread.start()

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self._upstreams.tick(now_ns)
        due_ns = self._engine.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._engine.receive_timeout(now_ns)
        self._run_commands(now_ns)
        return self._engine.deadline_ns()

    def _take(self, dedup: str, data: bytes) -> None:
        clock = self._thread.clock
        receive = self._engine.receive
        for message in self._upstreams.receive(dedup, data, clock.now_ns()):
            receive(dedup, message, clock.now_ns())

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self._engine.receive_line_up if is_up else self._engine.receive_line_down)(dedup, now_ns)

    def _run_commands(self, now_ns: Nanos) -> None:
        for command in self._engine.commands():
            if isinstance(command, SnapshotWanted):
                self._upstreams.request_images({command.instrument}, now_ns)
                continue
            if isinstance(command, Fill):
                self._fills.append(command)
            if isinstance(command, StrategyFailed):
                self._upstreams.incidents.note(
                    Incident.STRATEGY_STOPPED,
                    now_ns,
                    callback=command.callback,
                    subject=command.subject,
                    error=command.error,
                )
            self._notes.append(repr(command))
            _log.info("%s %r", self.plan.name, command)

    def _observe(self, kind: Kind, instrument: str, id_prev: int, id_last: int, flags: int) -> None:
        if flags & Flag.HISTORY:
            return
        stream = (instrument, kind is Kind.TRADE)
        coverage = self._coverage.get(stream)
        if coverage is None:
            coverage = self._coverage[stream] = Coverage()
        if flags & Flag.CONFLATED:
            coverage.skip(id_last)
        elif kind is Kind.SNAPSHOT:
            coverage.start(id_last)
        else:
            coverage.observe(id_prev, id_last)

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "role": "strategy",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "strategy": self.plan.strategy,
            "policy": self.plan.policy.value,
            "engine": msgspec.to_builtins(self._engine.statistics(), str_keys=True),
            "coverage": {
                f"{instrument}/{'trades' if is_trades else 'book'}": msgspec.to_builtins(coverage)
                for (instrument, is_trades), coverage in self._coverage.items()
            },
            "notes": list(self._notes)[-20:],
            "accounts": self._accounts(),
            "fills": msgspec.to_builtins(list(self._fills)),
            "up": sorted(self._upstreams.up()),
            "problems": self._upstreams.problems(),
            "upstreams": msgspec.to_builtins(self._upstreams.statistics()),
            **self._upstreams.incidents.status(),
        }

    def _accounts(self) -> dict[str, dict[str, Any]]:
        """Give position, fees and profit per traded instrument; what is open counts at the middle of a whole book."""
        accounts = {}
        for instrument, account in self._engine.broker.accounts.items():
            book = self._engine.books.get(instrument)
            top = book.top() if book is not None else None
            open_profit = None if top is None else float(account.unrealised(Decimal(str(top.mid))))
            accounts[instrument] = {
                "position": str(account.position),
                "fees": float(account.fees),
                "realised": float(account.realised),
                "unrealised": open_profit,
            }
        return accounts

    def _readiness(self) -> dict[str, list[str]]:
        live = [name for name, book in self._engine.books.items() if book.state is BookState.LIVE]
        return {"up": self._upstreams.up(), "live": live}

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._thread.post(self._take, dedup, data)

    def set_dedups(self, names: list[str]) -> None:
        """Follow these replicas and no others."""
        self._thread.post(self._upstreams.set_writers, names)

    def status(self) -> dict[str, Any]:
        """Give the state of the strategy, its streams and links."""
        return dict(self._thread.call(self._status))

    def readiness(self) -> dict[str, list[str]]:
        """Give the dedups whose links are up, and the books that can be used."""
        return dict(self._thread.call(self._readiness))

    def books(self) -> dict[str, dict[str, Any]]:
        """Give the books in full depth as decimal text: for checks, not for trading."""
        return dict(self._thread.call(self._engine.book_texts))

    def stop(self) -> None:
        """Tell the strategy, and end."""
        self._thread.call(self._engine.stop, self._thread.clock.now_ns())
        self._thread.stop()
