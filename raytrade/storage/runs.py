"""The order of a recorded stream: which rows of which segments, each message once, and where it has holes.

A *run* is what one start of a recorder wrote of a stream; its `index` is the order. Runs follow each other by time.
Where two overlap, the later one gives only what the earlier one has not: by id where ids are global, by trade id,
else it takes over at its last snapshot before the earlier one's end. Where a run does not provably go on from the one
before it, a `Gap` stands between them: nobody knows what happened in the meantime.

The *time* of a message in its stream is its `ts_recv_ns`, or that of an earlier message of the stream if that is
later: a message that was held back happens when it was given out, and a stream never steps back in time.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.arbitration import Rule
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag, Gap, GapKind, Resynced, Stalled
from raytrade.errors import ConfigError
from raytrade.rules import rule_of
from raytrade.storage.segments import Group, Segment, read_rows

LEAP_NS: Nanos = 3600 * SECOND
"""A segment that lies further back in time than this is of another recording, whatever its index."""
RESET_NS: Nanos = SECOND
"""By how much a known id must be later than all before to count as one of restarted ids."""
INDEX_MAX = 2**63 - 1

Note = Gap | Stalled | Resynced
"""What stands between messages."""

Piece = tuple[Segment, list[int]]
"""Row groups of one segment, by number."""


class Unit(msgspec.Struct, kw_only=True):
    """Row groups whose messages are read together: they interleave, or share a message. Bounds are inside."""

    pieces: list[Piece]
    index_first: int
    index_last: int
    ts_first_ns: Nanos
    ts_last_ns: Nanos
    id_first: int
    id_last: int
    has_epochs: bool
    has_snapshot: bool
    rows: int


class Run(msgspec.Struct, kw_only=True):
    """One start of a recorder; only the indexes from `index_from` up to `index_to` (inside) are taken.

    `opening` is a gap before the first message; `gaps` (and stalls, and their ends) stand behind the message with the
    index beside them.
    """

    start: str
    units: list[Unit]
    index_from: int = 0
    index_to: int = INDEX_MAX
    opening: Note | None = None
    gaps: list[tuple[int, Note]] = []
    is_continued: bool = False
    """The next run provably goes on behind `index_to`: a gap that once stood there has been filled."""

    @property
    def taken(self) -> list[Unit]:
        """The units of which something is taken."""
        return [u for u in self.units if u.index_last >= self.index_from and u.index_first <= self.index_to]

    @property
    def ts_first_ns(self) -> Nanos:
        """The earliest receive time of all it holds."""
        return min(unit.ts_first_ns for unit in self.units)

    @property
    def ts_last_ns(self) -> Nanos:
        """The latest receive time of what is taken."""
        return max((unit.ts_last_ns for unit in self.taken), default=self.ts_first_ns)


class Heads(msgspec.Struct):
    """What stands at the head of each message of some units: one entry per message, in the order of the stream."""

    index: np.ndarray
    ids: np.ndarray
    id_prev: np.ndarray
    epoch: np.ndarray
    ts_recv_ns: np.ndarray
    is_snapshot: np.ndarray
    is_applied: np.ndarray
    flags: np.ndarray


def runs_of(segments: list[Segment]) -> list[Run]:
    """Put the segments of one stream into runs, in the order of time; overlaps are not looked at yet."""
    by_start: dict[str, list[tuple[Segment, Group]]] = {}
    for segment in sorted(segments, key=lambda segment: segment.path):
        by_start.setdefault(segment.start, []).extend((segment, group) for group in segment.groups)
    runs = [
        Run(start=start, units=units)
        for start, groups in by_start.items()
        for units in _split_at_leaps(_units_of(groups))
    ]
    return sorted(runs, key=lambda run: (run.ts_first_ns, run.units[0].index_first, run.start))


def _units_of(groups: list[tuple[Segment, Group]]) -> list[Unit]:
    units: list[Unit] = []
    for segment, group in sorted(groups, key=lambda pair: (pair[1].index_first, pair[1].index_last)):
        if units and group.index_first <= units[-1].index_last:
            _join(units[-1], segment, group)
        else:
            units.append(_unit(segment, group))
    return units


def _unit(segment: Segment, group: Group) -> Unit:
    bounds = {name: getattr(group, name) for name in Unit.__struct_fields__ if name != "pieces"}
    return Unit(pieces=[(segment, [group.number])], **bounds)


def _join(unit: Unit, segment: Segment, group: Group) -> None:
    for known, numbers in unit.pieces:
        if known is segment:
            numbers.append(group.number)
            break
    else:
        unit.pieces.append((segment, [group.number]))
    unit.index_last = max(unit.index_last, group.index_last)
    unit.ts_first_ns = min(unit.ts_first_ns, group.ts_first_ns)
    unit.ts_last_ns = max(unit.ts_last_ns, group.ts_last_ns)
    unit.id_first, unit.id_last = min(unit.id_first, group.id_first), max(unit.id_last, group.id_last)
    unit.has_epochs |= group.has_epochs
    unit.has_snapshot |= group.has_snapshot
    unit.rows += group.rows


def _split_at_leaps(units: list[Unit]) -> Iterator[list[Unit]]:
    """Part what one start wrote of several recordings, which need not have come in the order of their times."""
    started, latest_ns = 0, units[0].ts_last_ns
    for at, unit in enumerate(units):
        if unit.ts_last_ns < latest_ns - LEAP_NS:
            yield units[started:at]
            started, latest_ns = at, unit.ts_last_ns
        latest_ns = max(latest_ns, unit.ts_last_ns)
    yield units[started:]


# What stands at the head of messages.


def heads_of(units: list[Unit]) -> Heads:
    """Read the ids and times of every message of some units.

    Raises:
        StorageError: a segment cannot be read.
    """
    channel = units[0].pieces[0][0].channel
    tables = [_head_rows(unit, channel) for unit in units]
    table = pa.concat_tables(tables)
    columns = {name: table.column(name).to_numpy() for name in table.schema.names}
    flags, nothing = columns["flags"], np.zeros(table.num_rows, np.int64)
    if channel is Channel.TRADES:
        ids, id_prev, epoch, is_snapshot = columns["sequence"], nothing, nothing, nothing != 0
    else:
        ids, id_prev, epoch = columns["id_last"], columns["id_prev"], columns["epoch"]
        is_snapshot = columns["is_snapshot"]
    is_applied = flags & Flag.UNAPPLIED == 0
    return Heads(columns["index"], ids, id_prev, epoch, columns["ts_recv_ns"], is_snapshot, is_applied, flags)


def _head_rows(unit: Unit, channel: Channel) -> pa.Table:
    if channel is Channel.TRADES:
        columns = ["index", "ts_recv_ns", "sequence", "flags"]
        tables = [read_rows(segment, groups, columns) for segment, groups in unit.pieces]
    else:
        columns = ["index", "ts_recv_ns", "epoch", "id_prev", "id_last", "is_snapshot", "flags", "is_last"]
        whole = [read_rows(segment, groups, columns) for segment, groups in unit.pieces]
        tables = [table.filter(table.column("is_last")) for table in whole]
    table = pa.concat_tables(tables)
    return table if len(tables) == 1 else table.sort_by("index")


# Where runs overlap or do not meet.


def settle(instrument: str, channel: Channel, runs: list[Run]) -> list[Run]:
    """Take each message once, and put a gap where a run does not go on from the one before; gives what is left.

    Raises:
        StorageError: a segment cannot be read.
    """
    settled: list[Run] = []
    for run in runs:
        before = settled[-1] if settled else None
        if before is not None:
            _cut(before, run)
        if not run.taken:
            continue
        if before is not None and channel is Channel.BOOK:
            run.opening = opening_of(instrument, before, run)
        settled.append(run)
    return settled


def _cut(before: Run, run: Run) -> None:
    """Set `index_from` of the run (or `index_to` of the one before) so that nothing is there twice."""
    latest_ns = before.ts_last_ns
    known = max(unit.id_last for unit in before.taken)
    if has_global_ids(before) and has_global_ids(run):
        if min(unit.id_first for unit in run.units) > known:
            return
        if run.ts_first_ns <= latest_ns + RESET_NS:
            known = _last_id(before)
            heads = heads_of(run.units)
            _take_from(run, heads, (heads.ids > known) | (heads.ts_recv_ns > latest_ns + RESET_NS))
    elif run.ts_first_ns <= latest_ns:
        if run.units[0].pieces[0][0].channel is Channel.TRADES:
            _cut_trades(before, run)
        else:
            _take_over(before, run, latest_ns)


def has_global_ids(run: Run) -> bool:
    """Tell whether the ids of a run are the venue's own."""
    return all(not unit.has_epochs and unit.id_last > 0 for unit in run.units)


def _take_from(run: Run, heads: Heads, is_new: np.ndarray) -> None:
    run.index_from = int(heads.index[np.argmax(is_new)]) if is_new.any() else INDEX_MAX


def _last_id(run: Run) -> int:
    """Give the last id that moved the stream, in the order of the run: ids may have been restarted in it."""
    for unit in reversed(run.taken):
        heads = heads_of([unit])
        ids = heads.ids[heads.is_applied & (heads.index <= run.index_to)]
        if len(ids):
            return int(ids[-1])
    return 0


def _cut_trades(before: Run, run: Run) -> None:
    """Where trades are not numbered, what comes after the last one that is known is new."""
    known = pa.concat_tables([_trade_ids(unit) for unit in before.taken]).column("trade_id").combine_chunks()
    table = pa.concat_tables([_trade_ids(unit) for unit in run.units])
    is_known = pc.is_in(table.column("trade_id"), value_set=known).to_numpy()
    places = np.flatnonzero(is_known)
    if len(places):
        following = int(places[-1]) + 1
        is_all = following == table.num_rows
        run.index_from = INDEX_MAX if is_all else table.column("index")[following].as_py()


def _trade_ids(unit: Unit) -> pa.Table:
    table = pa.concat_tables([read_rows(segment, groups, ["index", "trade_id"]) for segment, groups in unit.pieces])
    return table.sort_by("index")


def _take_over(before: Run, run: Run, latest_ns: Nanos) -> None:
    """Without common ids nothing can be compared: go over where the later run has a whole book of its own."""
    if max(unit.ts_last_ns for unit in run.units) <= latest_ns:
        run.index_from = INDEX_MAX
        return
    heads = heads_of(run.units)
    times = np.maximum.accumulate(heads.ts_recv_ns)
    books = np.flatnonzero(heads.is_snapshot & heads.is_applied & (times <= latest_ns))
    if not len(books):
        _take_from(run, heads, times > latest_ns)
        return
    run.index_from = int(heads.index[books[-1]])
    earlier = heads_of(before.taken)
    is_overtaken = np.maximum.accumulate(earlier.ts_recv_ns) >= times[books[-1]]
    if is_overtaken.any():
        before.index_to = int(earlier.index[np.argmax(is_overtaken)]) - 1


def opening_of(instrument: str, before: Run, run: Run) -> Gap | None:
    """Give the gap between two runs of a book, None where the later one goes on from the earlier one."""
    first = heads_of(run.taken[:1])
    at = int(np.argmax(first.index >= run.index_from))
    id_prev, id_last = (_last_id(before) if before.taken else 0), int(first.ids[at])
    is_delta = bool(first.is_applied[at]) and not first.is_snapshot[at]
    is_comparable = is_delta and has_global_ids(before) and has_global_ids(run)
    if is_comparable and _follows(instrument, id_prev, int(first.id_prev[at])):
        return None
    return Gap(
        instrument=instrument,
        channel=Channel.BOOK,
        kind=GapKind.RESET,
        id_prev=id_prev,
        id_last=int(first.id_prev[at]) if is_delta and first.id_prev[at] > id_prev else id_last,
        cause="nothing was recorded in between",
        ts_recv_ns=before.ts_last_ns + 1,
    )


def _follows(instrument: str, position: int, id_prev: int) -> bool:
    if id_prev == position:
        return True
    try:
        return id_prev < position and rule_of(instrument, Channel.BOOK).rule is Rule.LOOSE
    except ConfigError:
        return False


# Where the recorded gaps stand.


def place_gaps(runs: list[Run], gaps: list[tuple[str, Gap]], left_out: set[str]) -> None:
    """Put each gap (beside the start that recorded it) behind the message it follows.

    A gap names the state before it: it stands behind the message that led there. The one a recorder writes when it
    starts again names a state of the run before: it opens its run. What names no known state goes by its time.
    Gaps of the starts `left_out`, of which nothing is taken, are left out too.

    Raises:
        StorageError: a segment cannot be read.
    """
    known: dict[int, Heads] = {}
    for start, gap in gaps:
        own = [run for run in runs if run.start == start]
        if own or (runs and start not in left_out):
            _place(runs, own or runs, gap, known)
    for run in runs:
        run.gaps = [pair for pair in run.gaps if not (run.is_continued and pair[0] == run.index_to)]
        run.gaps.sort(key=lambda pair: (pair[0], pair[1].ts_recv_ns))


def _place(runs: list[Run], own: list[Run], gap: Gap, known: dict[int, Heads]) -> None:
    """Put the gap behind its message; one of a part of a run that is not taken is left out."""
    places = [place for run in own for place in _places(run, gap, known)]
    if not places:
        _place_unknown(runs, own, gap)
        return
    earlier = [place for place in places if place[0] <= gap.ts_recv_ns]
    at = max if earlier else min
    time_ns, index, _ = at(earlier or places, key=lambda place: place[:2])
    for place in places:
        run = place[2]
        if place[:2] == (time_ns, index) and run.index_from <= index <= run.index_to:
            run.gaps = [*run.gaps, (index, gap)]
            return


def _places(run: Run, gap: Gap, known: dict[int, Heads]) -> Iterator[tuple[Nanos, int, Run]]:
    """Give time and index of the messages that led to the state the gap names."""
    for unit in run.units:
        if gap.id_prev and unit.id_first <= gap.id_prev <= unit.id_last:
            heads = known.get(id(unit))
            if heads is None:
                heads = known[id(unit)] = heads_of([unit])
            fits = heads.is_applied & (heads.ids == gap.id_prev) & (heads.epoch == gap.epoch)
            for ts_recv_ns, index in zip(heads.ts_recv_ns[fits].tolist(), heads.index[fits].tolist(), strict=True):
                yield ts_recv_ns, index, run


def _place_unknown(runs: list[Run], own: list[Run], gap: Gap) -> None:
    run = own[0]
    counts_epochs = any(unit.has_epochs for unit in run.units)
    if gap.id_prev and (run is not runs[0] or counts_epochs) and gap.kind is GapKind.RESET and not gap.epoch:
        run.opening = gap
        return
    run = next((run for run in reversed(own) if run.ts_first_ns <= gap.ts_recv_ns), run)
    units = [unit for unit in run.taken if unit.ts_first_ns <= gap.ts_recv_ns]
    if not units:
        run.opening = gap
        return
    heads = heads_of(units[-1:])
    earlier = heads.index[heads.ts_recv_ns <= gap.ts_recv_ns]
    run.gaps = [*run.gaps, (int(earlier.max()), gap)]
