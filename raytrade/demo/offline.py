"""What a capture contains: the same frames imported without a pipeline, the measure of ``raytrade demo --capture``."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from raytrade.arbitration import Rule
from raytrade.core.events import Channel, Flag
from raytrade.core.instrument import split_instrument
from raytrade.importer import Importer
from raytrade.rules import rule_of
from raytrade.storage.captures import Capture
from raytrade.storage.sink import ParquetSink


class Offline(msgspec.Struct, frozen=True):
    """`frames` in the recording; `ids` of the book updates per instrument, where ids count for all lines."""

    frames: int
    ids: dict[str, list[int]]


def import_offline(path: Path, directory: Path) -> Offline:
    """Import the capture into `directory`."""
    importer = Importer(Capture(path), ParquetSink(directory))
    importer.run()
    chained = [name for name in importer.books if rule_of(name, Channel.BOOK).rule in (Rule.LOOSE, Rule.STRICT)]
    ids = {name: _ids(directory, name) for name in sorted(chained)}
    return Offline(_frames(path), {name: part for name, part in ids.items() if part})


def _frames(path: Path) -> int:
    return sum(record.kind == "recv" for record in Capture(path).records())


def _ids(directory: Path, instrument: str) -> list[int]:
    venue, symbol = split_instrument(instrument)
    found: set[int] = set()
    for segment in (directory / f"venue={venue}" / f"instrument={symbol}" / "channel=book").glob("date=*/*.parquet"):
        for row in pq.read_table(segment, columns=["id_last", "is_snapshot", "flags"]).to_pylist():
            if not row["is_snapshot"] and not row["flags"] & Flag.UNAPPLIED:
                found.add(row["id_last"])
    return sorted(found)
