"""`Viewer`: the newest state of some streams, for a screen that looks a few times a second.

It follows the dedups as any consumer does, and keeps books and the last trades, nothing else: a screen that looks
rarely, or never again, costs nobody anything.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import msgspec

from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Gap, Resynced, Side, Stalled, Trade
from raytrade.core.message import Kind, decode
from raytrade.core.prices import format_decimal
from raytrade.links.opening import OpenLink
from raytrade.rules import rule_of

TRADES_KEPT = 50


class ViewerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a viewer follows."""

    name: str
    dedups: list[str]
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"


class Viewer:
    """Follows the dedups from its construction on."""

    def __init__(self, plan: ViewerPlan) -> None:
        self.plan = plan
        self._arbiter = Arbiter(plan.name, rule_of, ArbiterSettings())
        self._books: dict[str, L2Book] = {}
        self._trades: dict[str, deque[dict[str, Any]]] = {}
        self._thread = MachineThread(plan.name, self._tick)
        template = OpenLink(link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node)
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.set_writers(plan.dedups)
        self._thread.start()

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self._upstreams.tick(now_ns)
        due_ns = self._arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._arbiter.receive_timeout(now_ns)
        wanted = {command.instrument for command in self._arbiter.commands()}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        for message in self._arbiter.output():
            if message.kind is not Kind.LINE_UP and message.kind is not Kind.LINE_DOWN:
                self._follow(decode(message))
        return self._arbiter.deadline_ns()

    def _take(self, dedup: str, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        for message in self._upstreams.receive(dedup, data, now_ns):
            self._arbiter.receive(dedup, message, now_ns)

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self._arbiter.receive_line_up if is_up else self._arbiter.receive_line_down)(dedup, now_ns)

    def _follow(self, event: object) -> None:
        match event:
            case BookSnapshot() | BookDelta():
                self._book(event.instrument).apply(event)
            case Gap(channel=Channel.BOOK) | Stalled(channel=Channel.BOOK):
                self._book(event.instrument).invalidate()
            case Resynced(channel=Channel.BOOK):
                self._book(event.instrument).revalidate()
            case Trade():
                kept = self._trades.setdefault(event.instrument, deque(maxlen=TRADES_KEPT))
                kept.append(_shown(event))

    def _book(self, instrument: str) -> L2Book:
        book = self._books.get(instrument)
        if book is None:
            book = self._books[instrument] = L2Book(instrument)
        return book

    def _ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        book = self._book(instrument)
        return {
            "instrument": instrument,
            "state": book.state.value,
            "is_live": book.state is BookState.LIVE,
            "id_last": book.id_last,
            "ts_recv_ns": book.ts_recv_ns,
            "bids": book.texts(Side.BUY, depth),
            "asks": book.texts(Side.SELL, depth),
            "trades": list(self._trades.get(instrument, ())),
        }

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._thread.post(self._take, dedup, data)

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        """Give the best `depth` levels a side as text, best first, and the last trades, oldest first."""
        return dict(self._thread.call(self._ladder, instrument, depth))

    def set_dedups(self, names: list[str]) -> None:
        """Follow these dedups and no others."""
        self._thread.post(self._upstreams.set_writers, names)

    def status(self) -> dict[str, Any]:
        """Give the state of the links."""
        up = sorted(self._upstreams.up())
        return {"name": self.plan.name, "role": "viewer", "pid": os.getpid(), "up": up}


def _shown(trade: Trade) -> dict[str, Any]:
    return {
        "trade_id": trade.trade_id,
        "price": format_decimal(trade.price, trade.price_scale),
        "size": format_decimal(trade.size, trade.size_scale),
        "aggressor": trade.aggressor.name.lower(),
        "ts_recv_ns": trade.ts_recv_ns,
    }
