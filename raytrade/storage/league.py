"""The league of the lines, from the table of arrivals: who was first, by how much, and what each line is worth.

Times are those of the arbiter's own host, so lines of different hosts are compared by one clock. For each message that
went out (a win) the log tells when every line had brought the same: where lines share ids, when the line's ids had
covered it, whatever windows its venue cut them into; else, when the same copy came. The logs of several replicas are
counted one by one and added up.

``League(without=LINE)`` asks the same log what would have been without one line: each of its wins then arrives
with the next line, or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel
from raytrade.core.instrument import Filter
from raytrade.errors import ConfigError
from raytrade.storage.arrivals import each_segment

SETTLED_NS: Nanos = 10 * SECOND
"""Copies of one message come within this time of each other; what is younger waits for the next piece of the log."""
ROWS_AT_ONCE = 1_000_000
NEVER = np.iinfo(np.int64).max

Key = tuple[str, str, str]
"""Line, instrument, channel."""


class Standing(msgspec.Struct):
    """What one line did for one stream.

    `messages` went out while the line was known. Of these it won `wins`, `healed` of which some other line never
    brought; it brought `brought` at all and `lost` not. `disagreements`: it gave other content under the same ids.
    `leads_ns`: its wins' leads over the runner-up.
    """

    messages: int = 0
    wins: int = 0
    brought: int = 0
    lost: int = 0
    healed: int = 0
    disagreements: int = 0
    reconnects: int = 0
    transit_ns: Nanos | None = None
    """Least time from receipt to arrival: the way between the hosts, and what their clocks differ by."""
    leads_ns: list[np.ndarray] = []

    def leads(self) -> np.ndarray:
        """Give all leads in ns."""
        return np.concatenate(self.leads_ns) if self.leads_ns else np.zeros(0, np.int64)


class Absence(msgspec.Struct):
    """What a stream would have lost without a line.

    `delays_ns`: by how much each of its wins would have come later. `lost`: what nobody else brought; `ranges`
    are the ids of these, as ``(after, up to]``, where there are ids.
    """

    messages: int = 0
    wins: int = 0
    lost: int = 0
    ranges: list[tuple[int, int]] = []
    delays_ns: list[np.ndarray] = []

    def delays(self) -> np.ndarray:
        """Give all delays in ns."""
        return np.concatenate(self.delays_ns) if self.delays_ns else np.zeros(0, np.int64)


class _Part(msgspec.Struct):
    """Rows of one stream in one replica's log, as columns."""

    line: np.ndarray
    id_prev: np.ndarray
    id_last: np.ndarray
    copy: np.ndarray
    content: np.ndarray
    scales: np.ndarray
    arrived: np.ndarray
    has_ids: np.ndarray
    is_snapshot: np.ndarray
    won: np.ndarray
    is_late: np.ndarray

    def taken(self, where: np.ndarray) -> _Part:
        return _Part(*(getattr(self, name)[where] for name in _Part.__struct_fields__))

    def joined(self, other: _Part) -> _Part:
        names = _Part.__struct_fields__
        return _Part(*(np.concatenate((getattr(self, name), getattr(other, name))) for name in names))


_COLUMNS = [
    "replica", "line", "instrument", "channel", "kind", "epoch", "id_prev", "id_last", "copy",
    "content", "scales", "ts_recv_ns", "ts_arrived_ns", "won", "is_late",
]  # fmt: skip


class League:
    """Counts a log, piece by piece; `finish` counts what still waited."""

    def __init__(self, without: str | None = None, wanted: Filter | None = None) -> None:
        self._wanted = wanted or Filter()
        self.standings: dict[Key, Standing] = {}
        self.absences: dict[tuple[str, str], Absence] = {}
        self.blocks_missing = 0
        self.rows = 0
        self._without = without
        self._lines: list[str] = []
        self._line_codes: dict[str, int] = {}
        self._waiting: dict[tuple[str, str, str], _Part] = {}
        self._known: dict[tuple[str, str, str], dict[int, list[Nanos]]] = {}
        self._downs: dict[tuple[str, str], int] = {}

    def lines(self) -> list[str]:
        """Give the names of all lines there are."""
        return sorted(self._lines)

    def add(self, table: pa.Table) -> None:
        """Take a piece of the log."""
        self.rows += table.num_rows
        columns = {name: _codes(table, name) for name in ("replica", "line", "instrument", "channel", "kind")}
        kinds = columns["kind"][1]
        self._note_lines(table, columns)
        line_codes = np.array([self._code(name) for name in columns["line"][1]], np.int64)[columns["line"][0]]
        is_data = np.isin(columns["kind"][0], [at for at, kind in enumerate(kinds) if kind in _DATA])
        streams = [columns[name][0].astype(np.int64) for name in ("replica", "instrument", "channel")]
        sizes = [max(1, len(columns[name][1])) for name in ("replica", "instrument", "channel")]
        keys = (streams[0] * sizes[1] + streams[1]) * sizes[2] + streams[2]
        is_snapshot = np.isin(columns["kind"][0], [at for at, kind in enumerate(kinds) if kind == "snapshot"])
        part = _part_of(table, line_codes, is_snapshot)
        for key in np.unique(keys[is_data]).tolist():
            rest, channel = divmod(key, sizes[2])
            replica, instrument = divmod(rest, sizes[1])
            names = [columns[name][1][at] for name, at in (("replica", replica), ("instrument", instrument))]
            stream = (names[0], names[1], columns["channel"][1][channel])
            if self._wanted.accepts(stream[1], Channel[stream[2].upper()]):
                is_own = is_data & (keys == key)
                self._take(stream, part.taken(is_own))
                self._note_transit(stream, table, line_codes, is_own)

    def _code(self, line: str) -> int:
        code = self._line_codes.get(line)
        if code is None:
            code = self._line_codes[line] = len(self._lines)
            self._lines.append(line)
        return code

    def _note_lines(self, table: pa.Table, columns: dict[str, tuple[np.ndarray, list[str]]]) -> None:
        """Count the connections lost; of several replicas the one that saw most."""
        codes, kinds = columns["kind"]
        wanted = [at for at, kind in enumerate(kinds) if kind in ("line_down", "missing")]
        for at in np.flatnonzero(np.isin(codes, wanted)).tolist():
            if kinds[codes[at]] == "missing":
                self.blocks_missing += table.column("id_last")[at].as_py()
                continue
            replica, line = (columns[name][1][columns[name][0][at]] for name in ("replica", "line"))
            self._downs[replica, line] = self._downs.get((replica, line), 0) + 1

    def _note_transit(
        self, stream: tuple[str, str, str], table: pa.Table, lines: np.ndarray, where: np.ndarray
    ) -> None:
        transit = table.column("ts_arrived_ns").to_numpy()[where] - table.column("ts_recv_ns").to_numpy()[where]
        late = table.column("is_late").to_numpy()[where]
        codes = lines[where]
        for code in np.unique(codes).tolist():
            own = transit[(codes == code) & ~late]
            if len(own):
                standing = self._standing(code, stream)
                least = int(own.min())
                known = standing.transit_ns
                standing.transit_ns = least if known is None else min(known, least)

    def _standing(self, line: int, stream: tuple[str, str, str]) -> Standing:
        return self.standings.setdefault((self._lines[line], *stream[1:]), Standing())

    def _take(self, stream: tuple[str, str, str], part: _Part) -> None:
        waiting = self._waiting.pop(stream, None)
        if waiting is not None:
            part = waiting.joined(part)
        settled = part.arrived <= part.arrived.max() - SETTLED_NS
        if settled.any():
            self._count(stream, part, part.arrived.max() - SETTLED_NS)
            # What is older by twice the time is not needed even for comparison.
            part = part.taken(part.arrived > part.arrived.max() - 2 * SETTLED_NS)
            part.won[part.arrived <= part.arrived.max() - SETTLED_NS] = False
        self._waiting[stream] = part

    def finish(self) -> None:
        """Count what still waits."""
        for stream, part in self._waiting.items():
            self._count(stream, part, NEVER)
        self._waiting.clear()
        for (line, _, _), standing in self.standings.items():
            standing.reconnects = max((n for (_, other), n in self._downs.items() if other == line), default=0)

    def _count(self, stream: tuple[str, str, str], part: _Part, until_ns: Nanos) -> None:
        """Count the wins up to `until_ns`."""
        is_counted = part.won & (part.arrived <= until_ns)
        if not part.is_snapshot.all():
            is_counted &= ~part.is_snapshot  # a whole book is asked of one line; updates are what lines race with
        wins = part.taken(is_counted)
        if not len(wins.line):
            return
        came = part.taken(~part.is_late)
        lines = np.unique(part.line).tolist()
        known = self._known.setdefault(stream, {})
        times = np.full((len(lines), len(wins.line)), NEVER, np.int64)
        for row, line in enumerate(lines):
            own = came.taken(came.line == line)
            times[row] = _times_of(own, wins)
            if len(own.arrived):
                first_ns = known.setdefault(line, [int(own.arrived.min()), 0])
                first_ns[1] = max(first_ns[1], int(own.arrived.max()))
            self._standing(line, stream).disagreements += _disagreements(own, wins)
        winners = np.searchsorted(lines, wins.line)
        at = np.arange(len(wins.line))
        own_times = np.minimum(times[winners, at], wins.arrived)
        times[winners, at] = own_times
        self._count_lines(stream, lines, times, winners, own_times, known)
        if self._without is not None:
            self._count_absence(stream, lines, times, winners, wins)

    def _count_lines(
        self,
        stream: tuple[str, str, str],
        lines: list[int],
        times: np.ndarray,
        winners: np.ndarray,
        own_times: np.ndarray,
        known: dict[int, list[Nanos]],
    ) -> None:
        others = times.copy()
        others[winners, np.arange(len(winners))] = NEVER
        runner_up = others.min(axis=0) if len(lines) > 1 else np.full(len(winners), NEVER)
        spans = [known.get(line, [NEVER, 0]) for line in lines]
        is_known = np.array([(own_times >= first) & (own_times <= last) for first, last in spans])
        is_missing = is_known & (times == NEVER)
        is_healed = is_missing.any(axis=0)
        for row, line in enumerate(lines):
            standing = self._standing(line, stream)
            is_won = winners == row
            standing.messages += int(is_known[row].sum())
            standing.wins += int(is_won.sum())
            standing.brought += int((is_known[row] & ~is_missing[row]).sum())
            standing.lost += int(is_missing[row].sum())
            standing.healed += int((is_won & is_healed).sum())
            has_lead = is_won & (runner_up < NEVER)
            if has_lead.any():
                leads = np.maximum(runner_up[has_lead] - own_times[has_lead], 0)
                standing.leads_ns = [*standing.leads_ns, leads]

    def _count_absence(
        self, stream: tuple[str, str, str], lines: list[int], times: np.ndarray, winners: np.ndarray, wins: _Part
    ) -> None:
        absence = self.absences.setdefault(stream[1:], Absence())
        absence.messages += len(winners)
        absent = self._line_codes.get(self._without or "", -1)
        if absent not in lines:
            return
        row = lines.index(absent)
        is_won = winners == row
        rest = np.delete(times, row, axis=0)
        next_ns = rest.min(axis=0) if len(rest) else np.full(len(winners), NEVER)
        is_lost = is_won & (next_ns == NEVER)
        is_later = is_won & ~is_lost
        absence.wins += int(is_won.sum())
        absence.lost += int(is_lost.sum())
        absence.delays_ns = [*absence.delays_ns, np.maximum(next_ns[is_later] - times[row][is_later], 0)]
        lost = wins.taken(is_lost & wins.has_ids)
        ranges = zip(lost.id_prev.tolist(), lost.id_last.tolist(), strict=True)
        absence.ranges = _merged([*absence.ranges, *ranges])


_DATA = ("snapshot", "delta", "trade")


def _codes(table: pa.Table, name: str) -> tuple[np.ndarray, list[str]]:
    column = table.column(name).combine_chunks() if table.num_rows else pa.array([], pa.string()).dictionary_encode()
    column = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    return column.indices.to_numpy(zero_copy_only=False), [str(text) for text in column.dictionary.to_pylist()]


def _part_of(table: pa.Table, lines: np.ndarray, is_snapshot: np.ndarray) -> _Part:
    columns = {name: table.column(name).to_numpy() for name in ("id_prev", "id_last", "copy", "content", "scales")}
    is_numbered = (table.column("epoch").to_numpy() == 0) & (columns["id_last"] > 0)
    return _Part(
        line=lines,
        **columns,
        arrived=table.column("ts_arrived_ns").to_numpy(),
        has_ids=is_numbered,
        is_snapshot=is_snapshot,
        won=table.column("won").to_numpy().copy(),
        is_late=table.column("is_late").to_numpy(),
    )


def _times_of(own: _Part, wins: _Part) -> np.ndarray:
    """Give when a line had brought each of the wins; `NEVER` for what it did not."""
    times = np.full(len(wins.line), NEVER, np.int64)
    chained, named = own.taken(own.has_ids & ~own.is_snapshot), own.taken(~own.has_ids | own.is_snapshot)
    if len(chained.line):
        order = np.lexsort((chained.arrived, chained.id_last))
        ids, prevs, arrived = chained.id_last[order], chained.id_prev[order], chained.arrived[order]
        at = np.minimum(np.searchsorted(ids, wins.id_last), len(ids) - 1)
        covers = (ids[at] >= wins.id_last) & (prevs[at] < wins.id_last) & wins.has_ids & ~wins.is_snapshot
        times[covers] = arrived[at[covers]]
    if len(named.line):
        order = np.lexsort((named.arrived, named.copy))
        keys, arrived = named.copy[order], named.arrived[order]
        at = np.minimum(np.searchsorted(keys, wins.copy), len(keys) - 1)
        equals = (keys[at] == wins.copy) & (~wins.has_ids | wins.is_snapshot)
        times[equals] = arrived[at[equals]]
    return times


def _disagreements(own: _Part, wins: _Part) -> int:
    """Count the copies of a line that have the ids of a win and another content."""
    mine, theirs = (part.taken(part.has_ids & ~part.is_snapshot) for part in (own, wins))
    if not len(mine.line) or not len(theirs.line):
        return 0
    order = np.lexsort((mine.arrived, mine.id_last))
    at = order[np.minimum(np.searchsorted(mine.id_last[order], theirs.id_last), len(order) - 1)]
    is_same = (mine.id_last[at] == theirs.id_last) & (mine.id_prev[at] == theirs.id_prev)
    is_same &= mine.scales[at] == theirs.scales
    return int((is_same & (mine.content[at] != theirs.content)).sum())


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def league_of(
    directory: Path,
    interval_ns: tuple[Nanos, Nanos],
    instruments: list[str],
    without: str | None = None,
) -> League:
    """Count the log of a recording between two times of arrival.

    Raises:
        ConfigError: there is no log, or no such line in it.
        StorageError: a segment cannot be read.
    """
    league = League(without, Filter(*instruments))
    for table in _pieces(directory):
        arrived = table.column("ts_arrived_ns").to_numpy()
        mask = (arrived >= interval_ns[0]) & (arrived < interval_ns[1])
        league.add(table if mask.all() else table.filter(pa.array(mask)))
    if not league.rows:
        raise ConfigError("league", str(directory), "has no log of arrivals there (recorders write it: arrivals: true)")
    league.finish()
    if without is not None and without not in league.lines():
        raise ConfigError("league", "--without", f"{without}: no such line; there are {', '.join(league.lines())}")
    return league


def _pieces(directory: Path) -> Iterator[pa.Table]:
    """Read the log by the time of arrival, in pieces of bounded size."""
    if not directory.is_dir():
        raise ConfigError("league", str(directory), "no such directory")
    for _, table in each_segment(directory, _COLUMNS):
        for start in range(0, table.num_rows, ROWS_AT_ONCE):
            yield table.slice(start, ROWS_AT_ONCE)
