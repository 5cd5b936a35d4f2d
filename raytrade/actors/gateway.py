"""`GatewayActor`: hosts the `OrderGateway` of a strategy with a standby, and fills its orders on paper.

It follows the dedups by itself, so that orders fill and rest whatever becomes of the strategy's replicas. What it tells
them was written to its journal before; a gateway that is started anew goes on from there.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import ray

from raytrade.actors.mail import Mail
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.arbitration import SnapshotWanted
from raytrade.core.book import BookState
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.incidents import Incident
from raytrade.core.instrument import Filter
from raytrade.errors import PipelineError
from raytrade.links.opening import OpenLink
from raytrade.rules import rule_of
from raytrade.storage.journal import Journal
from raytrade.strategy.engine import EngineSettings, StrategyEngine
from raytrade.strategy.gateway import Call, Record
from raytrade.strategy.orders import PaperSettings
from raytrade.strategy.paper import PaperBroker
from raytrade.strategy.paper_execution import PaperExecution
from raytrade.strategy.replica import listen

LOOK_NS = 50 * MILLISECOND
JOURNAL_BYTES_MAX = 8 * 1024 * 1024
"""A journal beyond this is written anew as one record."""
_log = logging.getLogger("raytrade.strategy")


class GatewayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is to do; `directory` holds its journal (empty: the user's own directory of states)."""

    name: str
    dedups: list[str]
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"
    paper: PaperSettings = PaperSettings()
    directory: str = ""


def state_directory(directory: str) -> Path:
    """Give the directory of states."""
    if directory:
        return Path(directory)
    states = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return states / "raytrade" / "gateways"


class GatewayActor:
    """Runs from its construction on."""

    def __init__(self, plan: GatewayPlan) -> None:
        self.plan = plan
        self._execution = PaperExecution()
        self._gateway = self._execution.gateway
        settings = EngineSettings(paper=plan.paper)
        self._engine = StrategyEngine(plan.name, self._execution, Filter(*plan.filters), rule_of, settings)
        assert isinstance(self._engine.broker, PaperBroker)
        self._execution.broker = self._engine.broker
        self._thread = MachineThread(plan.name, self._tick)
        template = OpenLink(link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node)
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.set_writers(plan.dedups)
        self._mail = Mail()
        self._journal = Journal(state_directory(plan.directory) / f"{plan.name.partition('~')[0]}.journal")
        self._unwritten: list[Record] = []
        self._problem = ""
        self._engine.start(self._thread.clock.now_ns())
        self._go_on([msgspec.msgpack.decode(data, type=Record) for data in self._journal.read()])
        self._thread.start()

    def _go_on(self, kept: list[Record]) -> None:
        """Go on from what was kept, here or by a gateway elsewhere."""
        now_ns = self._thread.clock.now_ns()
        self._gateway.restore(kept)
        self._engine.act(self._execution.restore, now_ns, None)
        self._unwritten = self._gateway.records()
        if kept:
            self._journal.replace([msgspec.msgpack.encode(self._gateway.image())])
            self._unwritten = []
            _log.info("%s goes on in epoch %d with report %d", self.plan.name, *self._position())

    def _position(self) -> tuple[int, int]:
        return self._gateway.epoch, self._gateway.ledger.number

    def _tick(self, now_ns: Nanos) -> Nanos:
        self._upstreams.tick(now_ns)
        due_ns = self._engine.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._engine.receive_timeout(now_ns)
        wanted = {one.instrument for one in self._engine.commands() if isinstance(one, SnapshotWanted)}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        self._execution.settle()
        if not self._engine.is_running and not self._gateway.halted:
            raise PipelineError(f"{self.plan.name}: {self._engine.statistics().failure}")
        epoch = self._gateway.epoch
        self._gateway.receive_timeout(now_ns)
        if self._gateway.epoch != epoch:
            active = self._gateway.active
            self._upstreams.incidents.note(Incident.EPOCH_GRANTED, now_ns, epoch=self._gateway.epoch, active=active)
        self._speak(now_ns)
        due_ns = self._engine.deadline_ns()
        return now_ns + LOOK_NS if due_ns is None else min(due_ns, now_ns + LOOK_NS)

    def _speak(self, now_ns: Nanos) -> None:
        """Write down what has happened, then tell it; what cannot be written is not told."""
        self._unwritten += self._gateway.records()
        try:
            if self._unwritten:
                self._journal.append(msgspec.msgpack.encode(record) for record in self._unwritten)
                self._unwritten = []
            if self._journal.size > JOURNAL_BYTES_MAX:
                self._journal.replace([msgspec.msgpack.encode(self._gateway.image())])
            self._problem = ""
        except OSError as error:
            if not self._problem:
                self._upstreams.incidents.note(Incident.JOURNAL_FAILED, now_ns, error=str(error))
            self._problem = f"the journal cannot be written: {error}"
            return
        if self._gateway.has_words:
            for replica, word in self._gateway.words():
                self._mail.send(replica, "receive_word", msgspec.msgpack.encode(word))

    def _take(self, dedup: str, data: bytes) -> None:
        clock = self._thread.clock
        receive = self._engine.receive
        for message in self._upstreams.receive(dedup, data, clock.now_ns()):
            receive(dedup, message, clock.now_ns())

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self._engine.receive_line_up if is_up else self._engine.receive_line_down)(dedup, now_ns)

    def _receive_call(self, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        self._engine.act(listen, now_ns)
        self._gateway.receive(msgspec.msgpack.decode(data, type=Call), now_ns)
        self._engine.act(listen, now_ns)

    def _status(self) -> dict[str, Any]:
        gateway = self._gateway
        return {
            "name": self.plan.name,
            "role": "gateway",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "epoch": gateway.epoch,
            "active": gateway.active,
            "reports": gateway.ledger.number,
            "fills": sum(account.fills for account in gateway.ledger.accounts.values()),
            "orders": len(gateway.ledger.orders),
            "positions": {name: str(account.position) for name, account in gateway.ledger.accounts.items()},
            "refused": gateway.refused,
            "reports_lost": gateway.reports_lost,
            "problem": self._problem,
            "journal_bytes": self._journal.size,
            "up": sorted(self._upstreams.up()),
            "problems": self._upstreams.problems(),
            "upstreams": msgspec.to_builtins(self._upstreams.statistics()),
            **self._upstreams.incidents.status(),
        }

    def _readiness(self) -> dict[str, list[str]]:
        live = [name for name, book in self._engine.books.items() if book.state is BookState.LIVE]
        return {"up": self._upstreams.up(), "live": live}

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._thread.post(self._take, dedup, data)

    def receive_call(self, data: bytes) -> None:
        """Take what a replica of the strategy says."""
        self._thread.post(self._receive_call, data)

    def set_dedups(self, names: list[str]) -> None:
        """Follow these replicas and no others."""
        self._thread.post(self._upstreams.set_writers, names)

    def status(self) -> dict[str, Any]:
        """Give the state of the gateway and its links."""
        return dict(self._thread.call(self._status))

    def readiness(self) -> dict[str, list[str]]:
        """Give the dedups whose links are up, and the books that can be used."""
        return dict(self._thread.call(self._readiness))

    def hand_over(self) -> bytes:
        """End, and give all that the one in its place must know."""
        self._thread.stop()
        return msgspec.msgpack.encode(self._gateway.image())

    def take_over(self, data: bytes) -> None:
        """Go on from what another one has handed over."""
        if data:
            self._thread.call(self._go_on, [msgspec.msgpack.decode(data, type=Record)])

    def stop(self) -> None:
        """End for good, with the strategy: the next one begins with an account of its own.

        Whoever says this decides about the pipeline. That the active replica says it is over is not asked for: one
        that was fenced a moment ago, or dies now, cannot.
        """
        self._thread.stop()
        self._journal.remove()
