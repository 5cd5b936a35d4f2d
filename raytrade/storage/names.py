"""Names of segments: ``<start>-<number>.parquet`` as a sink writes them, ``<start>-<first>_<last>.parquet`` compacted.

A compacted segment stands for all of its start in its folder that are numbered from `first` to `last`. Those are not
there any more from the moment it has its name, whether they have been removed yet or not: so that a compaction that is
killed leaves either the sources or the result to readers, never both and never neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PATTERN = "*.parquet"

Span = tuple[int, int]
"""First and last number that a segment stands for."""


def start_of(path: Path) -> str:
    """Give the part of a segment's name that is common to all segments of one start of the program."""
    return path.stem.rpartition("-")[0]


def span_of(path: Path) -> Span | None:
    """Give the numbers a segment stands for; None of a file that was not named by us."""
    first, _, last = path.stem.rpartition("-")[2].partition("_")
    if not first.isdecimal() or (last and not last.isdecimal()):
        return None
    return int(first), int(last or first)


def compacted_name(start: str, span: Span) -> str:
    """Name the segment that stands for these numbers."""
    return f"{start}-{span[0]:06d}_{span[1]:06d}.parquet"


def replaced(paths: Iterable[Path]) -> set[Path]:
    """Give those of one or more folders that another one of the same folder stands for."""
    spans = [(path, span) for path in paths if (span := span_of(path)) is not None]
    wide = [(path, span) for path, span in spans if span[0] != span[1] or "_" in path.stem]
    gone: set[Path] = set()
    for path, span in spans:
        for other, around in wide:
            is_inside = around[0] <= span[0] and span[1] <= around[1] and path != other
            if is_inside and path.parent == other.parent and start_of(path) == start_of(other):
                gone.add(path)
    return gone


def segments_in(folder: Path, days: str = "") -> list[Path]:
    """Give the segments in a folder, or in its folders that `days` takes, without those that others stand for."""
    paths = sorted(folder.glob(f"{days}/{PATTERN}" if days else PATTERN))
    return sorted(set(paths) - replaced(paths)) if any("_" in path.stem for path in paths) else paths


def highest_number(directory: Path, start: str) -> int:
    """Give the highest number that a start has used for a segment anywhere under a directory."""
    spans = (span_of(path) for path in directory.rglob(f"{start}-*.parquet"))
    return max((span[1] for span in spans if span is not None), default=0)
