"""What a directory already holds: the last id of each stream, from the statistics of its newest segments."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq


def last_ids(directory: Path) -> dict[str, int]:
    """Give the highest `id_last` per ``venue:symbol/channel`` among the streams' last days.

    Segments that cannot be read are passed over: a recorder must start.
    """
    ids: dict[str, int] = {}
    for channel in directory.glob("venue=*/instrument=*/channel=*"):
        days = sorted(channel.glob("date=*"))
        found = [id_last for segment in days[-1].glob("*.parquet") for id_last in _last_id(segment)] if days else []
        if found:
            venue, symbol, name = (unquote(part.partition("=")[2]) for part in channel.parts[-3:])
            ids[f"{venue}:{symbol}/{name}"] = max(found)
    return ids


def _last_id(segment: Path) -> list[int]:
    column = "id_last" if "channel=book" in segment.parts else "sequence"
    try:
        metadata = pq.read_metadata(segment)
        at = metadata.schema.to_arrow_schema().get_field_index(column)
        groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowInvalid, IndexError):
        return []
    return [int(statistics.max) for statistics in groups if statistics is not None and statistics.has_min_max]
