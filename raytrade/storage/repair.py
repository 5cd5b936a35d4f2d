"""Repair: two recordings of one pipeline, each filled with what only the other has.

Streams are compared by ids: what leads from one state to the next in one recording and is not covered in the other is
copied there, as whole messages, in segments of a start of its own (``fill-...``); no file is ever changed. Readers
merge what overlaps (`raytrade.storage.merging`), so a second repair finds nothing to do. Where both have the same ids
with different content, or different books at the same id, nothing is written at all.

Streams whose ids prove nothing (counted per connection, or none) are left alone and named.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
import pyarrow as pa

from raytrade.arbitration import Rule
from raytrade.core.events import Channel, Flag, Gap
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.breaks import CHAINED, Range, rule_or_none
from raytrade.storage.certificates import certificate_paths, read_certificates
from raytrade.storage.merging import FILL, chained_of
from raytrade.storage.recording import Recording, StreamKey
from raytrade.storage.runs import Run, Unit, heads_of
from raytrade.storage.segments import read_rows
from raytrade.storage.sink import ParquetSink
from raytrade.storage.source import Stream


class Filled(msgspec.Struct):
    """What one recording lacked of a stream and the other had: messages, and the ranges ``(after, up to]`` of ids."""

    messages: int = 0
    ranges: list[Range] = []


class StreamRepair(msgspec.Struct):
    """One stream. `missing`: what neither has; `compared`: messages and states of the book that both have."""

    instrument: str
    channel: str
    is_provable: bool
    first: Filled
    second: Filled
    missing: list[Range] = []
    compared: int = 0


class RepairReport(msgspec.Struct):
    """The outcome; `is_dry`: nothing was written."""

    is_dry: bool
    streams: list[StreamRepair] = []


class _Side(msgspec.Struct):
    """One stream in one recording: the messages that move it, in the order of the stream."""

    stream: Stream
    run: np.ndarray
    index: np.ndarray
    id_prev: np.ndarray
    id_last: np.ndarray
    is_snapshot: np.ndarray

    def covered(self) -> list[Range]:
        """Give the states that are reached without a break, as closed ranges."""
        ranges: list[Range] = []
        prev = np.where(self.is_snapshot, self.id_last, self.id_prev).tolist()
        for start, end in zip(prev, self.id_last.tolist(), strict=True):
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
            else:
                ranges.append((start, end))
        return ranges

    def lacking(self, covered: list[Range]) -> np.ndarray:
        """Tell of each message whether the other recording, which covers these states, needs it."""
        if not covered:
            return np.ones(len(self.index), bool)
        starts, ends = (np.array([bounds[place] for bounds in covered], np.int64) for place in (0, 1))
        prev = np.where(self.is_snapshot, self.id_last, self.id_prev)
        at = np.maximum(np.searchsorted(starts, prev, side="right") - 1, 0)
        is_inside = (starts[at] <= prev) & (self.id_last <= ends[at])
        found: np.ndarray = ~is_inside
        return found

    def ranges(self, wanted: np.ndarray) -> list[Range]:
        """Give the ids that some of the messages stand for."""
        pairs = zip(self.id_prev[wanted].tolist(), self.id_last[wanted].tolist(), strict=True)
        ranges: list[Range] = []
        for start, end in pairs:
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
            else:
                ranges.append((start, end))
        return ranges


class _Job(msgspec.Struct):
    """Messages to be copied into a recording."""

    key: StreamKey
    stream: Stream
    wanted: list[tuple[Run, np.ndarray]]
    gaps: list[Gap]


class Repair:
    """Compares two recordings, and fills both when all of it has been compared."""

    def __init__(self, first: Path, second: Path) -> None:
        """Look what there is.

        Raises:
            ConfigError: there is no such directory, no recording in it, or both are the same.
        """
        if first.resolve() == second.resolve():
            raise ConfigError("repair", str(second), "is the same recording twice")
        self._sides = Recording(first), Recording(second)
        self._jobs: tuple[list[_Job], list[_Job]] = ([], [])

    def run(self, *, is_dry: bool, progress: Callable[[int, int], None] = lambda done, total: None) -> RepairReport:
        """Compare everything, then (unless `is_dry`) write; `progress` is told how many streams of how many.

        Raises:
            StorageError: a file cannot be read or written, or the recordings contradict each other.
        """
        report = RepairReport(is_dry)
        keys = sorted({*self._sides[0].folders(), *self._sides[1].folders()})
        for number, key in enumerate(keys):
            progress(number, len(keys))
            report.streams.append(self._compare(key))
        if not is_dry:
            for recording, jobs in zip(self._sides, self._jobs, strict=True):
                _write(recording.directory, jobs)
        return report

    def _compare(self, key: StreamKey) -> StreamRepair:
        rule = rule_or_none(*key)
        found = StreamRepair(key[0], key[1].name.lower(), False, Filled(), Filled())
        streams = [side.stream(*key) if key in side.folders() else Stream(*key, []) for side in self._sides]
        if rule is Rule.TRADE:
            found.is_provable = True
            self._compare_trades(key, streams, found)
            return found
        sides = [_side_of(stream) for stream in streams]
        if rule not in CHAINED or not all(_is_rising(side) for side in sides):
            return found
        found.is_provable = True
        found.compared = self._check(key, sides)
        covered = [side.covered() for side in sides]
        for number, (filled, other) in enumerate(((found.first, 1), (found.second, 0))):
            side = sides[other]
            wanted = side.lacking(covered[number])
            filled.messages = int(wanted.sum())
            filled.ranges = side.ranges(wanted & ~side.is_snapshot)
            if filled.messages:
                gaps = self._gaps(key, self._sides[other], set(side.id_last[wanted].tolist()))
                self._jobs[number].append(_Job(key, side.stream, _wanted_of(side, wanted), gaps))
        found.missing = _missing([span for spans in covered for span in spans])
        return found

    def _gaps(self, key: StreamKey, recording: Recording, ids: set[int]) -> list[Gap]:
        """Give the gaps that belong to what is copied."""
        gaps = [gap for _, gap in recording.recorded_gaps() if (gap.instrument, gap.channel) == key]
        return [gap for gap in gaps if gap.id_prev in ids]

    # What both have must be the same.

    def _check(self, key: StreamKey, sides: list[_Side]) -> int:
        first, second = (_contents(side) for side in sides)
        for ids in first.keys() & second.keys():
            if first[ids] != second[ids]:
                self._refuse(key, f"ids {ids[0]} to {ids[1]} have other content")
        states = [_states(side.directory, key) for side in self._sides]
        for id_last in states[0].keys() & states[1].keys():
            if states[0][id_last] != states[1][id_last]:
                self._refuse(key, f"the books at {id_last} differ")
        return len(first.keys() & second.keys()) + len(states[0].keys() & states[1].keys())

    def _refuse(self, key: StreamKey, problem: str) -> None:
        first, second = (str(side.directory) for side in self._sides)
        raise StorageError(first, f"{key[0]}/{key[1].name.lower()}: {problem} in {second}; nothing was written")

    # Trades whose ids have holes.

    def _compare_trades(self, key: StreamKey, streams: list[Stream], found: StreamRepair) -> None:
        sides = [_trades(stream) for stream in streams]
        for trade_id in sides[0].keys() & sides[1].keys():
            if sides[0][trade_id][2] != sides[1][trade_id][2]:
                self._refuse(key, f"trade {trade_id} has other content")
        found.compared = len(sides[0].keys() & sides[1].keys())
        for number, (filled, other) in enumerate(((found.first, 1), (found.second, 0))):
            places = [place for trade_id, place in sides[other].items() if trade_id not in sides[number]]
            filled.messages = len(places)
            if places:
                stream = streams[other]
                wanted = [
                    (run, np.array(sorted(index for at, index, _ in places if at == number_of), np.int64))
                    for number_of, run in enumerate(stream.runs)
                ]
                self._jobs[number].append(_Job(key, stream, [pair for pair in wanted if len(pair[1])], []))


def _missing(spans: list[Range]) -> list[Range]:
    """Give what lies between the states that are covered by either."""
    missing: list[Range] = []
    reached: int | None = None
    for start, end in sorted(spans):
        if reached is not None and start > reached:
            missing.append((reached, start))
        reached = end if reached is None else max(reached, end)
    return missing


def _is_rising(side: _Side) -> bool:
    return bool((np.diff(side.id_last) >= 0).all())


def _side_of(stream: Stream) -> _Side:
    parts: list[tuple[np.ndarray, ...]] = []
    for number, run in enumerate(stream.runs):
        if run.taken:
            part = chained_of(stream.channel, heads_of(run.taken))
            mine = (part.indexes >= run.index_from) & (part.indexes <= run.index_to)
            parts.append((np.full(int(mine.sum()), number), *(column[mine] for column in part)))
    nothing = tuple(np.zeros(0, np.int64) for _ in range(4))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [*nothing, np.zeros(0, bool)]
    return _Side(stream, *columns)


def _wanted_of(side: _Side, wanted: np.ndarray) -> list[tuple[Run, np.ndarray]]:
    """Give the indexes of the wanted messages by run, in the order of the stream."""
    found = []
    for number, run in enumerate(side.stream.runs):
        index = side.index[wanted & (side.run == number)]
        if len(index):
            found.append((run, index))
    return found


def _rows_of(stream: Stream, run: Run, index: np.ndarray) -> Iterator[pa.Table]:
    """Read the rows of the messages with these indexes (in rising order), a piece at a time."""
    for unit in run.taken:
        inside = index[(index >= unit.index_first) & (index <= unit.index_last)]
        if len(inside):
            table = _sorted(unit)
            yield table.filter(pa.array(np.isin(table.column("index").to_numpy(), inside)))


def _sorted(unit: Unit) -> pa.Table:
    table = pa.concat_tables([read_rows(segment, groups) for segment, groups in unit.pieces])
    return table if len(unit.pieces) == 1 else table.sort_by("index")


def _contents(side: _Side) -> dict[Range, int]:
    """Give a hash of the levels (or of the trade) by ids, of the messages that come as the venue sent them."""
    contents: dict[Range, int] = {}
    is_trade = side.stream.channel is Channel.TRADES
    for run in side.stream.runs:
        for unit in run.taken:
            table = _sorted(unit)
            index = table.column("index").to_numpy()
            flags = table.column("flags").to_numpy()
            plain = (flags & (Flag.SPLICE | Flag.UNAPPLIED | Flag.HISTORY) == 0) & (index >= run.index_from)
            plain &= index <= run.index_to
            if not is_trade:
                plain &= ~table.column("is_snapshot").to_numpy()
            table = table.filter(pa.array(plain))
            contents.update(_hashes(table, is_trade))
    return contents


def _hashes(table: pa.Table, is_trade: bool) -> dict[Range, int]:
    if not table.num_rows:
        return {}
    index = table.column("index").to_numpy()
    ends = np.flatnonzero(np.append(index[1:] != index[:-1], True)) + 1
    starts = np.concatenate(([0], ends[:-1]))
    side = table.column("aggressor" if is_trade else "side").cast(pa.string()).fill_null("").to_pylist()
    price, size = (_words(table.column(name)) for name in ("price", "size"))
    ids = table.column("sequence" if is_trade else "id_last").to_numpy()[starts]
    prev = ids - 1 if is_trade else table.column("id_prev").to_numpy()[starts]
    hashes: dict[Range, int] = {}
    for at, end, first, last in zip(starts.tolist(), ends.tolist(), prev.tolist(), ids.tolist(), strict=True):
        content = b"".join(sorted(f"{side[row]}".encode() + price[row] + size[row] for row in range(at, end)))
        hashes[first, last] = crc32(content)
    return hashes


def _words(column: pa.ChunkedArray) -> list[bytes]:
    whole = pa.concat_arrays(column.chunks)
    words: list[bytes] = np.frombuffer(whole.buffers()[1], "V16")[whole.offset : whole.offset + len(whole)].tolist()
    return [b"" if is_null else word for word, is_null in zip(words, whole.is_null().to_pylist(), strict=True)]


def _states(directory: Path, key: StreamKey) -> dict[int, int]:
    """Give the hashes of the book by id, from the certificates."""
    states: dict[int, int] = {}
    if key[1] is Channel.BOOK:
        for path in certificate_paths(directory):
            for certificate in read_certificates(path).certificates:
                if certificate.instrument == key[0] and certificate.channel == "book":
                    states |= {state.id_last: state.state_hash for state in certificate.states}
    return states


def _trades(stream: Stream) -> dict[str, tuple[int, int, int]]:
    """Give run, index and content of each trade by its id."""
    trades: dict[str, tuple[int, int, int]] = {}
    for number, run in enumerate(stream.runs):
        for unit in run.taken:
            table = _sorted(unit)
            names = ("index", "trade_id", "price", "size", "aggressor")
            columns = [table.column(name).to_pylist() for name in names]
            for index, trade_id, *content in zip(*columns, strict=True):
                if run.index_from <= index <= run.index_to:
                    trades.setdefault(str(trade_id), (number, index, crc32(repr(content).encode())))
    return trades


def _write(directory: Path, jobs: list[_Job]) -> None:
    if not jobs:
        return
    sink = ParquetSink(directory, certify=True, start=f"{FILL}{secrets.token_hex(4)}")
    for job in jobs:
        for run, index in job.wanted:
            for rows in _rows_of(job.stream, run, index):
                sink.write_rows(*job.key, rows)
        sink.write([parse(encode(gap, "")) for gap in job.gaps], 0)
    sink.close()


def repair(
    first: Path,
    second: Path,
    *,
    is_dry: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RepairReport:
    """Fill two recordings from each other; see `Repair`.

    Raises:
        ConfigError: there is no recording in a directory, or both are the same.
        StorageError: a file cannot be read or written, or the recordings contradict each other.
    """
    return Repair(first, second).run(is_dry=is_dry, progress=progress)
