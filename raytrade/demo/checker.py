"""Holds what consumers have against what the exchanges truly sent. Shares no code with machines and arbiters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


class Ranges:
    """Ids as half-open ranges ``(first, last]``."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)

    def missed(self, ids: Iterable[int]) -> list[int]:
        """Give the ids (in rising order) that no range contains."""
        missing: list[int] = []
        at = 0
        for number in ids:
            while at < len(self._ranges) and self._ranges[at][1] < number:
                at += 1
            if at == len(self._ranges) or not self._ranges[at][0] < number:
                missing.append(number)
        return missing


def covered(coverage: dict[str, Any] | None) -> Ranges:
    """Give the ranges of a consumer's coverage: everything up to its first state, then up to the last but the holes."""
    if not coverage:
        return Ranges([])
    ranges, start = [], -1
    for after, up_to in coverage["holes"]:
        ranges.append((start, after))
        start = up_to
    return Ranges([*ranges, (start, coverage["last"])])


def recorded(directory: Path, venue: str, symbol: str) -> tuple[Ranges, int]:
    """Give the id ranges that the book's files contain, and how often an id came twice.

    A snapshot contains everything before it; the first one opens the recording.
    """
    rows: set[tuple[int, int, int, bool]] = set()
    for path in (directory / f"venue={venue}" / f"instrument={symbol}" / "channel=book").glob("date=*/*.parquet"):
        table = pq.read_table(path, columns=["index", "id_prev", "id_last", "is_snapshot", "flags"])
        columns = [table.column(name).to_pylist() for name in ("index", "id_prev", "id_last", "is_snapshot", "flags")]
        rows |= {row[:4] for row in zip(*columns, strict=True) if not row[4] & 4}
    ordered = sorted(rows)
    ranges: list[tuple[int, int]] = []
    last = -1
    repeats = 0
    for _, id_prev, id_last, is_snapshot in ordered:
        if is_snapshot:
            ranges.append((id_last - 1 if ranges else -1, id_last))
        elif id_last <= last:
            repeats += 1
        else:
            ranges.append((id_prev, id_last))
        last = max(last, id_last)
    return _merged(ranges), repeats


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return Ranges(merged)
