"""Runs that overlap, merged message by message: where ids (or trade ids) tell what is the same.

Two recorders of one pipeline, or a recording and what was filled into it from another, hold the same stream with
different holes. A *stretch* is a part of a run without a break: it leads from one state of the stream to another. The
merged stream goes along a stretch as far as it leads, then on with any other that covers what comes next; only where
none does is there a hole.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raytrade.arbitration import Rule
from raytrade.core.events import Channel, Flag
from raytrade.storage.breaks import CHAINED, rule_or_none
from raytrade.storage.runs import (
    INDEX_MAX,
    RESET_NS,
    Heads,
    Run,
    Unit,
    has_global_ids,
    heads_of,
    opening_of,
    settle,
)
from raytrade.storage.segments import read_rows

FILL = "fill-"
"""What the name of a start begins with that did not record but was filled in from another recording."""

_NOT_APPLIED = Flag.UNAPPLIED | Flag.HISTORY


class Chained(NamedTuple):
    """The messages of a run that move the stream, in order; of trades `id_prev` is one less than the id."""

    indexes: np.ndarray
    id_prev: np.ndarray
    id_last: np.ndarray
    is_snapshot: np.ndarray


class Stretch(NamedTuple):
    """A part of a run (messages `first` to `last`, by their place) that leads from state `start` to state `end`."""

    run: int
    first: int
    last: int
    start: int
    end: int


def put_together(instrument: str, channel: Channel, runs: list[Run]) -> list[Run]:
    """Take each message of overlapping runs once, with a gap wherever one does not go on from the one before.

    Raises:
        StorageError: a segment cannot be read.
    """
    merged: list[Run] | None = None
    rule = rule_or_none(instrument, channel)
    if rule is not None and rule in CHAINED and _overlap(runs):
        merged = merge_chained(rule, channel, runs)
    elif rule is Rule.TRADE and any(is_fill(run.start) for run in runs):
        merged = merge_trades(runs)
    if merged is None:
        return settle(instrument, channel, runs)
    if channel is Channel.BOOK:
        for before, run in pairwise(merged):
            run.opening = None if before.is_continued else opening_of(instrument, before, run)
    return merged


def _overlap(runs: list[Run]) -> bool:
    """Tell whether runs hold the same ids at the same time; ids that were restarted are other ids."""
    if len(runs) < 2 or not all(has_global_ids(run) for run in runs):
        return False
    spans = sorted(
        (min(u.id_first for u in run.units), max(u.id_last for u in run.units), run.ts_first_ns, run.ts_last_ns)
        for run in runs
    )
    found = False
    known = spans[0]
    for span in spans[1:]:
        if span[0] < known[1]:
            if span[2] > known[3] + RESET_NS or known[2] > span[3] + RESET_NS:
                return False
            found = True
        known = (known[0], max(known[1], span[1]), min(known[2], span[2]), max(known[3], span[3]))
    return found


def is_fill(start: str) -> bool:
    """Tell whether a start only filled in what another recording had."""
    return start.startswith(FILL)


def chained_of(channel: Channel, heads: Heads) -> Chained:
    """Take from the heads of messages those that move the stream."""
    there = (heads.flags & _NOT_APPLIED == 0) & (heads.ids > 0)
    ids = heads.ids[there]
    id_prev = ids - 1 if channel is Channel.TRADES else heads.id_prev[there]
    return Chained(heads.index[there], id_prev, ids, heads.is_snapshot[there])


def stretches_of(rule: Rule, number: int, messages: Chained) -> list[Stretch] | None:
    """Cut a run where its ids break; None if they run backwards, so that an id says nothing."""
    ids, is_snapshot = messages.id_last, messages.is_snapshot
    if not len(ids):
        return []
    if (np.diff(ids) < 0).any():
        return None
    prev = np.where(is_snapshot, ids, messages.id_prev)
    before = np.concatenate(([-1], ids[:-1]))
    is_break = prev > before
    if rule is Rule.STRICT:
        is_break |= ~is_snapshot & (prev != before)
    is_break[0] = True
    firsts = np.flatnonzero(is_break)
    lasts = np.concatenate((firsts[1:] - 1, [len(ids) - 1]))
    return [
        Stretch(number, first, last, int(prev[first]), int(ids[last]))
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]


def merge_chained(rule: Rule, channel: Channel, runs: list[Run]) -> list[Run] | None:
    """Give the merged stream as slices of the runs, or None if the ids do not allow it.

    Raises:
        StorageError: a segment cannot be read.
    """
    messages = [chained_of(channel, heads_of(run.units)) for run in runs]
    stretches: list[Stretch] = []
    for number, part in enumerate(messages):
        found = stretches_of(rule, number, part)
        if found is None:
            return None
        stretches += found
    slices: list[Run] = []
    for stretch, first, is_joined in _path(rule, stretches, messages):
        run, part = runs[stretch.run], messages[stretch.run]
        index_from, index_to = int(part.indexes[first]), int(part.indexes[stretch.last])
        before = slices[-1] if slices else None
        if before is not None and before.start == run.start and before.units is run.units and not is_joined:
            before.index_to = index_to
            continue
        if before is not None:
            before.is_continued = is_joined
        slices.append(Run(start=run.start, units=run.units, index_from=index_from, index_to=index_to))
    _open_ends(runs, slices)
    return slices


def _open_ends(runs: list[Run], slices: list[Run]) -> None:
    """What stands before the first and behind the last message that moves the stream is taken too."""
    if slices and slices[0].start == runs[0].start and slices[0].units is runs[0].units:
        slices[0].index_from = 0
    if slices:
        slices[-1].index_to = INDEX_MAX


def _path(rule: Rule, stretches: list[Stretch], messages: list[Chained]) -> list[tuple[Stretch, int, bool]]:
    """Give which stretches to go along, each from which message on, and whether it joins the one before."""
    left = sorted(stretches, key=lambda part: (part.start, -part.end, part.run))
    path: list[tuple[Stretch, int, bool]] = []
    position = -1
    while left:
        left = [part for part in left if part.end > position or (position < 0)]
        if not left:
            break
        joining = []
        for part in left:
            if position < 0 or part.start > position:
                break
            at = _place_after(rule, part, messages[part.run], position)
            if at is not None:
                joining.append((part, at))
        if joining:
            chosen, at = max(joining, key=lambda pair: (pair[0].end, -pair[0].run))
            path.append((chosen, at, True))
        else:
            ahead = [part for part in left if part.start > position]
            if not ahead:
                break
            chosen = ahead[0]
            path.append((chosen, chosen.first, False))
        position = chosen.end
        left.remove(chosen)
    return path


def _place_after(rule: Rule, part: Stretch, messages: Chained, position: int) -> int | None:
    """Give the first message of a stretch beyond a state, None if it does not follow on from it."""
    ids = messages.id_last[part.first : part.last + 1]
    at = part.first + int(np.searchsorted(ids, position, side="right"))
    if at > part.last:
        return None
    if messages.is_snapshot[at]:
        return None
    if at > part.first and messages.is_snapshot[at - 1] and int(ids[at - 1 - part.first]) == position:
        return at - 1  # a whole book on the way: readers begin there
    prev = int(messages.id_prev[at])
    follows = prev == position if rule is Rule.STRICT else prev <= position
    return at if follows else None


# Trades whose ids have holes.


def merge_trades(runs: list[Run]) -> list[Run]:
    """Give trades in the order of their times, each id once, as slices of the runs.

    Raises:
        StorageError: a segment cannot be read.
    """
    columns = [_trades_of(run.units) for run in runs]
    number = np.concatenate([np.full(len(index), at) for at, (index, _, _) in enumerate(columns)])
    index, times, ids = (np.concatenate([part[place] for part in columns]) for place in range(3))
    _, first = np.unique(ids, return_index=True)
    is_first = np.zeros(len(ids), bool)
    is_first[first] = True
    order = np.argsort(times, kind="stable")
    order = order[is_first[order]]
    slices: list[Run] = []
    for at in order.tolist():
        run, place = runs[int(number[at])], int(index[at])
        before = slices[-1] if slices else None
        if (
            before is not None
            and before.start == run.start
            and before.units is run.units
            and before.index_to == place - 1
        ):
            before.index_to = place
        else:
            slices.append(Run(start=run.start, units=run.units, index_from=place, index_to=place))
    return slices


def _trades_of(units: list[Unit]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give index, time and id of each trade of a run; times never step back."""
    pieces = [piece for unit in units for piece in unit.pieces]
    columns = ["index", "ts_recv_ns", "trade_id"]
    table = pa.concat_tables([read_rows(*piece, columns) for piece in pieces]).sort_by("index")
    times = np.maximum.accumulate(table.column("ts_recv_ns").to_numpy())
    return table.column("index").to_numpy(), times, table.column("trade_id").to_numpy()
