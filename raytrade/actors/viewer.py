"""`Viewer`: the newest state of the books that somebody looks at, for a screen that looks a few times a second.

Its links are conflated, in no hurry, and carry only the instruments that were looked at lately: a screen that looks
rarely, or never again, costs nobody anything, and one that hangs is left behind.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import msgspec

from raytrade.actors.following import Following
from raytrade.arbitration import ArbiterSettings
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Gap, Resynced, Side, Stalled, Trade
from raytrade.core.message import Kind, Message, decode
from raytrade.core.prices import format_decimal
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy

TRADES_KEPT = 50
SPACING_NS = 100 * MILLISECOND
FORGOTTEN_NS = 60 * SECOND
BATCHES_WAITING_MAX = 8
NOTHING = ("-",)
"""A glob that no instrument fits."""
_LINES = (Kind.LINE_UP, Kind.LINE_DOWN)


class ViewerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a viewer follows."""

    name: str
    dedups: list[str]
    same_node: str = "shm"


class Viewer:
    """Follows the dedups from its construction on."""

    def __init__(self, plan: ViewerPlan) -> None:
        self.plan = plan
        self._books: dict[str, L2Book] = {}
        self._trades: dict[str, deque[dict[str, Any]]] = {}
        self._asked_ns: dict[str, Nanos] = {}
        template = OpenLink(
            link=0,
            reader=plan.name,
            filters=NOTHING,
            same_node=plan.same_node,
            policy=Policy.CONFLATE,
            spacing_ns=SPACING_NS,
        )
        self._following = Following(template, self._take, ArbiterSettings(), BATCHES_WAITING_MAX)
        self._following.start(plan.dedups)

    # On the machine thread.

    def _take(self, message: Message) -> None:
        if message.kind in _LINES or message.instrument not in self._asked_ns:
            return
        event = decode(message)
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

    def _look_at(self, instrument: str) -> None:
        """Have the links carry what was looked at lately and nothing else."""
        now_ns = self._following.thread.clock.now_ns()
        is_new = instrument not in self._asked_ns
        self._asked_ns[instrument] = now_ns
        if not is_new:
            return
        for name in [name for name, at_ns in self._asked_ns.items() if now_ns - at_ns > FORGOTTEN_NS]:
            del self._asked_ns[name]
            self._books.pop(name, None)
            self._trades.pop(name, None)
        for book in self._books.values():
            book.invalidate()
        self._following.begin_anew(filters=tuple(self._asked_ns))

    def _ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        self._look_at(instrument)
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

    def _status(self) -> dict[str, Any]:
        up = self._following.up()
        return {"name": self.plan.name, "role": "viewer", "pid": os.getpid(), "up": up, "follows": list(self._asked_ns)}

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._following.receive_batch(dedup, data)

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        """Give the best `depth` levels a side as text, best first, and the last trades, oldest first.

        Who asks for an instrument for the first time gets a book that is not live; it is a moment later.
        """
        return dict(self._following.thread.call(self._ladder, instrument, depth))

    def set_dedups(self, names: list[str]) -> None:
        """Follow these dedups and no others."""
        self._following.thread.post(self._following.follow, names)

    def status(self) -> dict[str, Any]:
        """Give the state of the links, and what they carry."""
        return dict(self._following.thread.call(self._status))


def _shown(trade: Trade) -> dict[str, Any]:
    return {
        "trade_id": trade.trade_id,
        "price": format_decimal(trade.price, trade.price_scale),
        "size": format_decimal(trade.size, trade.size_scale),
        "aggressor": trade.aggressor.name.lower(),
        "ts_recv_ns": trade.ts_recv_ns,
    }
