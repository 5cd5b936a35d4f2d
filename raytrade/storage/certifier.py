"""`Certifier`: keeps the accounts of what a sink writes, and writes certificates of the hours that are over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.core.clock import Nanos
from raytrade.core.events import Channel
from raytrade.storage.accounts import Account
from raytrade.storage.certificates import (
    GRACE_NS,
    HOUR_NS,
    VERSION,
    Certificate,
    CertificateFile,
    NotesCertificate,
    write_certificates,
)
from raytrade.storage.digests import RowsDigest

StreamKey = tuple[str, Channel]
Copies = dict[tuple[str, str, int], dict[str, int]]
"""How many copies each line brought, by instrument, channel and hour of receipt."""


class Certifier:
    """The accounts of one start of a recorder; tables come as they are written, in any order of their indexes."""

    def __init__(self, directory: Path, start: str, indexes: dict[StreamKey, int]) -> None:
        """`indexes`: the first index of each stream that is not 0."""
        self.directory = directory
        self.start = start
        self._indexes = indexes
        self._accounts: dict[StreamKey, Account] = {}
        self._waiting: dict[StreamKey, list[pa.Table]] = {}
        self._certified: dict[tuple[StreamKey, int], int] = {}
        self._copies: Copies = {}
        self._notes: dict[str, RowsDigest] = {}
        self._notes_certified = 0
        self._number = 0
        self._hour_due: int | None = None

    def take(self, instrument: str, channel: Channel, table: pa.Table) -> None:
        """Count rows that were written, as far as no index is missing before them."""
        key = (instrument, channel)
        waiting = [*self._waiting.pop(key, []), table]
        account = self._account(key)
        expected = account.index_next if account.index_next is not None else self._indexes.get(key, 0)
        rows = waiting[0] if len(waiting) == 1 else pa.concat_tables(waiting).sort_by("index")
        index = rows.column("index").to_numpy()
        steps = np.diff(np.concatenate(([expected - 1], index)))
        steps[1:] = np.where(steps[1:] == 0, 1, steps[1:])
        holes = np.flatnonzero(steps != 1)
        whole = int(holes[0]) if len(holes) else len(index)
        if whole:
            account.take(rows.slice(0, whole))
        if whole < len(index):
            self._waiting[key] = [rows.slice(whole)]

    def account(self, instrument: str, channel: Channel) -> Account:
        """Give the accounts of one stream."""
        return self._account((instrument, channel))

    def take_copies(self, counted: Copies) -> None:
        """Count copies that were written to the table of arrivals."""
        for key, lines in counted.items():
            known = self._copies.setdefault(key, {})
            for line, count in lines.items():
                known[line] = known.get(line, 0) + count

    def take_notes(self, name: str, table: pa.Table) -> None:
        """Count rows that were written to the table of gaps or states."""
        self._notes.setdefault(name, RowsDigest()).update(table)

    def _account(self, key: StreamKey) -> Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(*key, lambda hour, index: self._parts(key, hour, index))
        return account

    def _parts(self, key: StreamKey, hour: int, index: np.ndarray) -> np.ndarray:
        return np.full(len(index), self._certified.get((key, hour), 0))

    def is_due(self, now_ns: Nanos) -> bool:
        """Tell whether an hour is over; what belongs to it must then be written before `certify` is called."""
        hour = (now_ns - GRACE_NS) // HOUR_NS
        if self._hour_due is None:
            self._hour_due = hour
        return hour > self._hour_due

    def certify(self, now_ns: Nanos) -> None:
        """Write the certificates of the hours that are over.

        Raises:
            StorageError: they could not be written; the next call tries again.
        """
        hour = (now_ns - GRACE_NS) // HOUR_NS
        self._write(hour, is_final=False)
        self._hour_due = hour

    def close(self) -> None:
        """Write the certificates of all there is.

        Raises:
            StorageError: they could not be written; the next call tries again.
        """
        for key, waiting in self._waiting.items():
            self._account(key).take(pa.concat_tables(waiting).sort_by("index"))
        self._waiting.clear()
        self._write(None, is_final=True)

    def _write(self, before: int | None, *, is_final: bool) -> None:
        due = [
            (account, key)
            for _, account in sorted(self._accounts.items())
            for key in sorted(account.hours)
            if before is None or key[0] < before
        ]
        certificates = [self._certificate(account, key) for account, key in due]
        notes = notes_certificates(self._notes)
        is_noted = sum(note.rows for note in notes) > self._notes_certified
        if not certificates and not is_noted and not (is_final and self._number):
            return
        file = CertificateFile(
            version=VERSION,
            start=self.start,
            number=self._number,
            is_final=is_final,
            is_recovered=False,
            certificates=certificates,
            notes=notes,
        )
        write_certificates(self.directory, file)
        self._number += 1
        self._notes_certified = sum(note.rows for note in notes)
        for account, (hour, part) in due:
            del account.hours[hour, part]
            self._certified[(account.instrument, account.channel), hour] = part + 1
            self._copies.pop((account.instrument, account.channel.name.lower(), hour), None)

    def _certificate(self, account: Account, key: tuple[int, int]) -> Certificate:
        copies = self._copies.get((account.instrument, account.channel.name.lower(), key[0]), {})
        return account.certificate(key, copies)


def notes_certificates(digests: dict[str, RowsDigest]) -> list[NotesCertificate]:
    """Give what is known of the tables of notes as certificates."""
    return [
        NotesCertificate(table=name, rows=digest.rows, content=digest.text())
        for name, digest in sorted(digests.items())
    ]


def copies_of(table: pa.Table) -> Copies:
    """Count the copies in rows of the table of arrivals."""
    wanted = table.select(["line", "instrument", "channel", "kind", "ts_recv_ns", "is_late"])
    hours = wanted.column("ts_recv_ns").to_numpy() // HOUR_NS
    late = wanted.column("is_late").to_numpy()
    names = {name: wanted.column(name).cast(pa.string()) for name in ("line", "instrument", "channel", "kind")}
    plain = pa.table({**names, "hour": hours}).filter(pa.array(~late))
    plain = plain.filter(pc.is_in(plain.column("kind"), pa.array(["snapshot", "delta", "trade"])))
    counted = plain.group_by(["instrument", "channel", "hour", "line"]).aggregate([([], "count_all")])
    copies: Copies = {}
    for row in counted.to_pylist():
        lines = copies.setdefault((row["instrument"], row["channel"], row["hour"]), {})
        lines[row["line"]] = row["count_all"]
    return copies
