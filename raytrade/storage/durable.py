"""What a directory already holds: last ids and indexes of each stream, by the statistics of its newest segments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.events import Channel
from raytrade.storage.names import segments_in


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
    """Name the books (``venue:symbol/book``) whose files end inside a gap: no resync was written since."""
    gaps = _newest_rows(directory / "gaps", lambda _row: True)
    resyncs = _newest_rows(directory / "states", lambda row: row["state"] == "resynced")
    ended = {name for name, at_ns in resyncs.items() if at_ns >= gaps.get(name, at_ns)}
    return {name for name in gaps.keys() - ended if name.endswith("/book")}


def _newest_rows(folder: Path, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, int]:
    """Give the receive time of the newest wanted row per stream, in nanoseconds."""
    newest: dict[str, int] = {}
    for segment in segments_in(folder):
        with suppress(OSError, pa.ArrowInvalid):
            for row in filter(is_wanted, pq.read_table(segment).to_pylist()):
                name = f"{row['instrument']}/{row['channel']}"
                newest[name] = max(newest.get(name, 0), row["ts_recv_ns"])
    return newest


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
