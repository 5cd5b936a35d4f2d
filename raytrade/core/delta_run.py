"""`DeltaRun`: deltas of one book that follow on each other, as columns; `Part`: some of them, in a row.

What a recording gives where nothing but plain deltas comes for a while: no gap, no snapshot, no flag that means
anything, one epoch, one scale. A replay hands such a run over at once instead of an object per delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, SupportsInt

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta


class IntColumn(Protocol):
    """A column that is seldom looked at: a list, or an array of whatever library."""

    def __getitem__(self, at: int, /) -> SupportsInt:
        """Give an entry."""


class LevelColumn(Protocol):
    """The levels of one side of all deltas of a run."""

    def between(self, first: int, last: int) -> Sequence[int]:
        """Give the flat levels of the deltas from `first` to before `last`, in order.

        Of many deltas it may give each price once, with its last size: a book comes out the same.
        """

    def count(self, first: int, last: int) -> int:
        """Give how many levels those are."""

    def rescaled(self, price_factor: int, size_factor: int) -> LevelColumn:
        """Give the same with prices and sizes multiplied."""


class DeltaRun(msgspec.Struct, kw_only=True, gc=False):
    """One entry a delta in each column; `times` are those of the stream and never step back."""

    instrument: str
    times: list[Nanos]
    id_prev: IntColumn
    id_last: list[int]
    ts_venue_ns: list[Nanos]
    ts_recv_ns: list[Nanos]
    flags: IntColumn
    state_hash: IntColumn
    bids: LevelColumn
    asks: LevelColumn
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
            bids=tuple(self.bids.between(at, at + 1)),
            asks=tuple(self.asks.between(at, at + 1)),
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
        return self.bids.count(first, last) + self.asks.count(first, last)

    def rescaled(self, price_scale: int, size_scale: int) -> DeltaRun:
        """Give the same run in scales that are not coarser."""
        factors = 10 ** (price_scale - self.price_scale), 10 ** (size_scale - self.size_scale)
        if factors == (1, 1):
            return self
        bids, asks = self.bids.rescaled(*factors), self.asks.rescaled(*factors)
        return msgspec.structs.replace(self, bids=bids, asks=asks, price_scale=price_scale, size_scale=size_scale)


class Part(NamedTuple):
    """The deltas of a run from `first` to before `last`."""

    run: DeltaRun
    first: int
    last: int
