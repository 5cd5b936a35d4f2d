"""Recovery: what a killed recorder had taken and not yet closed a segment over, made into segments of its own start.

The log of a start (`raytrade.storage.wal`) holds messages with their indexes. Those that no segment of that start holds
are written as its sink would have written them, under the same indexes, so that the run goes on without a hole; then
the log is removed. Broken off at any point it can be done again. A log that a process is writing is left alone; one
that is damaged, not merely torn, is read up to the damage and moved aside.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.events import Channel, Gap, Resynced, Stalled
from raytrade.core.instrument import split_instrument
from raytrade.core.message import Kind, decode
from raytrade.errors import StorageError
from raytrade.storage.files import move_aside, reason_of
from raytrade.storage.names import highest_number
from raytrade.storage.schema import gap_rows, state_rows
from raytrade.storage.segments import read_gaps, read_states
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.wal import LogContent, Logged, is_live, log_paths, read_log

_NOTES = (Kind.GAP, Kind.STALLED, Kind.RESYNCED)
StreamKey = tuple[str, Channel]


class Recovery(msgspec.Struct):
    """What was done. `torn`: files that end too early, as those of a killed process do."""

    starts: list[str] = []
    messages: int = 0
    notes: int = 0
    segments: int = 0
    torn: list[str] = []
    damaged: list[str] = []
    """Files moved aside, each with what is wrong with it."""


def recover(directory: Path, settings: SinkSettings | None = None) -> Recovery:
    """Make segments of all logs under a directory that nobody is writing.

    Raises:
        StorageError: a log cannot be read or a segment cannot be written; nothing is lost, it can be done again.
    """
    done = Recovery()
    paths = [path for path in log_paths(directory) if not is_live(path)]
    plain = msgspec.structs.replace(settings or SinkSettings(), wal=None)
    for start, group in groupby(paths, key=lambda path: path.stem.rpartition("-")[0]):
        files = [read_log(path) for path in group]
        _recover_start(directory, start, [logged for file in files for logged in file.logged], plain, done)
        done.starts.append(start)
        for file in files:
            _put_away(directory, file, done)
        for part in directory.rglob(f"{start}-*.part"):
            part.unlink(missing_ok=True)
    return done


def _recover_start(directory: Path, start: str, logged: list[Logged], settings: SinkSettings, done: Recovery) -> None:
    known = _indexes_in_segments(directory, start, {message.stream for _, message in logged})
    notes = [pair for pair in logged if pair[1].kind in _NOTES]
    missing = {
        (message.stream, index): (index, message)
        for index, message in logged
        if message.kind not in _NOTES and index not in known.get(message.stream, ())
    }
    left = _unknown_notes(directory, start, notes)
    if not missing and not left:
        return
    sink = ParquetSink(directory, settings, start=start, number=highest_number(directory, start))
    sink.restore([*sorted(missing.values(), key=lambda pair: pair[0]), *left], 0)
    sink.flush()
    done.messages += len(missing)
    done.notes += len(left)
    done.segments += sink.counts.segments


def _indexes_in_segments(directory: Path, start: str, streams: set[StreamKey]) -> dict[StreamKey, set[int]]:
    known: dict[StreamKey, set[int]] = {}
    for instrument, channel in streams:
        venue, symbol = split_instrument(instrument)
        folder = directory / f"venue={quote(venue, safe='')}" / f"instrument={quote(symbol, safe='')}"
        for path in (folder / f"channel={channel.name.lower()}").glob(f"date=*/{start}-*.parquet"):
            try:
                with pq.ParquetFile(path) as file:
                    column = file.read(columns=["index"]).column("index")
            except (OSError, pa.ArrowException):
                continue  # what cannot be read is written again
            known.setdefault((instrument, channel), set()).update(column.unique().to_pylist())
    return known


def _unknown_notes(directory: Path, start: str, notes: list[Logged]) -> list[Logged]:
    """Leave out the notes that stand in segments."""
    known: set[str] = set()
    for folder, read in (("gaps", read_gaps), ("states", read_states)):
        for path in (directory / folder).glob(f"{start}-*.parquet"):
            try:
                known |= {str(row) for row in read(path).to_pylist()}
            except StorageError:
                continue
    left: dict[str, Logged] = {}
    for index, message in notes:
        event = decode(message)
        assert isinstance(event, Gap | Stalled | Resynced)
        rows = gap_rows([event]) if isinstance(event, Gap) else state_rows([(index, event)])
        text = str(rows.to_pylist()[0])
        if text not in known:
            left[text] = (index, message)
    return list(left.values())


def _put_away(directory: Path, file: LogContent, done: Recovery) -> None:
    try:
        if file.problem and not file.is_torn:
            aside = move_aside(directory, file.path)
            done.damaged.append(f"{file.path}: {file.problem}; what stands before it is kept, moved to {aside}")
        else:
            file.path.unlink()
        if not any(file.path.parent.iterdir()):
            file.path.parent.rmdir()
    except OSError as error:
        raise StorageError(str(file.path), f"cannot be removed: {reason_of(error)}") from None
    if file.is_torn:
        done.torn.append(str(file.path))
