"""`DeltaRun`: deltas of one book that follow on each other, as columns; `Part`: some of them, in a row.

What a recording gives where nothing but plain deltas comes for a while: no gap, no snapshot, no flag that means
anything, one epoch, one scale. A replay hands such a run over at once instead of an object per delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta
from raytrade.core.prices import rescale


class DeltaRun(msgspec.Struct, kw_only=True, gc=False):
    """One entry a delta in each column, and the levels of all deltas one behind the other.

    `times` are those of the stream and never step back. Delta ``at`` has ``bids[bid_ends[at]:bid_ends[at + 1]]``, flat
    as in `raytrade.core.events`, and asks likewise.
    """

    instrument: str
    times: list[Nanos]
    id_prev: Sequence[int]
    id_last: list[int]
    ts_venue_ns: list[Nanos]
    ts_recv_ns: list[Nanos]
    flags: Sequence[int]
    state_hash: Sequence[int]
    bids: list[int]
    bid_ends: list[int]
    asks: list[int]
    ask_ends: list[int]
    price_scale: int
    size_scale: int
    epoch: int

    def __len__(self) -> int:
        return len(self.times)

    def event(self, at: int) -> BookDelta:
        """Give one delta as an event."""
        return BookDelta(
            instrument=self.instrument,
            id_prev=int(self.id_prev[at]),
            id_last=self.id_last[at],
            bids=tuple(self.bids[self.bid_ends[at] : self.bid_ends[at + 1]]),
            asks=tuple(self.asks[self.ask_ends[at] : self.ask_ends[at + 1]]),
            price_scale=self.price_scale,
            size_scale=self.size_scale,
            ts_venue_ns=self.ts_venue_ns[at],
            ts_recv_ns=self.ts_recv_ns[at],
            epoch=self.epoch,
            state_hash=int(self.state_hash[at]),
            flags=int(self.flags[at]),
        )

    def level_count(self, first: int, last: int) -> int:
        """Give how many levels the deltas from `first` to before `last` list."""
        bids, asks = self.bid_ends, self.ask_ends
        return (bids[last] - bids[first] + asks[last] - asks[first]) // 2

    def rescaled(self, price_scale: int, size_scale: int) -> DeltaRun:
        """Give the same run in scales that are not coarser."""
        factors = 10 ** (price_scale - self.price_scale), 10 ** (size_scale - self.size_scale)
        if factors == (1, 1):
            return self
        bids, asks = (list(rescale(tuple(levels), *factors)) for levels in (self.bids, self.asks))
        return msgspec.structs.replace(self, bids=bids, asks=asks, price_scale=price_scale, size_scale=size_scale)


class Part(NamedTuple):
    """The deltas of a run from `first` to before `last`."""

    run: DeltaRun
    first: int
    last: int
