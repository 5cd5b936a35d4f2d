"""A venue of the simulation alone: every message is the whole book (class newest)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookSnapshot, Channel
from raytrade.venues.protocol import Identifier, Subscription, VenueMachine

NEWEST_VENUE = "sim-newest"

Pairs = list[tuple[str, str]]


class Frame(msgspec.Struct):
    """The whole book."""

    symbol: str
    id: Identifier
    ts: Identifier
    bids: Pairs
    asks: Pairs


_frames = msgspec.json.Decoder(Frame)


class NewestMachine(VenueMachine):
    """A line to that venue."""

    silence_ns_max: ClassVar[Nanos] = 10 * SECOND

    def _subscribe(self) -> list[str]:
        wanted: tuple[Subscription, ...] = self.endpoint.subscriptions
        return [f"subscribe {subscription.symbol}" for subscription in wanted if Channel.BOOK in subscription.channels]

    def request_snapshot(self, symbol: str, now_ns: Nanos) -> None:
        """The next message is one."""

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        book = _frames.decode(frame)
        quantizer = self._quantizer(book.symbol)
        bids, asks = quantizer.levels(book.bids, book.asks)
        self._served(book.symbol)
        self._counts(book.symbol).snapshots += 1
        self._events.append(
            BookSnapshot(
                instrument=self._instrument(book.symbol),
                id_last=book.id,
                bids=bids,
                asks=asks,
                price_scale=quantizer.prices.scale,
                size_scale=quantizer.sizes.scale,
                ts_venue_ns=book.ts,
                ts_recv_ns=ts_recv_ns,
            )
        )
