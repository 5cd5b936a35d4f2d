"""Rows of `BOOK` turned into runs of plain deltas and the events between them: the fastest way into a replay.

A run has no object per delta, and its levels lie in one list a side. Where a run must end: at what is no plain delta
(a snapshot, a flag that means something to a book, values beyond 64 bits), at another epoch, and where prices or sizes
are written finer than before. All runs of a block are in the scale that a book has by then, so that it can take them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
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
_MANY_DELTAS = 32
"""From so many deltas on, reducing them to the last size of each price takes less than lists of all levels."""


class RunBlock(Sequence[NumberedEvent]):
    """Messages of one piece of a file, those of `window`: as events, each with its index, or as runs."""

    def __init__(self, instrument: str, parts: Parts, columns: _Columns, window: tuple[int, int]) -> None:
        self._instrument = instrument
        self._parts = parts
        self._columns = columns
        self._window = window
        self._flags = parts.flags()

    def __len__(self) -> int:
        return self._window[1] - self._window[0]

    @overload
    def __getitem__(self, at: int) -> NumberedEvent: ...
    @overload
    def __getitem__(self, at: slice) -> list[NumberedEvent]: ...
    def __getitem__(self, at: int | slice) -> NumberedEvent | list[NumberedEvent]:
        """Give events; makes all of them."""
        return events_of(self._instrument, self._parts, *self._window)[at]

    def __iter__(self) -> Iterator[NumberedEvent]:
        return iter(events_of(self._instrument, self._parts, *self._window))

    @property
    def index_first(self) -> int:
        """Index of the first message."""
        return int(self._parts.first["index"][self._window[0]])

    @property
    def index_last(self) -> int:
        """Index of the last message."""
        return int(self._parts.first["index"][self._window[1] - 1])

    def split(self, indexes: Sequence[int]) -> Iterator[RunBlock]:
        """Cut where indexes are missing, behind each of some indexes, and behind the first message after any cut."""
        first, last = self._window
        own = self._parts.first["index"][first:last]
        cuts = {0, len(own), *(np.flatnonzero(np.diff(own) != 1) + 1).tolist()}
        cuts |= set(np.searchsorted(own, np.asarray(indexes, np.int64), side="right").tolist())
        cuts |= {cut + 1 for cut in cuts if cut < len(own)}
        for start, end in pairwise(sorted(cuts)):
            yield RunBlock(self._instrument, self._parts, self._columns, (first + start, first + end))

    def times(self, floor_ns: Nanos) -> np.ndarray:
        """Give the messages' times in a stream that has reached `floor_ns`."""
        return np.maximum(np.maximum.accumulate(self._parts.first["ts_recv_ns"][slice(*self._window)]), floor_ns)

    def items(self, times: np.ndarray) -> Iterator[tuple[Nanos, Part | BookDelta | BookSnapshot]]:
        """Give runs, and the events between them, each with its time."""
        begin, end = self._window
        columns = self._columns
        is_plain = self._plain() & ~columns.is_too_fine
        breaks = np.flatnonzero(_breaks(self._parts, is_plain, columns)[begin : end - 1]) + begin + 1
        cuts = [begin, *breaks.tolist(), end]
        for first, last in pairwise(cuts):
            if is_plain[first]:
                run = self._run(first, last, times[first - begin : last - begin].tolist(), columns)
                yield run.times[0], Part(run, 0, last - first)
            else:
                events = events_of(self._instrument, self._parts, first, last)
                for at, (_, event) in enumerate(events, start=first - begin):
                    yield int(times[at]), event  # type: ignore[misc]

    def last_applied(self) -> BookDelta | None:
        """Give the ids of the last message that moved the book, as a delta without levels, if there is one."""
        applied = np.flatnonzero(self._flags[slice(*self._window)] & np.uint16(Flag.UNAPPLIED) == 0)
        if not len(applied):
            return None
        heads, at = self._parts.first, int(applied[-1]) + self._window[0]
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
        is_plain: np.ndarray = ~parts.first["is_snapshot"].astype(bool) & ~parts.is_wide
        is_plain &= self._flags & ~np.uint16(_MEANINGLESS) == 0
        return is_plain

    def _run(self, first: int, last: int, times: list[Nanos], columns: _Columns) -> DeltaRun:
        heads = self._parts.first
        return DeltaRun(
            instrument=self._instrument,
            times=times,
            id_prev=heads["id_prev"][first:last],
            id_last=heads["id_last"][first:last].tolist(),
            ts_venue_ns=heads["ts_venue_ns"][first:last].tolist(),
            ts_recv_ns=heads["ts_recv_ns"][first:last].tolist(),
            flags=self._flags[first:last],
            state_hash=heads["checksum"][first:last] if "checksum" in heads else [0] * (last - first),
            bids=columns.side(1, first, last),
            asks=columns.side(2, first, last),
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
            number: np.concatenate(([0], np.cumsum(count))) for number, count in ((1, parts.bids), (2, parts.asks))
        }

    def side(self, number: int, first: int, last: int) -> LevelArray:
        """Give the levels of one side of some messages."""
        ends = self._ends[number][first : last + 1]
        return LevelArray(self._levels[number][int(ends[0]) : int(ends[-1])], ends - ends[0])


class LevelArray:
    """One side of a run, as `LevelColumn`: lists for readers of every delta, arrays for who reads seldom.

    `ends`: where the levels of each delta end, behind a zero.
    """

    __slots__ = ("_ends", "_flat", "_levels", "_places")

    def __init__(self, levels: np.ndarray, ends: np.ndarray) -> None:
        self._levels = levels
        self._ends = ends
        self._flat: list[int] | None = None
        self._places: list[int] = []

    def between(self, first: int, last: int) -> list[int]:
        """Give the flat levels of some deltas; of many deltas each price once."""
        flat = self._flat
        if flat is None:
            if last - first >= _MANY_DELTAS:
                return self._last_sizes(first, last)
            flat = self._flat = self._levels.ravel().tolist()
            self._places = (2 * self._ends).tolist()
        return flat[self._places[first] : self._places[last]]

    def _last_sizes(self, first: int, last: int) -> list[int]:
        latest = self._levels[self._ends[first] : self._ends[last]][::-1]
        _, places = np.unique(latest[:, 0], return_index=True)
        found: list[int] = latest[places].ravel().tolist()
        return found

    def count(self, first: int, last: int) -> int:
        """Give how many levels some deltas list."""
        return int(self._ends[last] - self._ends[first])

    def rescaled(self, price_factor: int, size_factor: int) -> LevelArray:
        """Give the same with prices and sizes multiplied.

        Raises:
            OverflowError: a value does not fit in 64 bits then.
        """
        factors = np.array([price_factor, size_factor], np.int64)
        if len(self._levels) and (np.abs(self._levels).max(axis=0) * factors.astype(float) >= _SAFE).any():
            raise OverflowError("levels beyond 64 bits")
        return LevelArray(self._levels * factors, self._ends)


def _breaks(parts: Parts, is_plain: np.ndarray, columns: _Columns) -> np.ndarray:
    """Tell of each message but the first whether it cannot be in the run of the one before."""
    found: np.ndarray = is_plain[1:] != is_plain[:-1]
    for values in (parts.first["epoch"], columns.price_scales, columns.size_scales):
        found |= values[1:] != values[:-1]
    return found


def book_runs(instrument: str, batches: Iterable[pa.RecordBatch], path: str) -> Iterator[RunBlock]:
    """Give the messages of rows of `BOOK` in blocks that can be taken as runs; one may go over several batches.

    Raises:
        StorageError: the rows are not whole messages, or a value does not fit its scale.
    """
    for rows, ends in whole_messages(batches, path):
        parts = Parts(rows, ends, path)
        yield RunBlock(instrument, parts, _Columns(parts), (0, len(ends)))
