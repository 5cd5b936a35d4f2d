"""What consumers have: the files of witnesses and recorders, read whole. No code of venue machines and arbiters."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.chaos.verdict import Range, Verdict, judge
from raytrade.chaos.witness import What, code_of, lives, read_life

Sent = Mapping[str, Sequence[int]]
"""Ids in the order in which they were sent, per instrument."""


class Life(msgspec.Struct):
    """One life of one strategy: when it was given something, and the ids per instrument (by `code_of`)."""

    strategy: str
    times: array[int]
    books: dict[int, array[int]] = {}
    trades: dict[int, array[int]] = {}
    gaps: dict[int, list[Range]] = {}
    trade_gaps: dict[int, list[Range]] = {}
    stalls: int = 0

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Tell whether the strategy lived from before `start_ns` until after `end_ns`."""
        return bool(self.times) and self.times[0] < start_ns and self.times[-1] > end_ns


def read_lives(directory: Path, strategy: str) -> list[Life]:
    """Give all lives of a strategy that saw anything."""
    read = [_life(strategy, path) for path in lives(directory)]
    return [life for life in read if life.times]


def _life(strategy: str, path: Path) -> Life:
    life = Life(strategy, array("q"))
    told: dict[tuple[What, int], list[Range]] = {}
    for seen in read_life(path):
        match seen.what:
            case What.BOOK | What.TRADE:
                life.times.append(seen.ts_ns)
                streams = life.books if seen.what is What.BOOK else life.trades
                streams.setdefault(seen.instrument, array("q")).append(seen.id_last)
            case What.BOOK_GAP | What.TRADE_GAP:
                told.setdefault((seen.what, seen.instrument), []).append((seen.id_prev, seen.id_last))
            case What.STALLED:
                life.stalls += 1
    for (what, code), gaps in told.items():
        is_book = what is What.BOOK_GAP
        have = (life.books if is_book else life.trades).get(code, ())
        (life.gaps if is_book else life.trade_gaps)[code] = closed(gaps, have)
    return life


def closed(gaps: Sequence[Range], have: Iterable[int]) -> list[Range]:
    """Give gaps an end where none could be told: the next id that came."""
    ids = sorted(have) if any(not up_to for _, up_to in gaps) else []
    return [(after, up_to or next(iter(ids[bisect_right(ids, after) :]), after)) for after, up_to in gaps]


def judge_life(life: Life, books: Sent, trades: Sent, is_last: bool) -> Verdict:
    """Hold what a strategy saw in one life against what was sent; `is_last`: it lived to the end of the stream.

    Books must come in order. Trades need not where their ids are sparse, as those of HitBTC are: nobody can know that a
    trade is still to come, so the first copy of each goes out at once.
    """
    verdict = Verdict()
    for instrument, sent in books.items():
        code = code_of(instrument)
        verdict.add(judge(sent, life.books.get(code, ()), life.gaps.get(code, ()), is_last))
    verdict.repeated, verdict.late = verdict.repeated + verdict.late, 0
    for instrument, sent in trades.items():
        code = code_of(instrument)
        verdict.add(judge(sent, life.trades.get(code, ()), life.trade_gaps.get(code, ()), is_last))
    return verdict


class Recorded(msgspec.Struct):
    """What one recorder's directory holds: ids per stream, how many came twice, files that cannot be read."""

    books: dict[str, set[int]] = {}
    trades: dict[str, set[int]] = {}
    openings: dict[str, int] = {}
    repeated: int = 0
    files: int = 0
    gaps: dict[str, list[Range]] = {}
    trade_gaps: dict[str, list[Range]] = {}
    causes: list[str] = []
    unreadable: list[str] = []

    @property
    def gap_rows(self) -> int:
        """Count the rows of the table of gaps."""
        return sum(map(len, [*self.gaps.values(), *self.trade_gaps.values()]))


def read_recording(directory: Path, instruments: Sequence[str]) -> Recorded:
    """Read every file of a recording, all columns, with their checksums."""
    found = Recorded()
    for instrument in instruments:
        venue, _, symbol = instrument.partition(":")
        place = directory / f"venue={quote(venue, safe='')}" / f"instrument={quote(symbol, safe='')}"
        _read_books(found, instrument, place / "channel=book")
        _read_trades(found, instrument, place / "channel=trades")
    told: dict[tuple[str, str], list[Range]] = {}
    for table in _tables(found, directory / "gaps"):
        for row in table.to_pylist():
            found.causes.append(f"{row['instrument']}/{row['channel']} {row['kind']}: {row['cause']}")
            told.setdefault((row["instrument"], row["channel"]), []).append((row["id_prev"], row["id_last"]))
    for (instrument, channel), gaps in told.items():
        is_book = channel == "book"
        have = (found.books if is_book else found.trades).get(instrument, ())
        (found.gaps if is_book else found.trade_gaps)[instrument] = closed(gaps, have)
    for path in sorted(directory.rglob("*.parquet")):
        if not path.relative_to(directory).parts[0].startswith(("venue=", "gaps")):
            _table(found, path)
    return found


def _read_books(found: Recorded, instrument: str, folder: Path) -> None:
    deltas, snapshots = array("q"), array("q")
    for table in _tables(found, folder):
        rows = table.filter(table.column("is_last"))
        is_snapshot = rows.column("is_snapshot").to_pylist()
        for id_last, opens in zip(rows.column("id_last").to_pylist(), is_snapshot, strict=True):
            (snapshots if opens else deltas).append(id_last)
    found.books[instrument] = ids = set(deltas)
    found.repeated += len(deltas) - len(ids)
    if snapshots:
        found.openings[instrument] = min(snapshots)


def _read_trades(found: Recorded, instrument: str, folder: Path) -> None:
    ids = array("q")
    for table in _tables(found, folder):
        ids.extend(int(text) for text in table.column("trade_id").to_pylist())
    found.trades[instrument] = distinct = set(ids)
    found.repeated += len(ids) - len(distinct)


def _tables(found: Recorded, folder: Path) -> list[Any]:
    """Read the files of a folder and the days under it; what cannot be read is noted."""
    paths = sorted([*folder.glob("*.parquet"), *folder.glob("date=*/*.parquet")])
    return [table for path in paths if (table := _table(found, path)) is not None]


def _table(found: Recorded, path: Path) -> Any | None:
    """Read a whole file."""
    found.files += 1
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        found.unreadable.append(f"{path}: {str(error).splitlines()[0]}")
        return None


class Missing(msgspec.Struct):
    """What recordings lack: updates by instrument, the number of trades, and how much of both no gap admits."""

    updates: dict[str, list[int]] = {}
    trades: int = 0
    untold: int = 0

    @property
    def count(self) -> int:
        """How much it is in all."""
        return self.trades + sum(map(len, self.updates.values()))


def missing_rows(books: Sent, trades: Sent, recordings: Sequence[Recorded]) -> Missing:
    """Find the updates and trades that none of the recordings holds.

    What the first image of a book contains is not owed; all trades are.
    """
    found = Missing()
    for instrument, sent in books.items():
        openings = [recording.openings[instrument] for recording in recordings if instrument in recording.openings]
        opening = min(openings, default=-1)
        have = [recording.books.get(instrument, set()) for recording in recordings]
        lost = [number for number in sent if number > opening and not any(number in ids for ids in have)]
        if lost:
            found.updates[instrument] = lost
            found.untold += _untold(lost, [recording.gaps.get(instrument, []) for recording in recordings])
    for instrument, sent in trades.items():
        have = [recording.trades.get(instrument, set()) for recording in recordings]
        lost = [number for number in sent if not any(number in ids for ids in have)]
        found.trades += len(lost)
        found.untold += _untold(lost, [recording.trade_gaps.get(instrument, []) for recording in recordings])
    return found


def _untold(lost: Sequence[int], gaps: Sequence[Sequence[Range]]) -> int:
    told = [gap for each in gaps for gap in each]
    return sum(not any(after < number <= up_to for after, up_to in told) for number in lost)
