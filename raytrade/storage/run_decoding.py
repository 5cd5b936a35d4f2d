"""Rows of `BOOK` turned into runs of plain deltas and the events between them: the fastest way into a replay.

A run has no object per delta, and its levels lie in one list a side. Where a run must end: at what is no plain delta
(a snapshot, a flag that means something to a book, values beyond 64 bits), at another epoch, and where prices or sizes
are written finer than before. All runs of a block are in the scale that a book has by then, so that it can take them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

from raytrade.core.clock import Nanos
from raytrade.core.delta_run import DeltaRun, Part
from raytrade.core.events import BookDelta, BookSnapshot, Flag
from raytrade.storage.decoding import NumberedEvent, Parts, events_of, whole_messages

_MEANINGLESS = int(Flag.CHECKED)
_TENS = np.array([10**digits for digits in range(19)], np.int64)
_SAFE = 2.0**62


class RunBlock(Sequence[NumberedEvent]):
    """Messages of one piece of a file: as events, each with its index, or as runs."""

    def __init__(self, instrument: str, parts: Parts) -> None:
        self._instrument = instrument
        self._parts = parts
        self._indexes: np.ndarray = parts.first["index"]
        self._events: list[NumberedEvent] | None = None
        self.flags = parts.flags()

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, at: int) -> NumberedEvent: ...
    @overload
    def __getitem__(self, at: slice) -> list[NumberedEvent]: ...
    def __getitem__(self, at: int | slice) -> NumberedEvent | list[NumberedEvent]:
        """Give events; makes all of them."""
        if self._events is None:
            self._events = events_of(self._instrument, self._parts)
        return self._events[at]

    @property
    def index_first(self) -> int:
        """Index of the first message."""
        return int(self._indexes[0])

    @property
    def index_last(self) -> int:
        """Index of the last message."""
        return int(self._indexes[-1])

    def times(self, floor_ns: Nanos) -> np.ndarray:
        """Give the messages' times in a stream that has reached `floor_ns`."""
        return np.maximum(np.maximum.accumulate(self._parts.first["ts_recv_ns"]), floor_ns)

    def items(self, times: np.ndarray) -> Iterator[tuple[Nanos, Part | BookDelta | BookSnapshot]]:
        """Give runs, and the events between them, each with its time."""
        columns = _Columns(self._parts)
        is_plain = self._plain() & ~columns.is_too_fine
        cuts = np.flatnonzero(np.concatenate(([True], _breaks(self._parts, is_plain, columns)))).tolist()
        for first, last in zip(cuts, [*cuts[1:], len(self)], strict=True):
            if is_plain[first]:
                run = self._run(first, last, times, columns)
                yield run.times[0], Part(run, 0, last - first)
            else:
                for at in range(first, last):
                    yield int(times[at]), self[at][1]  # type: ignore[misc]

    def last_applied(self) -> BookDelta | None:
        """Give the ids of the last message that moved the book, as a delta without levels, if there is one."""
        applied = np.flatnonzero(self.flags & np.uint16(Flag.UNAPPLIED) == 0)
        if not len(applied):
            return None
        heads, at = self._parts.first, int(applied[-1])
        return BookDelta(
            instrument=self._instrument,
            id_prev=int(heads["id_prev"][at]),
            id_last=int(heads["id_last"][at]),
            bids=(),
            asks=(),
            price_scale=0,
            size_scale=0,
            epoch=int(heads["epoch"][at]),
        )

    def _plain(self) -> np.ndarray:
        parts = self._parts
        is_plain = ~parts.first["is_snapshot"].astype(bool) & ~parts.is_wide
        return is_plain & (self.flags & ~np.uint16(_MEANINGLESS) == 0)

    def _run(self, first: int, last: int, times: np.ndarray, columns: _Columns) -> DeltaRun:
        heads = self._parts.first
        bids, bid_ends = columns.side(1, first, last)
        asks, ask_ends = columns.side(2, first, last)
        return DeltaRun(
            instrument=self._instrument,
            times=times[first:last].tolist(),
            id_prev=heads["id_prev"][first:last],
            id_last=heads["id_last"][first:last].tolist(),
            ts_venue_ns=heads["ts_venue_ns"][first:last].tolist(),
            ts_recv_ns=heads["ts_recv_ns"][first:last].tolist(),
            flags=self.flags[first:last],
            state_hash=heads["checksum"][first:last] if "checksum" in heads else [0] * (last - first),
            bids=bids,
            bid_ends=bid_ends,
            asks=asks,
            ask_ends=ask_ends,
            price_scale=int(columns.price_scales[first]),
            size_scale=int(columns.size_scales[first]),
            epoch=int(heads["epoch"][first]),
        )


class _Columns:
    """The levels of a block by side, in the scale that a book has reached when they come."""

    def __init__(self, parts: Parts) -> None:
        own_price, own_size = parts.first["price_scale"], parts.first["size_scale"]
        self.price_scales = np.maximum.accumulate(own_price)
        self.size_scales = np.maximum.accumulate(own_size)
        levels = parts.levels
        counts = np.maximum(parts.level_counts, 1)
        self.is_too_fine = np.zeros(len(counts), bool)
        """Whether values of a message do not fit in that scale."""
        for at, lift in ((0, self.price_scales - own_price), (1, self.size_scales - own_size)):
            if lift.any():
                levels, factors = levels.copy(), _TENS[np.repeat(lift, counts)]
                is_beyond = np.abs(levels[:, at] * factors.astype(float)) >= _SAFE
                self.is_too_fine |= np.logical_or.reduceat(is_beyond, parts.starts)
                levels[:, at] *= factors
        side = parts.rows["side"]
        self._levels = {number: levels[side == number] for number in (1, 2)}
        self._ends = {
            number: np.concatenate(([0], np.cumsum(2 * count))) for number, count in ((1, parts.bids), (2, parts.asks))
        }

    def side(self, number: int, first: int, last: int) -> tuple[list[int], list[int]]:
        """Give the flat levels of one side of some messages, and where those of each end."""
        ends = self._ends[number][first : last + 1]
        start, end = int(ends[0]), int(ends[-1])
        return self._levels[number].ravel()[start:end].tolist(), (ends - start).tolist()


def _breaks(parts: Parts, is_plain: np.ndarray, columns: _Columns) -> np.ndarray:
    """Tell of each message but the first whether it cannot be in the run of the one before."""
    found = is_plain[1:] != is_plain[:-1]
    for values in (parts.first["epoch"], columns.price_scales, columns.size_scales):
        found = found | (values[1:] != values[:-1])
    return found


def book_runs(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[RunBlock]:
    """Give the messages of rows of `BOOK` in blocks that can be taken as runs; one may go over several batches.

    Raises:
        StorageError: the rows are not whole messages, or a value does not fit its scale.
    """
    return (RunBlock(instrument, Parts(rows, ends, path)) for rows, ends in whole_messages(batches, path))
