"""What a recording holds of each stream and day, counted from its rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.core.events import Channel
from raytrade.storage.merging import is_fill
from raytrade.storage.runs import Run
from raytrade.storage.segments import Segment, read_rows
from raytrade.storage.source import Stream

_RANGE = pa.struct([("first", pa.int64()), ("last", pa.int64())])
COVERAGE = pa.schema(
    [
        ("instrument", pa.string()),
        ("channel", pa.string()),
        ("date", pa.string()),
        ("first_id", pa.int64()),
        ("last_id", pa.int64()),
        ("messages", pa.int64()),
        ("rows", pa.int64()),
        ("missing", pa.list_(_RANGE)),
    ]
)
"""One row per instrument, channel and date (by the venue's time). `missing`: ranges of the index, both ends inside."""


class _Day:
    """One day of a stream."""

    def __init__(self) -> None:
        self.messages = 0
        self.rows = 0
        self.first: tuple[int, int, int] | None = None
        self.last: tuple[int, int, int] = (-1, -1, 0)
        self.missing: list[dict[str, int]] = []

    def count(self, number: int, indexes: np.ndarray, ids: np.ndarray, rows: int) -> None:
        """Take in messages of the run `number`, in the order of their index."""
        self.messages += len(indexes)
        self.rows += rows
        first, last = (number, int(indexes[0]), int(ids[0])), (number, int(indexes[-1]), int(ids[-1]))
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)


def coverage_of(streams: list[Stream]) -> pa.Table:
    """Count all streams.

    Raises:
        StorageError: a segment cannot be read.
    """
    rows = [row for stream in streams for row in _coverage(stream)]
    return pa.Table.from_pylist(rows, COVERAGE)


def _coverage(stream: Stream) -> list[dict[str, object]]:
    days: dict[str, _Day] = {}
    numbered_to = -1
    for number, run in enumerate(stream.runs):
        found = [_count(stream.channel, number, run, *piece, days) for unit in run.taken for piece in unit.pieces]
        starts = [part for part in found if part is not None]
        known = np.concatenate([indexes for indexes, _ in starts]) if starts else np.zeros(0, np.int64)
        parts = [np.full(len(indexes), at) for at, (indexes, _) in enumerate(starts)]
        places = np.concatenate(parts) if parts else known
        order = np.argsort(known)
        first = run.units[0].index_first
        expected = numbered_to + 1 if first > numbered_to else 0
        if not is_fill(run.start):
            numbered_to = max(numbered_to, run.units[-1].index_last)
        if run.index_from > first or is_fill(run.start):
            expected = max(run.index_from, first)
        _note_missing(known[order], places[order], expected, [days[date] for _, date in starts])
    return [_row(stream, date, day) for date, day in sorted(days.items()) if day.first is not None]


def _count(
    channel: Channel, number: int, run: Run, segment: Segment, groups: list[int], days: dict[str, _Day]
) -> tuple[np.ndarray, str] | None:
    """Count the messages of some row groups; gives their indexes and the date they belong to."""
    is_book = channel is Channel.BOOK
    columns = ["index", "id_last", "is_last"] if is_book else ["index", "sequence"]
    table = read_rows(segment, groups, columns)
    index = table.column("index")
    is_taken = pc.and_(pc.greater_equal(index, run.index_from), pc.less_equal(index, run.index_to))
    table = table.filter(is_taken)
    rows = table.num_rows
    if is_book:
        table = table.filter(table.column("is_last"))
    if not table.num_rows:
        return None
    date = segment.path.parent.name.partition("=")[2]
    indexes = table.column("index").to_numpy()
    days.setdefault(date, _Day()).count(number, indexes, table.column(columns[1]).to_numpy(), rows)
    return indexes, date


def _note_missing(known: np.ndarray, places: np.ndarray, expected: int, days: list[_Day]) -> None:
    """Note the holes in the index, each on the day of the message after it."""
    if not len(known):
        return
    before = np.concatenate(([expected - 1], known[:-1]))
    for at in np.flatnonzero(known - before > 1).tolist():
        days[int(places[at])].missing.append({"first": int(before[at]) + 1, "last": int(known[at]) - 1})


def _row(stream: Stream, date: str, day: _Day) -> dict[str, object]:
    assert day.first is not None
    return {
        "instrument": stream.instrument,
        "channel": stream.channel.name.lower(),
        "date": date,
        "first_id": day.first[2],
        "last_id": day.last[2],
        "messages": day.messages,
        "rows": day.rows,
        "missing": day.missing,
    }
