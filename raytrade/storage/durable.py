"""What a directory already holds: last ids and indexes of each stream, by the statistics of its newest segments."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.clock import SECOND
from raytrade.core.events import Channel, Flag
from raytrade.storage.names import segments_in

DAY_S = 86_400


def last_ids(directory: Path) -> dict[str, int]:
    """Give the highest `id_last` (of trades: `sequence`) per ``venue:symbol/channel`` among the streams' last days.

    Segments that cannot be read are passed over: a recorder must start.
    """
    columns = {"book": "id_last", "trades": "sequence"}
    return {
        f"{instrument}/{channel}": highest
        for (instrument, channel), segments in _newest_segments(directory).items()
        if (highest := _highest(segments, columns.get(channel, ""))) is not None
    }


def next_indexes(directory: Path) -> dict[tuple[str, Channel], int]:
    """Give the index that the next message of each stream gets, so that the count goes on without a hole."""
    return {
        (instrument, Channel[channel.upper()]): highest + 1
        for (instrument, channel), segments in _newest_segments(directory).items()
        if (highest := _highest(segments, "index")) is not None
    }


def trade_ids(directory: Path, instrument: str) -> set[bytes]:
    """Give the trade ids of the last day of an instrument whose trades are not numbered."""
    ids: set[bytes] = set()
    for segment in _newest_segments(directory).get((instrument, "trades"), []):
        with suppress(OSError, pa.ArrowInvalid):
            column = pq.read_table(segment, columns=["trade_id"]).column("trade_id")
            ids |= {str(trade_id).encode() for trade_id in column.to_pylist()}
    return ids


def open_gaps(directory: Path) -> set[str]:
    """Name the books (``venue:symbol/book``) whose files end inside a gap: no whole book stands behind it."""
    newest: dict[str, dict[str, Any]] = {}
    for segment in segments_in(directory / "gaps"):
        with suppress(OSError, pa.ArrowInvalid):
            for row in pq.read_table(segment).to_pylist():
                name = f"{row['instrument']}/{row['channel']}"
                if row["channel"] == "book" and row["ts_recv_ns"] >= newest.get(name, row)["ts_recv_ns"]:
                    newest[name] = row
    return {name for name, row in newest.items() if not _is_whole_behind(directory, row)}


def _is_whole_behind(directory: Path, gap: dict[str, Any]) -> bool:
    """Tell whether a snapshot was recorded that reaches behind a gap; few row groups have one, so few are read.

    One at the very id of a doubt may stand before it, and ids of before a reset say nothing: then its time tells.
    """
    venue, _, symbol = gap["instrument"].partition(":")
    folder = directory / f"venue={quote(venue, safe='')}" / f"instrument={quote(symbol, safe='')}" / "channel=book"
    day = datetime.fromtimestamp(gap["ts_recv_ns"] / SECOND - DAY_S, UTC).date().isoformat()
    behind = ("id_last", ">=", max(gap["id_last"], gap["id_prev"] + (gap["kind"] == "doubt")))
    if gap["kind"] == "reset":
        behind = ("ts_recv_ns", ">=", gap["ts_recv_ns"])
    for segment in segments_in(folder, "date=*"):
        if segment.parent.name < f"date={day}":
            continue
        with suppress(OSError, pa.ArrowInvalid):
            wanted = [("is_snapshot", "=", True), behind]
            flags = pq.read_table(segment, columns=["flags"], filters=wanted).column("flags")
            if any(not flag & Flag.UNAPPLIED for flag in flags.unique().to_pylist()):
                return True
    return False


def _newest_segments(directory: Path) -> dict[tuple[str, str], list[Path]]:
    """Give the segments of the last day per (instrument, channel)."""
    segments: dict[tuple[str, str], list[Path]] = {}
    for channel in directory.glob("venue=*/instrument=*/channel=*"):
        days = sorted(channel.glob("date=*"))
        if days:
            venue, symbol, name = (unquote(part.partition("=")[2]) for part in channel.parts[-3:])
            segments[f"{venue}:{symbol}", name] = segments_in(days[-1])
    return segments


def _highest(segments: list[Path], column: str) -> int | None:
    return max((value for segment in segments for value in _highest_of(segment, column)), default=None)


def _highest_of(segment: Path, column: str) -> list[int]:
    try:
        metadata = pq.read_metadata(segment)
        at = metadata.schema.to_arrow_schema().get_field_index(column)
        groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowInvalid, IndexError):
        return []
    return [int(statistics.max) for statistics in groups if statistics is not None and statistics.has_min_max]
