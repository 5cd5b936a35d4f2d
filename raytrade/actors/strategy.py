"""`StrategyActor`: hosts a `StrategyEngine`, which arbitrates between the dedup replicas."""

from __future__ import annotations

import logging
import os
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import ray

from raytrade.actors.inputs import EngineInputs
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.warmup import WarmUp, WarmUpSettings
from raytrade.actors.worker import MAILBOX_ITEMS_MAX, MachineThread
from raytrade.arbitration import SnapshotWanted
from raytrade.core.book import BookState
from raytrade.core.clock import MILLISECOND, Nanos
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
from raytrade.strategy.journal import Opening
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.orders import PaperSettings, Rejection

NOTES_KEPT = 200
WARM_SLICE_NS: Nanos = 20 * MILLISECOND
"""How long history is played before the actor looks who calls."""
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
    journal: str = ""
    """Directory of the journal of all inputs (`raytrade.strategy.journal`); empty: none is kept."""
    journal_bytes_max: int = 0
    warmup: WarmUpSettings | None = None


class StrategyActor:
    """Runs one strategy from its construction on."""

    def __init__(self, plan: StrategyPlan) -> None:
        self.plan = plan
        strategy = load_strategy(plan.strategy, plan.params)
        settings = EngineSettings(paper=plan.paper)
        streams = Filter(*plan.filters)
        self._engine = StrategyEngine(plan.name, strategy, streams, rule_of, settings, self._observe)
        self._inputs = EngineInputs(self._engine)
        self._coverage: dict[tuple[str, bool], Coverage] = {}
        self._notes: deque[str] = deque(maxlen=NOTES_KEPT)
        self._fills: deque[Fill] = deque(maxlen=FILLS_KEPT)
        items_max = LATEST_MAILBOX_ITEMS_MAX if plan.policy is Policy.CONFLATE else MAILBOX_ITEMS_MAX
        self._thread = MachineThread(plan.name, self._tick, busy_poll=plan.busy_poll, mailbox_items_max=items_max)
        template = OpenLink(
            link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node, policy=plan.policy
        )
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._dedups = plan.dedups
        self._warmup: WarmUp | None = None
        self._is_warm = plan.warmup is None
        self._begin(self._thread.clock.now_ns())
        self._thread.start()

    def _begin(self, now_ns: Nanos) -> None:
        """Open the journal; then history first, if it is wanted, and the links."""
        plan = self.plan
        if plan.journal:
            opening = Opening(
                name=plan.name,
                strategy=plan.strategy,
                params=plan.params,
                filters=plan.filters,
                paper=plan.paper,
                ts_start_ns=now_ns,
            )
            self._inputs.keep(Path(plan.journal), opening, plan.journal_bytes_max)
        if plan.warmup is None:
            self._upstreams.set_writers(self._dedups)
        else:
            self._warmup = WarmUp(self._inputs, plan.warmup, plan.filters, now_ns)

    def _warm(self, now_ns: Nanos) -> None:
        """Play a slice of history; behind the last one the links open where it ends."""
        until_ns, clock = now_ns + WARM_SLICE_NS, self._thread.clock
        if self._warmup is None or self._warmup.step(lambda: clock.now_ns() >= until_ns):
            self._is_warm = True
            if self._warmup is not None:
                self._upstreams.positions.update(self._warmup.positions)
            self._upstreams.set_writers(self._dedups)

    def _follow(self, names: list[str]) -> None:
        self._dedups = names
        if self._is_warm:
            self._upstreams.set_writers(names)

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        if not self._is_warm:
            self._warm(now_ns)
            self._run_commands(now_ns)
            self._inputs.tick(now_ns)
            return now_ns
        self._upstreams.tick(now_ns)
        self._inputs.run_timers(now_ns)
        self._run_commands(now_ns)
        self._inputs.tick(now_ns)
        return self._engine.deadline_ns()

    def _take(self, dedup: str, data: bytes) -> None:
        clock = self._thread.clock
        receive = self._inputs.receive
        messages = self._upstreams.receive(dedup, data, clock.now_ns())
        for message in messages:
            receive(dedup, message, clock.now_ns())
        if messages and self._warmup is not None and self._warmup.is_up:
            self._warmup.end(clock.now_ns())
            self._upstreams.positions.clear()

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        self._inputs.change(dedup, is_up, now_ns)

    def _run_commands(self, now_ns: Nanos) -> None:
        for command in self._inputs.results(self._engine.commands(), now_ns):
            if not self._is_warm and isinstance(command, Rejection | SnapshotWanted):
                continue
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
            "journal": self._inputs.status(),
            "warmup": {} if self._warmup is None else self._warmup.status(),
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
        self._thread.post(self._follow, names)

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
        self._thread.call(self._inputs.stop, self._thread.clock.now_ns())
        self._thread.stop()
