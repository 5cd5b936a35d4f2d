"""`Stream`: one recorded stream (instrument and channel) read in order, with a `Gap` wherever something is not there.

Rows are decoded in pieces of bounded size, so a stream of any length needs the memory of one piece. Gaps are those that
were recorded, those between runs (`raytrade.storage.runs`), and those of indexes that no segment holds: a segment that
was lost, or left out because it is damaged, must not leave a book that calls itself live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import dropwhile
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.core.clock import Nanos
from raytrade.core.delta_run import Part
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Gap, GapKind, Trade
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.errors import InvariantError, StorageError
from raytrade.replay import between
from raytrade.storage.decoding import COLUMNS, EVENTS, LINE, MESSAGES, trade_events
from raytrade.storage.run_decoding import RunBlock, book_runs
from raytrade.storage.runs import INDEX_MAX, Note, Piece, Run, Unit, heads_of
from raytrade.storage.schema import BOOK, TRADES
from raytrade.storage.segments import Segment, read_rows, stream_rows

ROWS_AT_ONCE = 8192
RUN_ROWS_MAX = 65_536
RUN_ROWS_OF_ALL = 2**20
"""Rows of all streams together that are decoded at once where runs are wanted: about 150 bytes each."""
_UNAPPLIED = int(Flag.UNAPPLIED)
TIME_MIN: Nanos = -(2**63 - 1)
TIME_MAX: Nanos = 2**63 - 1
SCHEMAS = {Channel.BOOK: BOOK, Channel.TRADES: TRADES}

Place = tuple[int, int]
"""Where a stream is entered: the run's number, and an index in it."""

Timed = tuple[Nanos, Message]
"""A message and its time in its stream."""

RecordedEvent = BookSnapshot | BookDelta | Trade | Note
TimedEvent = tuple[Nanos, RecordedEvent]
"""An event and its time in its stream."""

TimedItem = tuple[Nanos, RecordedEvent | Part]
"""An event, or deltas that follow on each other, and the time in the stream: of a part that of its first delta."""

Item = Any
"""A message, an event or a part of a run: what it is decides the form that a stream is asked for in; nothing in between
cares."""


class _Form(NamedTuple):
    """What a stream is given out as: how rows are decoded, how many at once, and how a gap or note is written."""

    decoders: Mapping[Channel, Callable[..., Iterator[Sequence[tuple[int, Item]]]]]
    note: Callable[[Note], Item]
    rows_at_once: int = ROWS_AT_ONCE


class Stream:
    """One stream of a recording; `runs` as `raytrade.storage.runs` has settled them."""

    def __init__(self, instrument: str, channel: Channel, runs: list[Run]) -> None:
        self.instrument = instrument
        self.channel = channel
        self.runs = runs

    # Messages.

    def messages(self, place: Place = (0, 0), floor_ns: Nanos = TIME_MIN) -> Iterator[Timed]:
        """Give the messages from a place on, each with its time; `floor_ns` is the time the stream has reached there.

        Raises:
            StorageError: a segment cannot be read.
        """
        return self._items(_MESSAGES, place, floor_ns)

    def events(self, place: Place = (0, 0), floor_ns: Nanos = TIME_MIN) -> Iterator[TimedEvent]:
        """Give the same as events, without making the bytes of messages: what plays back fast.

        Raises:
            StorageError: a segment cannot be read.
        """
        return self._items(_EVENTS, place, floor_ns)

    def items_since(self, start_ns: Nanos, streams: int = 1) -> Iterator[TimedItem]:
        """Give what `events_since` gives, plain deltas that follow on each other as parts of runs: fastest by far.

        `streams`: how many are read side by side; the more, the less of each is in memory.

        Raises:
            StorageError: a segment cannot be read.
        """
        form = _RUNS._replace(rows_at_once=max(ROWS_AT_ONCE, min(RUN_ROWS_MAX, RUN_ROWS_OF_ALL // streams)))
        return between(self._items(form, *self._enter(start_ns)), start_ns, TIME_MAX)

    def _items(self, form: _Form, place: Place, floor_ns: Nanos) -> Iterator[tuple[Nanos, Item]]:
        now_ns = floor_ns
        number, index_from = place
        for at, run in enumerate(self.runs[number:], start=number):
            is_entered = at == number and index_from > run.index_from
            index_from = index_from if is_entered else run.index_from
            walk = _Walk(self, form, run, now_ns, index_from, is_opened=not is_entered)
            yield from walk
            now_ns = walk.now_ns

    def since(self, start_ns: Nanos) -> Iterator[Timed]:
        """Give the messages whose time is `start_ns` or later, without reading the segments before.

        Raises:
            StorageError: a segment cannot be read.
        """
        return dropwhile(lambda timed: timed[0] < start_ns, self.messages(*self._enter(start_ns)))

    def events_since(self, start_ns: Nanos) -> Iterator[TimedEvent]:
        """Give the same as events.

        Raises:
            StorageError: a segment cannot be read.
        """
        return dropwhile(lambda timed: timed[0] < start_ns, self.events(*self._enter(start_ns)))

    def _enter(self, start_ns: Nanos) -> tuple[Place, Nanos]:
        """Give a place all before which is earlier than `start_ns`, and the time reached there."""
        units = list(self._units_until(start_ns))
        if not units:
            return (0, 0), TIME_MIN
        reached = [unit.ts_last_ns >= start_ns for _, unit, _ in units]
        # One unit earlier: a gap behind its last message may be later than the message.
        number, unit, floor_ns = units[max((reached.index(True) if any(reached) else len(units)) - 1, 0)]
        run = self.runs[number]
        is_first = unit is run.taken[0]
        return (number, 0 if is_first else max(unit.index_first, run.index_from)), floor_ns

    def snapshot_place(self, until_ns: Nanos) -> tuple[Place, Nanos]:
        """Give the place of the last whole book at or before `until_ns` (if there is none, the start), and its time.

        Raises:
            StorageError: a segment cannot be read.
        """
        for number, unit, floor_ns in reversed(list(self._units_until(until_ns))):
            run = self.runs[number]
            if not unit.has_snapshot:
                continue
            heads = heads_of([unit])
            times = np.maximum(np.maximum.accumulate(heads.ts_recv_ns), floor_ns)
            is_taken = (heads.index >= run.index_from) & (heads.index <= run.index_to)
            found = np.flatnonzero(heads.is_snapshot & heads.is_applied & is_taken & (times <= until_ns))
            if len(found):
                return (number, int(heads.index[found[-1]])), int(times[found[-1]])
        return (0, 0), TIME_MIN

    def _units_until(self, until_ns: Nanos) -> Iterator[tuple[int, Unit, Nanos]]:
        floor_ns = TIME_MIN
        for number, run in enumerate(self.runs):
            for unit in run.taken:
                if floor_ns > until_ns:
                    return
                yield number, unit, floor_ns
                floor_ns = max(floor_ns, unit.ts_last_ns)

    # Rows.

    def rows(self, start_ns: Nanos, end_ns: Nanos, *, use_threads: bool = True) -> pa.Table:
        """Give the rows with ``start_ns <= ts_recv_ns < end_ns`` in the order of the stream.

        Raises:
            StorageError: a segment cannot be read.
        """
        tables = [
            _rows_of(run, unit, start_ns, end_ns, use_threads)
            for run in self.runs
            for unit in run.taken
            if unit.ts_last_ns >= start_ns and unit.ts_first_ns < end_ns
        ]
        return pa.concat_tables([SCHEMAS[self.channel].empty_table(), *tables])


class _Walk:
    """One pass over a run: puts gaps between its messages and keeps the time."""

    def __init__(
        self, stream: Stream, form: _Form, run: Run, now_ns: Nanos, index_from: int, *, is_opened: bool
    ) -> None:
        self.now_ns = now_ns
        self._stream = stream
        self._form = form
        self._run = run
        self._index_from = index_from
        self._gaps = [(index, gap) for index, gap in run.gaps if index >= index_from]
        self._waiting: list[Note] = [run.opening] if is_opened and run.opening is not None else []
        self._expected: int | None = None
        self._applied: Item = None

    def __iter__(self) -> Iterator[tuple[Nanos, Item]]:
        first, last = self._index_from, self._run.index_to
        for unit in self._run.taken:
            if unit.index_last < first:
                continue
            for block in _blocks(self._stream, self._form, unit):
                index_first, index_last = _bounds(block)
                if index_first < first or index_last > last:
                    block = [numbered for numbered in block if first <= numbered[0] <= last]
                if block:
                    yield from self._block(block)
        for gap in self._waiting:
            self.now_ns = max(self.now_ns, gap.ts_recv_ns)
            yield self.now_ns, self._form.note(gap)

    def _block(self, block: Sequence[tuple[int, Item]]) -> Iterator[tuple[Nanos, Item]]:
        if isinstance(block, RunBlock) and not self._is_dense(block) and len(block) > 1:
            first, last = _bounds(block)
            for part in block.split([index for index, _ in self._gaps if first <= index <= last]):
                yield from self._block(part)
        elif self._is_dense(block):
            yield from self._dense(block)
        else:
            yield from self._sparse(block)

    def _is_dense(self, block: Sequence[tuple[int, Item]]) -> bool:
        """Tell whether a block goes on where the last one ended, with nothing to be put in between."""
        first, last = _bounds(block)
        is_next = self._expected is None or first == self._expected
        is_gap_free = not self._gaps or last < self._gaps[0][0]
        return is_next and last - first + 1 == len(block) and is_gap_free and not self._waiting

    def _sparse(self, block: Sequence[tuple[int, Item]]) -> Iterator[tuple[Nanos, Item]]:
        """Give a block message by message, with the gaps that belong between them."""
        now_ns, expected = self.now_ns, self._expected
        next_gap = self._gaps[0][0] if self._gaps else INDEX_MAX
        for index, message in block:
            time_ns = message.ts_recv_ns
            if time_ns < now_ns:
                time_ns = now_ns
            if index != expected or self._waiting:
                if expected is not None and index > expected:
                    self._waiting.append(self._hole(expected, index, now_ns, message))
                for gap in self._waiting:
                    now_ns = min(max(now_ns, gap.ts_recv_ns), time_ns)
                    yield now_ns, self._form.note(gap)
                self._waiting = []
            now_ns, expected = time_ns, index + 1
            if not message.flags & _UNAPPLIED:
                self._applied = message
            yield time_ns, message
            while index >= next_gap:
                self._waiting.append(self._gaps.pop(0)[1])
                next_gap = self._gaps[0][0] if self._gaps else INDEX_MAX
        self.now_ns, self._expected = now_ns, expected

    def _dense(self, block: Sequence[tuple[int, Item]]) -> Iterator[tuple[Nanos, Item]]:
        """Give a block that goes on where the last one ended and has no gap in it."""
        if isinstance(block, RunBlock):
            times = block.times(self.now_ns)
            yield from block.items(times)
            self._applied = block.last_applied() or self._applied
            self.now_ns, self._expected = int(times[-1]), block.index_last + 1
            return
        now_ns = self.now_ns
        for _, message in block:
            if message.ts_recv_ns > now_ns:
                now_ns = message.ts_recv_ns
            yield now_ns, message
        applied = (message for _, message in reversed(block) if not message.flags & _UNAPPLIED)
        self._applied = next(applied, self._applied)
        self.now_ns, self._expected = now_ns, block[-1][0] + 1

    def _hole(self, expected: int, index: int, now_ns: Nanos, message: Item) -> Gap:
        id_prev, _, epoch = _ids(message)
        position = 0 if self._applied is None else _ids(self._applied)[1]
        return Gap(
            instrument=self._stream.instrument,
            channel=self._stream.channel,
            kind=GapKind.RESET,
            id_prev=position,
            id_last=id_prev if id_prev > position else 0,
            cause=f"messages {expected} to {index - 1} are not in the files",
            ts_recv_ns=now_ns + 1,
            epoch=epoch,
        )


def _bounds(block: Sequence[tuple[int, Item]]) -> tuple[int, int]:
    """Give the first and the last index of a block."""
    return (block.index_first, block.index_last) if isinstance(block, RunBlock) else (block[0][0], block[-1][0])


def _ids(item: Message | RecordedEvent) -> tuple[int, int, int]:
    """Give where an item begins (0: a whole book), where it ends, and the epoch."""
    match item:
        case Trade():
            return max(item.sequence - 1, 0), item.sequence, 0
        case BookSnapshot():
            return 0, item.id_last, item.epoch
        case Message(kind=Kind.SNAPSHOT):
            return 0, item.id_last, item.epoch
        case BookDelta() | Message():
            return item.id_prev, item.id_last, item.epoch
        case _:
            raise InvariantError(f"{item!r} stands among the messages of a stream")


def _message(note: Note) -> Message:
    return parse(encode(note, LINE))


def _event(note: Note) -> RecordedEvent:
    return note


_MESSAGES = _Form(MESSAGES, _message)
_EVENTS = _Form(EVENTS, _event)
_RUNS = _Form({Channel.BOOK: book_runs, Channel.TRADES: trade_events}, _event)


def _blocks(stream: Stream, form: _Form, unit: Unit) -> Iterator[Sequence[tuple[int, Item]]]:
    if len(unit.pieces) == 1:
        yield from _piece(stream, form, unit.pieces[0])
    else:
        singles = [_singles(stream, form, piece) for piece in unit.pieces]
        for numbered in merge(*singles, key=lambda numbered: numbered[0]):
            yield [numbered]


def _piece(stream: Stream, form: _Form, piece: Piece) -> Iterator[Sequence[tuple[int, Item]]]:
    segment, groups = piece
    batches = stream_rows(segment, groups, COLUMNS[segment.channel], form.rows_at_once)
    try:
        yield from form.decoders[segment.channel](stream.instrument, batches, str(segment.path))
    except (ValueError, IndexError, OverflowError) as error:
        raise StorageError(str(segment.path), f"is damaged: {' '.join(str(error).split())}") from None


def check_messages(segment: Segment) -> None:
    """Decode a segment and throw the messages away.

    Raises:
        StorageError: it is damaged.
    """
    stream = Stream("", segment.channel, [])
    for _ in _piece(stream, _EVENTS, (segment, [group.number for group in segment.groups])):
        pass


def _singles(stream: Stream, form: _Form, piece: Piece) -> Iterator[tuple[int, Item]]:
    for block in _piece(stream, form, piece):
        yield from block


def _rows_of(run: Run, unit: Unit, start_ns: Nanos, end_ns: Nanos, use_threads: bool) -> pa.Table:
    tables = [read_rows(segment, groups, use_threads=use_threads) for segment, groups in unit.pieces]
    table = pa.concat_tables(tables)
    if len(tables) > 1:
        table = table.take(pc.sort_indices(table, sort_keys=[("index", "ascending")]))
    masks = []
    for column, first, last, low, high in (
        ("index", unit.index_first, unit.index_last, run.index_from, run.index_to),
        ("ts_recv_ns", unit.ts_first_ns, unit.ts_last_ns, start_ns, end_ns - 1),
    ):
        if first < low:
            masks.append(pc.greater_equal(table.column(column), low))
        if last > high:
            masks.append(pc.less_equal(table.column(column), high))
    for mask in masks[1:]:
        masks[0] = pc.and_(masks[0], mask)
    return table.filter(masks[0]) if masks else table
