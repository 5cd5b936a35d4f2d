"""Verification: every certificate computed again from the files alone, and every hole held against what is admitted.

What a certificate says and the files do not (or the other way round) is a *lie*; so is a break of the ids that no row
of `gaps` and no certificate admits, a message of which the index is in no file, a checksum of the venue that the
book in the files does not have, and a file that cannot be read. Rows that no certificate speaks of (of an hour that is
not over, or of a start that was killed) are counted and checked for everything that needs no certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.events import Channel, Flag
from raytrade.core.message import Kind, decode
from raytrade.errors import ConfigError, StorageError
from raytrade.replay import apply
from raytrade.rules import rule_of
from raytrade.storage import arrivals
from raytrade.storage.accounts import Account
from raytrade.storage.breaks import CHAINED, Chain, Range, rule_or_none, without
from raytrade.storage.certificates import (
    VERSION,
    Certificate,
    CertificateFile,
    certificate_paths,
    hour_number,
    hour_text,
    read_certificates,
    write_certificates,
)
from raytrade.storage.certifier import Copies, copies_of, notes_certificates
from raytrade.storage.checkpoints import checkpoint_paths, read_checkpoint
from raytrade.storage.files import QUARANTINE, move_aside
from raytrade.storage.merging import is_fill
from raytrade.storage.names import segments_in, start_of
from raytrade.storage.notes import NotesKey, digests_of, lies_of, read_notes
from raytrade.storage.recording import Recording
from raytrade.storage.retention import read_retention
from raytrade.storage.runs import Run, Unit, heads_of, runs_of
from raytrade.storage.segments import Segment, read_rows, read_segment
from raytrade.storage.source import Stream
from raytrade.storage.wal import is_live, log_paths, read_log


class Lie(msgspec.Struct, frozen=True):
    """What is not as it is said to be: in which file, of which stream and hour."""

    path: str
    instrument: str
    channel: str
    hour: str
    problem: str

    def __str__(self) -> str:
        parts = [self.path, f"{self.instrument}/{self.channel}" if self.instrument else "", self.hour, self.problem]
        return ": ".join(part for part in parts if part)


class StreamReport(msgspec.Struct):
    """What was checked of one stream. `untold`: breaks of the ids that a certificate admits and no row of `gaps`."""

    instrument: str
    channel: str
    provable: bool
    hours: int = 0
    messages: int = 0
    certified: int = 0
    uncertified: int = 0
    missing: int = 0
    untold: int = 0
    states: int = 0
    checksums: int = 0
    copies: int = 0


class Verification(msgspec.Struct):
    """The outcome."""

    streams: list[StreamReport] = []
    lies: list[Lie] = []
    quarantined: list[str] = []
    recovered: list[str] = []
    """Files of certificates written for starts that were killed."""


class _Certified(msgspec.Struct):
    """The certificates of one start of one stream, each with the file it stands in; by hour, in the order of index."""

    hours: dict[int, list[tuple[Certificate, str]]] = {}

    def parts(self, hour: int, index: np.ndarray) -> np.ndarray:
        bounds = np.array([certificate.index_last for certificate, _ in self.hours.get(hour, [])], np.int64)
        return np.searchsorted(bounds, index)


StreamKey = tuple[str, Channel]


class Verifier:
    """Checks one directory; with `quarantine` files that cannot be read are moved aside.

    With `certify` the rows of starts that were killed, and that no certificate speaks of, get certificates now: a start
    is known to be over when a later one has gone on from it.
    """

    def __init__(self, directory: Path, *, quarantine: bool = False, certify: bool = False) -> None:
        """Look what there is.

        Raises:
            ConfigError: there is no such directory, or no recording in it.
            StorageError: it cannot be read since when files are kept.
        """
        self.directory = directory
        self.found = Verification()
        self._quarantine = quarantine
        self._certify = certify
        self._recovered: dict[str, list[Certificate]] = {}
        self._numbers: dict[str, list[int]] = {}
        self._files: dict[str, list[tuple[Path, CertificateFile]]] = {}
        self._notes: dict[NotesKey, pa.Table] = {}
        self._folders = Recording(directory).folders()
        self._certified: dict[tuple[StreamKey, str], _Certified] = {}
        self._withdrawn = self._read_quarantine()
        self._kept_from = _hour_of(read_retention(directory).before)

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Verification:
        """Check everything; the certificates first, then stream by stream: `progress` is told how many of how many."""
        self._read_certificates()
        self._read_notes()
        self._read_shortcuts()
        copies = self._read_arrivals()
        keys = sorted({*self._folders, *(key for key, _ in self._certified)})
        for number, key in enumerate(keys):
            progress(number, len(keys))
            self._verify_stream(key, copies)
        for start, certificates in sorted(self._recovered.items()):
            file = CertificateFile(
                version=VERSION,
                start=start,
                number=max(self._numbers.get(start, [-1])) + 1,
                is_final=True,
                is_recovered=True,
                certificates=certificates,
                notes=notes_certificates(digests_of(self._notes, start)),
            )
            self.found.recovered.append(str(write_certificates(self.directory, file)))
        return self.found

    # What cannot be read.

    def _lie(self, path: Path | str, problem: str, key: StreamKey | None = None, hour: str = "") -> None:
        instrument, channel = (key[0], key[1].name.lower()) if key is not None else ("", "")
        self.found.lies.append(Lie(str(path), instrument, channel, hour, problem))

    def _damaged(self, path: Path, error: StorageError, key: StreamKey | None = None) -> None:
        self._lie(path, error.problem, key)
        if self._quarantine:
            self.found.quarantined.append(str(move_aside(self.directory, path)))

    def _read_quarantine(self) -> set[str]:
        """Give the starts of which files were moved aside: what they certified cannot be asked of the rest."""
        return {start_of(path) for path in (self.directory / QUARANTINE).rglob("*") if path.is_file()}

    # What is said.

    def _read_certificates(self) -> None:
        for path in certificate_paths(self.directory):
            try:
                file = read_certificates(path)
                self._take_certificates(path, file)
            except StorageError as error:
                self._damaged(path, error)
                continue
            self._numbers.setdefault(file.start, []).append(file.number)
            self._files.setdefault(file.start, []).append((path, file))
        for start, known in self._numbers.items():
            for number in sorted(set(range(max(known))) - set(known)):
                if start not in self._withdrawn:
                    self._lie(self.directory, f"the certificates {start}-{number:06d} are not there")

    def _take_certificates(self, path: Path, file: CertificateFile) -> None:
        for certificate in file.certificates:
            try:
                key = certificate.instrument, Channel[certificate.channel.upper()]
                hour = hour_number(certificate.hour)
            except (KeyError, ValueError):
                raise StorageError(
                    str(path), f"certifies an unknown {certificate.channel} {certificate.hour}"
                ) from None
            held = self._certified.setdefault((key, file.start), _Certified())
            hours = held.hours.setdefault(hour, [])
            hours.append((certificate, str(path)))
            hours.sort(key=lambda pair: pair[0].index_last)

    def _read_notes(self) -> None:
        self._notes = read_notes(self.directory, self._damaged)
        for start, files in sorted(self._files.items()):
            if start not in self._withdrawn:
                for problem in lies_of(start, files, self._notes):
                    path, _, text = problem.partition(": ")
                    self._lie(path, text)

    def _read_shortcuts(self) -> None:
        """See that checkpoints and logs can be read; what a log holds comes into segments by `recover`."""
        for path, instrument in checkpoint_paths(self.directory):
            try:
                read_checkpoint(path, instrument)
            except StorageError as error:
                self._damaged(path, error)
        for path in log_paths(self.directory):
            if not is_live(path):
                found = read_log(path)
                if found.problem and not found.is_torn:
                    self._damaged(path, StorageError(str(path), found.problem))

    def _read_arrivals(self) -> dict[str, Copies]:
        """Count the copies in the log of arrivals, by start."""
        counted: dict[str, Copies] = {}
        for path in arrivals.segments_of(self.directory):
            try:
                found = copies_of(arrivals.read_arrivals(path))
            except StorageError as error:
                self._damaged(path, error)
                continue
            known = counted.setdefault(start_of(path), {})
            for key, lines in found.items():
                part = known.setdefault(key, {})
                for line, count in lines.items():
                    part[line] = part.get(line, 0) + count
        return counted

    # One stream.

    def _verify_stream(self, key: StreamKey, copies: dict[str, Copies]) -> None:
        rule = rule_or_none(*key)
        report = StreamReport(key[0], key[1].name.lower(), rule in CHAINED)
        self.found.streams.append(report)
        by_start: dict[str, list[Run]] = {}
        for run in runs_of(self._segments(key)):
            by_start.setdefault(run.start, []).append(run)
        starts = {*by_start, *(start for other, start in self._certified if other == key)}
        for start in sorted(starts):
            runs = by_start.get(start, [])
            account = self._verify_start(key, start, runs, report)
            if self._certify and runs and not is_fill(start) and _is_over(start, by_start):
                self._recover(key, start, account, copies.get(start, {}))
            self._verify_copies(key, start, copies.get(start, {}), report)
        if report.messages:
            self._verify_stream_as_read(key, report)

    def _segments(self, key: StreamKey) -> list[Segment]:
        segments = []
        folder = self._folders.get(key)
        for path in segments_in(folder, "date=*") if folder is not None else []:
            try:
                segments.append(read_segment(path, key[1]))
            except StorageError as error:
                self._damaged(path, error, key)
        return segments

    def _recover(self, key: StreamKey, start: str, account: Account, copies: Copies) -> None:
        """Certify what the start did not live to certify."""
        certified = self._certified.get((key, start), _Certified())
        for hour, part in sorted(account.hours):
            said = certified.hours.get(hour, [])
            if part >= len(said):
                lines = dict(copies.get((key[0], key[1].name.lower(), hour), {})) if not said else {}
                self._recovered.setdefault(start, []).append(account.certificate((hour, part), lines))

    def _verify_start(self, key: StreamKey, start: str, runs: list[Run], report: StreamReport) -> Account:
        certified = self._certified.get((key, start), _Certified())
        account = Account(*key, certified.parts)
        for unit in sorted((unit for run in runs for unit in run.units), key=lambda unit: unit.index_first):
            try:
                account.take(_rows(unit))
            except (StorageError, ValueError, IndexError) as error:
                self._damaged_unit(unit, error, key)
        self._compare(key, start, account, certified, report)
        for first, last in account.index_holes:
            if start not in self._withdrawn:
                self._lie(self.directory, f"messages {first} to {last} of {start} are in no file", key)
        for (hour, part), counted in account.hours.items():
            report.messages += counted.messages
            if part >= len(certified.hours.get(hour, [])):
                report.uncertified += counted.messages
        return account

    def _damaged_unit(self, unit: Unit, error: Exception, key: StreamKey) -> None:
        """Find which of the files that are read together is damaged."""
        for segment, groups in unit.pieces:
            try:
                read_rows(segment, groups)
            except StorageError as damage:
                self._damaged(segment.path, damage, key)
                return
        self._damaged(unit.pieces[0][0].path, StorageError("", f"is damaged: {' '.join(str(error).split())}"), key)

    def _compare(
        self, key: StreamKey, start: str, account: Account, certified: _Certified, report: StreamReport
    ) -> None:
        is_cut = any(hour < self._kept_from for hour in certified.hours)
        for hour, certificates in sorted(certified.hours.items()):
            if hour < self._kept_from:
                continue
            report.hours += 1
            for part, (said, path) in enumerate(certificates):
                report.certified += said.messages
                report.states += len(said.states)
                if (hour, part) not in account.hours:
                    problem = f"the files hold nothing of the {said.messages} messages it speaks of"
                else:
                    found = account.certificate((hour, part), said.copies)
                    if is_cut:  # what led to the first hour that is kept is not there any more
                        found = msgspec.structs.replace(found, states=said.states, missing=said.missing)
                    problem = _difference(said, found)
                if problem and start not in self._withdrawn:
                    self._lie(path, problem, key, hour_text(hour))

    def _verify_copies(self, key: StreamKey, start: str, copies: Copies, report: StreamReport) -> None:
        """Certificates may know of less than there is, as what came late is not in them, never of more."""
        name = key[1].name.lower()
        report.copies += sum(
            sum(lines.values())
            for (instrument, channel, _), lines in copies.items()
            if (instrument, channel) == (key[0], name)
        )
        for hour, certificates in self._certified.get((key, start), _Certified()).hours.items():
            if hour < self._kept_from:
                continue
            found = copies.get((key[0], name, hour), {})
            for line in {line for certificate, _ in certificates for line in certificate.copies}:
                said = sum(certificate.copies.get(line, 0) for certificate, _ in certificates)
                if found.get(line, 0) < said and start not in self._withdrawn:
                    problem = f"says that {line} brought {said} copies, the log of arrivals has {found.get(line, 0)}"
                    self._lie(certificates[0][1], problem, key, hour_text(hour))

    # The stream as readers get it.

    def _verify_stream_as_read(self, key: StreamKey, report: StreamReport) -> None:
        try:
            recording = Recording(self.directory, skip_bad=True)
            stream = recording.stream(*key)
            self._verify_chain(key, stream, recording, report)
            self._verify_checksums(key, stream, report)
        except StorageError as error:
            self._lie(error.path, error.problem, key)

    def _verify_chain(self, key: StreamKey, stream: Stream, recording: Recording, report: StreamReport) -> None:
        rule = rule_or_none(*key)
        if rule is None or rule not in CHAINED:
            return
        gaps = [gap for _, gap in recording.recorded_gaps() if (gap.instrument, gap.channel) == key]
        told = [(gap.id_prev, gap.id_last) for gap in gaps if gap.id_last]
        open_ends = {gap.id_prev for gap in gaps if not gap.id_last}
        admitted = [
            missing
            for (other, _), certified in self._certified.items()
            if other == key
            for certificates in certified.hours.values()
            for certificate, _ in certificates
            for missing in certificate.missing
        ]
        chain = Chain(rule)
        for missing in _breaks(stream, chain):
            report.missing += 1
            is_told = missing[0] in open_ends or (bool(told) and without(missing, told) == [])
            if not is_told and missing not in admitted and without(missing, [*told, *admitted]) != []:
                problem = f"ids {missing[0]} to {missing[1]} are missing, and nothing in the files says so"
                self._lie(self.directory, problem, key)
            elif not is_told:
                report.untold += 1

    def _verify_checksums(self, key: StreamKey, stream: Stream, report: StreamReport) -> None:
        """Hold the venue's own checksums against the book that the files give."""
        if key[1] is not Channel.BOOK:
            return
        try:
            checksum = CHECKSUMS.get(rule_of(*key).checksum)
        except ConfigError:
            return
        if checksum is None:
            return
        book = L2Book(key[0])
        for _, message in stream.messages():
            apply(book, decode(message))
            is_checked = message.flags & Flag.CHECKED and not message.flags & Flag.UNAPPLIED
            if is_checked and message.kind in (Kind.DELTA, Kind.SNAPSHOT) and book.top() is not None:
                report.checksums += 1
                if checksum(book) != message.state_hash:
                    problem = f"the book at {message.id_last} has not the checksum that the venue sent with it"
                    self._lie(self.directory, problem, key)
                    return


def _hour_of(day: str) -> int:
    return hour_number(f"{day}T00") if day else 0


def _is_over(start: str, by_start: dict[str, list[Run]]) -> bool:
    """Tell whether another start has gone on behind this one."""
    last = max(run.units[-1].index_last for run in by_start[start])
    others = (run for other, runs in by_start.items() if other != start and not is_fill(other) for run in runs)
    return any(run.units[0].index_first > last for run in others)


def _rows(unit: Unit) -> pa.Table:
    table = pa.concat_tables([read_rows(segment, groups) for segment, groups in unit.pieces])
    return table if len(unit.pieces) == 1 else table.sort_by("index")


def _breaks(stream: Stream, chain: Chain) -> Iterator[Range]:
    for run in stream.runs:
        for unit in run.taken:
            heads = heads_of([unit])
            taken = (heads.index >= run.index_from) & (heads.index <= run.index_to)
            ids = heads.ids[taken]
            is_trade = stream.channel is Channel.TRADES
            id_prev = ids - 1 if is_trade else heads.id_prev[taken]
            for _, missing in chain.follow(ids, id_prev, heads.is_snapshot[taken], heads.flags[taken]):
                yield missing


def _difference(said: Certificate, found: Certificate) -> str:
    """Say in which point a certificate differs from the files; an empty text if in none."""
    for name in Certificate.__struct_fields__:
        one, other = getattr(said, name), getattr(found, name)
        if one != other:
            return f"{name} is said to be {_short(one)}, the files give {_short(other)}"
    return ""


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def verify_recording(
    directory: Path,
    *,
    quarantine: bool = False,
    certify: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Check a recording; see `Verifier`.

    Raises:
        ConfigError: there is no such directory, or no recording in it.
    """
    return Verifier(directory, quarantine=quarantine, certify=certify).run(progress)
