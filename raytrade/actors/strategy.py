"""`StrategyActor`: hosts a `StrategyEngine`, which arbitrates between the dedup replicas."""

from __future__ import annotations

import logging
import os
import secrets
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import ray

from raytrade.actors.inputs import EngineInputs
from raytrade.actors.mail import Mail
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.warmup import WarmUp, WarmUpSettings
from raytrade.actors.worker import MAILBOX_ITEMS_MAX, MachineThread
from raytrade.arbitration import SnapshotWanted
from raytrade.core.book import BookState
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.coverage import Coverage
from raytrade.core.events import Flag
from raytrade.core.incidents import Incident
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.rules import rule_of
from raytrade.strategy.base import BaseStrategy, Strategy
from raytrade.strategy.commands import StrategyFailed
from raytrade.strategy.desk import Desk, DeskSettings, Turn
from raytrade.strategy.engine import EngineSettings, StrategyEngine
from raytrade.strategy.gateway import Word
from raytrade.strategy.journal import Opening
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.order_ledger import LedgerImage
from raytrade.strategy.orders import PaperSettings, Rejection
from raytrade.strategy.paper import PaperBroker
from raytrade.strategy.replica import Replica, restore, state_of

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
    gateway: str = ""
    """The actor that takes the orders of a strategy with a standby; empty: they are filled here."""
    is_late: bool = False
    """Whether it takes the place of another one: it waits for what that one hands over."""

    @property
    def waits(self) -> bool:
        """Whether it begins with what another one hands over; one with a journal or a warm-up begins anew."""
        return self.is_late and not (self.gateway or self.journal or self.warmup)


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy that is moved takes along: account, open orders and its own state, if it is the same strategy."""

    strategy: str
    params: dict[str, Any]
    ledger: LedgerImage
    state: bytes = b""


class StrategyActor:
    """Runs one strategy from its construction on; one with a gateway, once that says so."""

    def __init__(self, plan: StrategyPlan) -> None:
        self.plan = plan
        self._strategy = load_strategy(plan.strategy, plan.params)
        settings = EngineSettings(paper=plan.paper)
        streams = Filter(*plan.filters)
        desk = Desk(plan.name, secrets.randbits(62), DeskSettings(cash=plan.paper.cash)) if plan.gateway else None
        self._is_waiting = plan.waits
        hosted = BaseStrategy() if desk is not None or self._is_waiting else self._strategy
        self._engine = StrategyEngine(plan.name, hosted, streams, rule_of, settings, self._observe, desk)
        self._inputs = EngineInputs(self._engine)
        self._gateway, self._mail = plan.gateway, Mail()
        self._replica = Replica(self._engine, desk, self._make) if desk is not None else None
        self._is_leaving = False
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
        if self._replica is not None:
            self._speak(self._replica, now_ns)
        return self._engine.deadline_ns()

    def _make(self) -> Strategy:
        return load_strategy(self.plan.strategy, self.plan.params)

    def _speak(self, replica: Replica, now_ns: Nanos) -> None:
        """Say to the gateway what it must know."""
        call = replica.call(now_ns, is_warm=self._can_trade(), is_leaving=self._is_leaving)
        if call is not None:
            self._mail.send(self._gateway, "receive_call", msgspec.msgpack.encode(call))

    def _can_trade(self) -> bool:
        """Tell whether the stream is followed: a book that cannot be used just now keeps nobody from trading others."""
        return bool(self._upstreams.up()) and any(book.state is BookState.LIVE for book in self._engine.books.values())

    def _hear(self, data: bytes) -> None:
        """Take a word of the gateway."""
        now_ns = self._thread.clock.now_ns()
        if self._replica is None:
            return
        turn = self._replica.receive(msgspec.msgpack.decode(data, type=Word), now_ns)
        desk = self._replica.desk
        if turn is Turn.ACTIVE and desk.opening is not None:
            missed, lost = len(desk.opening.missed), desk.opening.lost
            self._upstreams.incidents.note(Incident.TAKEN_OVER, now_ns, epoch=desk.epoch, missed=missed, lost=lost)
        elif turn is Turn.FENCED:
            self._upstreams.incidents.note(Incident.FENCED, now_ns, epoch=desk.known_epoch, active=desk.active)

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
            **self._standby_status(),
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

    def _standby_status(self) -> dict[str, Any]:
        if self._replica is None:
            return {"is_active": not self._is_waiting}
        desk = self._replica.desk
        return {"is_active": desk.epoch > 0, "epoch": desk.known_epoch, "gateway": self._gateway}

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

    def receive_word(self, data: bytes) -> None:
        """Take what the gateway says."""
        self._thread.post(self._hear, data)

    def set_gateway(self, name: str) -> None:
        """Send orders to this gateway."""
        self._gateway = name

    def hand_over(self) -> bytes:
        """End without a word to the strategy, and give what the one in its place must know."""
        if self._replica is not None:
            self._is_leaving = True
            self._thread.call(self._say_last, True)
            return b""
        handed: bytes = self._thread.call(self._image)
        self._thread.stop()
        return handed

    def _image(self) -> bytes:
        broker, states = self._engine.broker, list[bytes]()
        if self._is_waiting or not self._engine.is_running or not isinstance(broker, PaperBroker):
            return b""
        now_ns = self._thread.clock.now_ns()
        self._engine.act(lambda context: states.append(state_of(context, self._strategy)), now_ns)
        return msgspec.msgpack.encode(
            HandOver(
                strategy=self.plan.strategy,
                params=self.plan.params,
                ledger=broker.image(),
                state=states[0] if states else b"",
            )
        )

    def take_over(self, data: bytes) -> None:
        """Begin, with what another one has handed over; nothing, if this one has begun already."""
        self._thread.post(self._take_over, data)

    def _take_over(self, data: bytes) -> None:
        if not self._is_waiting:
            return
        self._is_waiting = False
        now_ns, broker = self._thread.clock.now_ns(), self._engine.broker
        handed = msgspec.msgpack.decode(data, type=HandOver) if data else None
        if handed is None or (handed.strategy, handed.params) != (self.plan.strategy, self.plan.params):
            self._engine.host(self._strategy, now_ns)
            return
        if isinstance(broker, PaperBroker):
            for order in handed.ledger.orders:
                self._engine.open_book(order.instrument)
            broker.restore(handed.ledger)
        self._engine.host(self._strategy, now_ns)
        self._engine.act(restore, now_ns, self._strategy, handed.state)

    def _say_last(self, is_leaving: bool) -> None:
        """Say once more what must not be lost: that this replica leaves, or that the strategy is over."""
        now_ns = self._thread.clock.now_ns()
        if self._replica is not None and self._replica.desk.epoch:
            call = self._replica.call(now_ns + SECOND, is_warm=False, is_leaving=is_leaving)
            if call is not None:
                last = msgspec.structs.replace(call, is_over=not is_leaving)
                self._mail.tell(self._gateway, "receive_call", msgspec.msgpack.encode(last))

    def stop(self) -> None:
        """Tell the strategy, and end; a standby that has not begun ends without a word."""
        if self._replica is None or self._replica.desk.epoch:
            self._thread.call(self._inputs.stop, self._thread.clock.now_ns())
            self._thread.call(self._say_last, False)
        self._thread.stop()
