"""`ParquetSink`: the arbitrated stream into immutable Parquet segments.

Layout: ``venue=V/instrument=S/channel=C/date=D/<segment>.parquet``, ``gaps/<segment>.parquet`` and
``states/<segment>.parquet`` under one directory.
A segment is written whole into a temporary file, synced, and renamed; its name is unique to this start of
the program, so no segment is ever opened again or overwritten. What was taken but not yet written is kept in
memory until the write has succeeded. A message gets its `index` when it is taken, so that the index tells the
order of the stream whichever segment is closed first. With a log (`raytrade.storage.wal`) what is taken is on disk
within a tenth of a second, and `raytrade.storage.recovery` makes segments of what a killed sink has left there.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag, Gap, Resynced, Stalled
from raytrade.core.instrument import split_instrument
from raytrade.core.members import GAP, SNAPSHOT, UNAPPLIED
from raytrade.core.message import Kind, Message, decode
from raytrade.errors import StorageError
from raytrade.storage.arrivals import ArrivalSink
from raytrade.storage.certifier import Certifier, copies_of
from raytrade.storage.checkpoints import Checkpoints
from raytrade.storage.files import reason_of, write_table
from raytrade.storage.schema import BOOK, GAPS, STATES, TRADES, book_rows, gap_rows, state_rows, trade_rows, writing_of
from raytrade.storage.wal import Logged, Sync, WriteAheadLog

DAY_NS: Nanos = 86_400 * SECOND

WIDE = int(Flag.WIDE)
_RECORDED = {Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE}


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment is closed: at a number of messages, bytes or an age (seconds). `wal`: whether there is a log."""

    segment_messages_max: int = 200_000
    segment_bytes_max: int = 64 * 1024 * 1024
    segment_age_s_max: int = 60
    pending_bytes_max: int = 512 * 1024 * 1024
    compression: str = "zstd"
    wal: Sync | None = None


class SinkCounts(msgspec.Struct):
    """What a sink has written since it was opened."""

    messages: int = 0
    rows: int = 0
    gaps: int = 0
    segments: int = 0
    bytes_written: int = 0
    messages_pending: int = 0
    bytes_pending: int = 0


class _Partition:
    """Messages of one stream and day that wait for their segment."""

    __slots__ = ("bytes_pending", "directory", "indexes", "log_from", "messages", "opened_ns")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.messages: list[Message] = []
        self.indexes: list[int] = []
        self.bytes_pending = 0
        self.opened_ns: Nanos = 0
        self.log_from = 0
        """The file of the log in which the first of them stands."""


class ParquetSink:
    """Writes under `directory`; one sink per directory and start.

    Raises:
        StorageError: the directory cannot be made or written.
    """

    def __init__(
        self,
        directory: Path,
        settings: SinkSettings | None = None,
        indexes: dict[tuple[str, Channel], int] | None = None,
        *,
        certify: bool = False,
        start: str = "",
        number: int = 0,
    ) -> None:
        """`indexes`: where the count of each stream goes on, for a directory that holds some of it already.

        `certify`: keep accounts of what is written, and write a certificate of each hour; see `flush_due` and `close`.
        `start`: the name of this start of the program, instead of one that is drawn; `number`: of its last segment.
        """
        self.directory = directory
        self._settings = settings or SinkSettings()
        self._partitions: dict[tuple[str, Channel, int], _Partition] = {}
        self._indexes = dict(indexes or {})
        self._gaps: list[Gap] = []
        self._states: list[tuple[int, Stalled | Resynced]] = []
        self._stalled: set[tuple[str, Channel]] = set()
        self._torn: set[tuple[str, Channel]] = set()
        self.start = start or secrets.token_hex(4)
        self.certifier = Certifier(directory, self.start, dict(self._indexes)) if certify else None
        self._checkpoints = Checkpoints(directory, self.start)
        wal = self._settings.wal
        self.log = WriteAheadLog(directory, self.start, wal) if wal is not None else None
        self._segments = number
        self.counts = SinkCounts()
        self._check_writable()

    def _check_writable(self) -> None:
        probe = self.directory / f".{self.start}.probe"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StorageError(str(self.directory), f"not writable: {reason_of(error)}") from None

    def write(self, messages: list[Message], now_ns: Nanos) -> None:
        """Take messages of any streams; closes the segments that are full.

        Raises:
            StorageError: a full segment could not be written; nothing taken is lost, `flush` tries again.
        """
        full: list[_Partition] = []
        for message in messages:
            if message.kind in _RECORDED:
                partition = self._partition(message)
                self._take(partition, message, now_ns)
                if self._is_full(partition) and partition not in full:
                    full.append(partition)
            elif message.kind is GAP:
                self._receive_gap(message)
                self._log_note(message, now_ns)
            elif (message.kind is Kind.STALLED or message.kind is Kind.RESYNCED) and self._receive_state(message):
                self._log_note(message, now_ns)
        try:
            if self.log is not None:
                self.log.flush_due(now_ns)
        finally:
            for partition in full:
                self._close(partition)

    def due_ns(self) -> Nanos | None:
        """Give when `write` must be called again, with or without messages, for the log."""
        return self.log.due_ns() if self.log is not None else None

    def restore(self, logged: list[Logged], now_ns: Nanos) -> None:
        """Take what a log holds, under the indexes it had; `flush` writes it."""
        for index, message in logged:
            self._indexes[message.stream] = index
            if message.kind in _RECORDED:
                self._take(self._partition(message), message, now_ns)
            elif message.kind is GAP:
                self._receive_gap(message)
            else:
                event = decode(message)
                assert isinstance(event, Stalled | Resynced)
                self._states.append((index, event))

    def _log_note(self, message: Message, now_ns: Nanos) -> None:
        if self.log is not None:
            self.log.add(self._indexes.get(message.stream, 0), message, now_ns)

    def _take(self, partition: _Partition, message: Message, now_ns: Nanos) -> None:
        stream = (message.instrument, message.channel)
        index = self._indexes.get(stream, 0)
        self._indexes[stream] = index + 1
        if not partition.messages:
            partition.opened_ns = now_ns
            partition.log_from = self.log.number if self.log is not None else 0
        if self.log is not None:
            self.log.add(index, message, now_ns)
        if message.kind is SNAPSHOT and not message.flags & UNAPPLIED:
            self._torn.discard(message.stream)
        partition.messages.append(message)
        partition.indexes.append(index)
        partition.bytes_pending += len(message.raw)
        self.counts.messages_pending += 1
        self.counts.bytes_pending += len(message.raw)

    def _receive_gap(self, message: Message) -> None:
        gap = decode(message)
        assert isinstance(gap, Gap)
        self._gaps.append(gap)
        self._torn.add(message.stream)
        self.counts.gaps += 1

    def _receive_state(self, message: Message) -> bool:
        """Keep what a reader must know beside the messages: a stall, and its end; tells whether it is one."""
        event = decode(message)
        assert isinstance(event, Stalled | Resynced)
        if isinstance(event, Stalled):
            self._stalled.add(message.stream)
        elif message.stream not in self._stalled:
            return False
        else:
            self._stalled.discard(message.stream)
        self._states.append((self._indexes.get(message.stream, 0), event))
        return True

    def _is_full(self, partition: _Partition) -> bool:
        settings = self._settings
        return (
            len(partition.messages) >= settings.segment_messages_max
            or partition.bytes_pending >= settings.segment_bytes_max
        )

    def _partition(self, message: Message) -> _Partition:
        day = (message.ts_venue_ns or message.ts_recv_ns) // DAY_NS
        key = (message.instrument, message.channel, day)
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = _Partition(self._partition_directory(*key))
        return partition

    def _partition_directory(self, instrument: str, channel: Channel, day: int) -> Path:
        venue, symbol = split_instrument(instrument)
        date = datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()
        name = f"venue={quote(venue, safe='')}/instrument={quote(symbol, safe='')}"
        return self.directory / name / f"channel={channel.name.lower()}" / f"date={date}"

    def flush_due(self, now_ns: Nanos) -> None:
        """Close the segments that are old enough.

        Raises:
            StorageError: one could not be written; it is kept.
        """
        age_ns = self._settings.segment_age_s_max * SECOND
        for partition in list(self._partitions.values()):
            if partition.messages and now_ns - partition.opened_ns >= age_ns:
                self._close(partition)
        self._write_notes()
        if self.certifier is not None and self.certifier.is_due(now_ns):
            self.flush()
            self.certifier.certify(now_ns)

    def flush(self) -> None:
        """Close every segment.

        Raises:
            StorageError: one could not be written; it and those after it are kept.
        """
        for partition in list(self._partitions.values()):
            if partition.messages:
                self._close(partition)
        self._write_notes()

    def _close(self, partition: _Partition) -> None:
        messages = partition.messages
        table = pa.Table.from_batches(self._batches(messages, partition.indexes))
        self._write_segment(partition.directory, table)
        if self.certifier is not None:
            self.certifier.take(*messages[0].stream, table)
            self._write_checkpoint(messages[0].stream, table.num_rows)
        counts = self.counts
        counts.messages += len(messages)
        counts.rows += table.num_rows
        counts.messages_pending -= len(messages)
        counts.bytes_pending -= partition.bytes_pending
        if self.log is not None:
            self.log.forget(messages[0].stream, partition.indexes)
        partition.messages, partition.indexes, partition.bytes_pending = [], [], 0

    def _write_checkpoint(self, stream: tuple[str, Channel], rows: int) -> None:
        """Write the book down where it is known that it is whole: behind all that was taken, and not in a gap."""
        if self.certifier is None or stream[1] is not Channel.BOOK:
            return
        account = self.certifier.account(*stream)
        is_known = stream not in self._torn and stream not in self._stalled
        if is_known and account.index_next == self._indexes.get(stream):
            with suppress(StorageError):  # it is a shortcut; what matters has been written
                self._checkpoints.take(account, rows)

    def write_rows(self, instrument: str, channel: Channel, rows: pa.Table) -> None:
        """Write rows as they are read from another recording; their indexes go on from those written before.

        Raises:
            StorageError: they could not be written.
        """
        key = (instrument, channel)
        index = rows.column("index").to_numpy()
        first = self._indexes.get(key, 0)
        numbers = first + np.cumsum(np.append(0, np.diff(index) != 0))
        self._indexes[key] = int(numbers[-1]) + 1
        rows = rows.set_column(0, "index", pa.array(numbers))
        venue_ns, recv_ns = rows.column("ts_venue_ns").to_numpy(), rows.column("ts_recv_ns").to_numpy()
        days = np.where(venue_ns > 0, venue_ns, recv_ns) // DAY_NS
        for day in np.unique(days).tolist():
            part = rows.filter(pa.array(days == day)) if days[0] != day or days.min() != days.max() else rows
            self._write_segment(self._partition_directory(instrument, channel, day), part)
            if self.certifier is not None:
                self.certifier.take(instrument, channel, part)

    def _batches(self, messages: list[Message], indexes: list[int]) -> list[pa.RecordBatch]:
        """Cut the messages where scale or width change; each run becomes one batch."""
        rows = trade_rows if messages[0].channel is Channel.TRADES else book_rows
        layouts = [(message.price_scale, message.size_scale, message.flags & WIDE) for message in messages]
        ends: list[int] = []
        if layouts.count(layouts[0]) < len(layouts):
            ends = [at for at in range(1, len(layouts)) if layouts[at] != layouts[at - 1]]
        runs = zip([0, *ends], [*ends, len(messages)], strict=True)
        batches = [rows(messages[start:end], indexes[start:end]) for start, end in runs]
        return [batch.cast(BOOK if rows is book_rows else TRADES) for batch in batches]

    def _write_notes(self) -> None:
        if self._gaps:
            self._write_note_rows("gaps", pa.Table.from_batches([gap_rows(self._gaps)], GAPS))
            self._gaps = []
        if self._states:
            self._write_note_rows("states", pa.Table.from_batches([state_rows(self._states)], STATES))
            self._states = []
        if self.log is not None:
            oldest = [partition.log_from for partition in self._partitions.values() if partition.messages]
            self.log.release(min(oldest, default=self.log.number))

    def _write_note_rows(self, name: str, table: pa.Table) -> None:
        self._write_segment(self.directory / name, table)
        if self.certifier is not None:
            self.certifier.take_notes(name, table)

    def _write_segment(self, directory: Path, table: pa.Table) -> None:
        self.counts.bytes_written += write_table(
            self._unused_path(directory), table, compression=self._settings.compression, **writing_of(table.schema)
        )
        self.counts.segments += 1

    def _unused_path(self, directory: Path) -> Path:
        while True:
            self._segments += 1
            path = directory / f"{self.start}-{self._segments:06d}.parquet"
            if not path.exists():
                return path

    def arrivals(self) -> ArrivalSink:
        """Give a sink for the log of arrivals beside this one, of the same start and in the same accounts."""
        settings, certifier = self._settings, self.certifier

        def count(table: pa.Table) -> None:
            if certifier is not None:
                certifier.take_copies(copies_of(table))

        return ArrivalSink(self.directory, start=self.start, on_written=count, age_s_max=settings.segment_age_s_max)

    def close(self) -> None:
        """Write what is left, and certify it."""
        self.flush()
        if self.certifier is not None:
            self.certifier.close()
        if self.log is not None:
            self.log.close()
