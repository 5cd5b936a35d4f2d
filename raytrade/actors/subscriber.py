"""`Subscriber`: arbitrates between the dedup replicas for one driver, which takes the merged stream from it in pieces.

It is its own process and its queue is bounded: a driver that does not take (a terminal that scrolls slowly, a pipe
that is full) slows neither the dedups nor any other consumer. When the queue is full it is thrown away, and the stream
begins anew with a `Gap` for each stream and images.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import msgspec

from raytrade.actors.following import Following
from raytrade.arbitration import ArbiterSettings
from raytrade.core.events import Channel, Gap, GapKind
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.links.opening import OpenLink

_DATA = (Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE)


class SubscriberPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber is to do; `queue_bytes_max` bounds what waits for the driver."""

    name: str
    dedups: list[str]
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"
    queue_bytes_max: int = 16 * 1024 * 1024
    arbiter: ArbiterSettings = ArbiterSettings()


class Subscriber:
    """Follows the dedups from its construction on."""

    def __init__(self, plan: SubscriberPlan) -> None:
        self.plan = plan
        self._filter = Filter(*plan.filters)
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._overruns = 0
        self._is_overrun = False
        self._last: dict[tuple[str, Channel], int] = {}
        template = OpenLink(link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node)
        self._following = Following(template, self._append, plan.arbiter)
        self._following.start(plan.dedups)

    # On the machine thread.

    def _append(self, message: Message) -> None:
        is_line = message.kind is Kind.LINE_UP or message.kind is Kind.LINE_DOWN
        if self._is_overrun or not (is_line or self._filter.accepts(message.instrument, message.channel)):
            return
        self._queue.append(message.raw)
        self._queue_bytes += len(message.raw)
        if self._queue_bytes > self.plan.queue_bytes_max:
            self._give_up()

    def _give_up(self) -> None:
        """The driver has not taken for too long: throw away what waits, and follow nobody until it comes back."""
        self._overruns += 1
        self._is_overrun = True
        self._queue.clear()
        self._queue_bytes = 0
        self._following.rest()

    def _begin_anew(self) -> None:
        self._is_overrun = False
        now_ns = self._following.thread.clock.now_ns()
        for (instrument, channel), last in self._last.items():
            gap = Gap(
                instrument=instrument,
                channel=channel,
                kind=GapKind.SLOW_CONSUMER,
                id_prev=last,
                id_last=0,
                cause=f"more than {self.plan.queue_bytes_max} bytes were waiting to be taken",
                ts_recv_ns=now_ns,
            )
            self._append(parse(encode(gap, self.plan.name)))
        self._following.begin_anew()

    def _give(self, bytes_max: int) -> bytes:
        if self._is_overrun:
            self._begin_anew()
        pieces: list[bytes] = []
        room = bytes_max
        while self._queue and (room > 0 or not pieces):
            raw = self._queue.popleft()
            self._queue_bytes -= len(raw)
            room -= len(raw)
            pieces.append(raw)
            message = parse(raw)
            if message.kind in _DATA:
                self._last[message.stream] = message.id_last
        return b"".join(pieces)

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "role": "subscriber",
            "pid": os.getpid(),
            "queue_bytes": self._queue_bytes,
            "overruns": self._overruns,
            "up": self._following.up(),
            "problems": self._following.problems(),
        }

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._following.receive_batch(dedup, data)

    def take(self, bytes_max: int) -> bytes:
        """Give the next messages, about `bytes_max` of them; empty if there are none now."""
        return bytes(self._following.thread.call(self._give, bytes_max))

    def set_dedups(self, names: list[str]) -> None:
        """Follow these dedups and no others."""
        self._following.thread.post(self._following.follow, names)

    def status(self) -> dict[str, Any]:
        """Give the state of the queue and the links."""
        return dict(self._following.thread.call(self._status))
