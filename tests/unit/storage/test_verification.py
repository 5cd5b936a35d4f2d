"""Certificates: computed again from the files they hold, and no file can be touched without being named."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raytrade.core.book import L2Book
from raytrade.core.checksum import kraken
from raytrade.core.clock import SECOND
from raytrade.core.events import BookSnapshot, Channel, Event, Flag, Gap, Resynced, Stalled
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError, StorageError
from raytrade.replay import apply
from raytrade.storage import checkpoints
from raytrade.storage.certificates import (
    HOUR_NS,
    Certificate,
    CertificateFile,
    certificate_paths,
    read_certificates,
    write_certificates,
)
from raytrade.storage.compaction import compact
from raytrade.storage.durable import next_indexes
from raytrade.storage.queries import Database
from raytrade.storage.recording import Recording
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import Verification, verify_recording
from tests.unit.storage.recordings import BTC, KRAKEN, NOON_NS, delta, gap, random_stream, snapshot, trade
from tests.unit.storage.test_league import logged, two_lines

Change = Callable[[Path], None]


def certified(directory: Path, events: list[Any], messages_max: int = 1000, *, close: bool = True) -> ParquetSink:
    """Record events as one start of a recorder does, with certificates."""
    sink = ParquetSink(directory, SinkSettings(segment_messages_max=messages_max), certify=True)
    for event in events:
        sink.write([parse(encode(event, "1"))], event.ts_recv_ns)
    if close:
        sink.close()
    else:
        sink.flush()
    return sink


def certificates(directory: Path) -> list[Certificate]:
    return [one for path in certificate_paths(directory) for one in read_certificates(path).certificates]


def problems(found: Verification) -> list[str]:
    return [str(lie) for lie in found.lies]


def stream(count: int = 300, first: int = 100) -> list[Event]:
    """Give a whole book that no gap interrupts, and trades."""
    events: list[Event] = [snapshot(first, NOON_NS)]
    for number in range(count):
        at_ns = NOON_NS + (number + 1) * SECOND // 4
        events.append(delta(first + number, first + number + 1, at_ns))
        events.append(trade(number + 1, at_ns))
    return events


def segment(directory: Path, channel: str = "book", at: int = 0) -> Path:
    return sorted(directory.glob(f"venue=*/instrument=*/channel={channel}/date=*/*.parquet"))[at]


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a segment anew, as a whole and readable file."""
    pq.write_table(change(pq.ParquetFile(path).read()), path, compression="zstd", write_page_checksum=True)


def resealed(directory: Path, **changes: Any) -> None:
    """Change a certificate and seal it as its writer would."""
    (path,) = certificate_paths(directory)
    file = read_certificates(path)
    first, *others = file.certificates
    path.unlink()
    changed = msgspec.structs.replace(first, **changes)
    write_certificates(directory, msgspec.structs.replace(file, certificates=[changed, *others]))


@pytest.mark.parametrize("seed", range(2))
def test_what_was_written_is_what_is_certified(tmp_path: Path, seed: int) -> None:
    events = random_stream(seed, 1500)
    certified(tmp_path, events, 137)
    found = verify_recording(tmp_path)
    assert problems(found) == []
    (report,) = found.streams
    messages = [event for event in events if not isinstance(event, Gap)]
    assert (report.messages, report.certified, report.uncertified) == (len(messages), len(messages), 0)
    # A gap shows in the ids only when something comes after it.
    last = max(at for at, event in enumerate(events) if isinstance(event, BookSnapshot))
    assert report.missing == sum(isinstance(event, Gap) for event in events[:last])
    assert report.untold == 0
    assert report.states > 10


def test_the_state_in_a_certificate_is_that_of_a_live_book(tmp_path: Path) -> None:
    events = random_stream(7, 1500)
    certified(tmp_path, events)
    book, hashes, index = L2Book(BTC), {}, 0
    for event in events:
        apply(book, event)
        if not isinstance(event, Gap):
            hashes[index] = (book.id_last, book.state_hash())
            index += 1
    states = [state for certificate in certificates(tmp_path) for state in certificate.states]
    assert len(states) > 10
    assert all(hashes[state.index] == (state.id_last, state.state_hash) for state in states)


def test_how_the_rows_are_cut_into_files_does_not_matter(tmp_path: Path) -> None:
    events = random_stream(5, 300)
    for messages_max in (9, 50, 1000):
        certified(tmp_path / str(messages_max), events, messages_max)
    one, other, third = (certificates(tmp_path / name) for name in ("9", "50", "1000"))
    assert one == other == third


def test_a_certificate_says_what_there_is(tmp_path: Path) -> None:
    events = [snapshot(100, NOON_NS), delta(100, 103, NOON_NS + SECOND), gap(103, 110, NOON_NS + 2 * SECOND)]
    events += [delta(110, 112, NOON_NS + 3 * SECOND, flags=Flag.UNAPPLIED), snapshot(115, NOON_NS + 9 * SECOND)]
    certified(tmp_path, events)
    (said,) = certificates(tmp_path)
    assert (said.instrument, said.channel, said.hour) == (BTC, "book", "2022-01-08T12")
    assert (said.first_id, said.last_id, said.messages, said.snapshots, said.unapplied) == (100, 115, 4, 2, 1)
    assert said.missing == [(103, 110), (112, 115)]
    assert said.silence_ns == 6 * SECOND
    assert said.lines == {"1": 4}
    # Between 112 and 115 nothing came, and the gap says so only up to 110.
    assert [report.untold for report in verify_recording(tmp_path).streams] == [1]


def test_hours_are_certified_when_they_are_over_and_what_is_late_gets_a_certificate_of_its_own(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, SinkSettings(), certify=True)

    def write(*events: Event) -> None:
        for event in events:
            sink.write([parse(encode(event, "1"))], event.ts_recv_ns)

    write(snapshot(100, NOON_NS), delta(100, 101, NOON_NS + 1))
    sink.flush_due(NOON_NS + 2)
    assert certificates(tmp_path) == []
    write(delta(101, 102, NOON_NS + HOUR_NS))
    sink.flush_due(NOON_NS + HOUR_NS + 130 * SECOND)
    assert [(one.hour, one.messages) for one in certificates(tmp_path)] == [("2022-01-08T12", 2)]
    write(delta(102, 103, NOON_NS + HOUR_NS - 1))
    sink.close()
    assert [(one.hour[-2:], one.messages) for one in certificates(tmp_path)] == [("12", 2), ("12", 1), ("13", 1)]
    found = verify_recording(tmp_path)
    assert problems(found) == []
    assert [(report.hours, report.certified, report.uncertified) for report in found.streams] == [(2, 4, 0)]


def test_days_that_interleave_are_counted_in_the_order_of_the_stream(tmp_path: Path) -> None:
    midnight_ns = NOON_NS + 12 * HOUR_NS
    events: list[Any] = [snapshot(100, midnight_ns - SECOND)]
    times = [midnight_ns + step * SECOND // 2 for step in (-1, 1, -2, 3, -1, 4, 50, 90)]
    events += [delta(100 + at, 101 + at, time_ns) for at, time_ns in enumerate(times)]
    certified(tmp_path, events, 2)
    assert problems(verify_recording(tmp_path)) == []


def test_a_killed_start_has_no_certificates_and_is_checked_all_the_same(tmp_path: Path) -> None:
    certified(tmp_path, stream(), 50, close=False)
    found = verify_recording(tmp_path)
    assert problems(found) == []
    assert sum(report.uncertified for report in found.streams) == 601
    segment(tmp_path, at=2).unlink()
    assert len(problems(verify_recording(tmp_path))) >= 1


def test_what_a_killed_start_wrote_is_certified_once_another_has_gone_on(tmp_path: Path) -> None:
    events = stream()
    certified(tmp_path, events[:401], 50, close=False)
    assert verify_recording(tmp_path, certify=True).recovered == [], "it may still be running"
    again = ParquetSink(tmp_path, SinkSettings(), next_indexes(tmp_path), certify=True)
    for event in events[401:]:
        again.write([parse(encode(event, "1"))], event.ts_recv_ns)
    again.close()
    found = verify_recording(tmp_path, certify=True)
    assert problems(found) == []
    assert len(found.recovered) == 1
    assert read_certificates(Path(found.recovered[0])).is_recovered
    found = verify_recording(tmp_path, certify=True)
    assert problems(found) == found.recovered == []
    assert sum(report.uncertified for report in found.streams) == 0
    change_a_size(tmp_path)
    assert len(problems(verify_recording(tmp_path))) == 1


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_are_found_or_harmless(tmp_path: Path, seed: int) -> None:
    """Wherever a bit flips: verification names it, or every row is what it was."""
    certified(tmp_path, stream(40))
    rows = [Recording(tmp_path).book(BTC).to_pylist(), Recording(tmp_path).trades(BTC).to_pylist()]
    rng = random.Random(seed)
    path = rng.choice([*tmp_path.glob("venue=*/**/*.parquet"), *certificate_paths(tmp_path)])
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    if problems(verify_recording(tmp_path)) == []:
        assert [Recording(tmp_path).book(BTC).to_pylist(), Recording(tmp_path).trades(BTC).to_pylist()] == rows


def flip(directory: Path) -> None:
    path = segment(directory)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def remove_rows(directory: Path) -> None:
    rewritten(segment(directory), lambda table: pa.concat_tables([table.slice(0, 40), table.slice(41)]))


def remove_last_rows(directory: Path) -> None:
    rewritten(segment(directory, at=-2), lambda table: table.slice(0, table.num_rows - 2))


def swap_rows(directory: Path) -> None:
    def swapped(table: pa.Table) -> pa.Table:
        column = table.column("ts_recv_ns").to_pylist()
        column[10], column[11] = column[11], column[10]
        at = table.column_names.index("ts_recv_ns")
        return table.set_column(at, "ts_recv_ns", pa.array(column))

    rewritten(segment(directory, "trades"), swapped)


def change_a_size(directory: Path) -> None:
    def changed(table: pa.Table) -> pa.Table:
        column = table.column("size").to_pylist()
        column[5] += 1
        at = table.column_names.index("size")
        return table.set_column(at, "size", pa.array(column, table.schema.field("size").type))

    rewritten(segment(directory), changed)


def change_a_line(directory: Path) -> None:
    def changed(table: pa.Table) -> pa.Table:
        lines = ["2", *["1"] * (table.num_rows - 1)]
        at = table.column_names.index("line")
        return table.set_column(at, "line", pa.array(lines).dictionary_encode())

    rewritten(segment(directory), changed)


LIES: dict[str, tuple[Change, str]] = {
    "flipped bits": (flip, "cannot be read|is said to be"),
    "a removed file": (lambda directory: segment(directory, at=1).unlink(), "is said to be|are in no file"),
    "removed rows": (remove_rows, "is said to be|are in no file"),
    "removed rows at the end": (remove_last_rows, "is said to be"),
    "swapped rows": (swap_rows, "trades: 2022-01-08T12: (content|silence_ns) is said to be"),
    "a changed size": (change_a_size, "content is said to be|states"),
    "a changed line": (change_a_line, "(content|lines) is said to be"),
    "removed certificates": (lambda directory: certificate_paths(directory)[0].unlink(), "are not there"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_found(tmp_path: Path, name: str) -> None:
    change, wanted = LIES[name]
    sink = ParquetSink(tmp_path, SinkSettings(segment_messages_max=60), certify=True)
    for event in stream():
        sink.write([parse(encode(event, "1"))], event.ts_recv_ns)
    sink.flush_due(NOON_NS)
    sink.flush_due(NOON_NS + HOUR_NS + 130 * SECOND)
    late = delta(400, 401, NOON_NS + HOUR_NS)
    sink.write([parse(encode(late, "1"))], late.ts_recv_ns)
    sink.close()
    assert problems(verify_recording(tmp_path)) == []
    change(tmp_path)
    found = problems(verify_recording(tmp_path))
    assert found
    assert re.search(wanted, found[0]), found[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", 299),
        ("first_id", 99),
        ("last_id", 4711),
        ("rows", 1),
        ("missing", [(5, 6)]),
        ("lines", {"1": 300, "2": 1}),
        ("silence_ns", 1),
        ("checksums", 1),
        ("snapshots", 0),
        ("states", []),
        ("content", "00" * 16),
        ("copies", {"1": 10**6}),
    ],
)
def test_an_edited_certificate_is_found_however_well_it_is_sealed(tmp_path: Path, field: str, value: object) -> None:
    certified(tmp_path, stream())
    resealed(tmp_path, **{field: value})
    (problem,) = problems(verify_recording(tmp_path))
    assert "certificates" in problem
    assert f"{BTC}/book: 2022-01-08T12" in problem


def test_an_edited_certificate_that_was_not_sealed_is_found(tmp_path: Path) -> None:
    certified(tmp_path, stream())
    (path,) = certificate_paths(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"messages": 301', b'"messages": 300'))
    (problem,) = problems(verify_recording(tmp_path))
    assert "its seal does not hold" in problem
    with pytest.raises(StorageError, match="seal"):
        read_certificates(path)


def test_a_certificate_of_another_version_is_named(tmp_path: Path) -> None:
    certified(tmp_path, stream())
    (path,) = certificate_paths(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 9'))
    assert "has version 9" in problems(verify_recording(tmp_path))[0]
    path.write_text("[]")
    assert "is no file of certificates" in problems(verify_recording(tmp_path))[0]


def test_missing_ids_that_nothing_admits_are_a_lie(tmp_path: Path) -> None:
    events = stream(20)
    del events[11]
    certified(tmp_path / "silent", events, close=False)
    (problem,) = problems(verify_recording(tmp_path / "silent"))
    assert "ids 105 to 106 are missing, and nothing in the files says so" in problem
    certified(tmp_path / "told", [*events, gap(105, 106, NOON_NS)], close=False)
    assert problems(verify_recording(tmp_path / "told")) == []


def test_checksums_of_the_venue_are_held_against_the_book(tmp_path: Path) -> None:
    book, events = L2Book(KRAKEN), []
    for number in range(1, 30):
        bids = (10_000 - number, number)
        event = (
            snapshot(1, NOON_NS, name=KRAKEN, epoch=5)
            if number == 1
            else delta(number - 1, number, NOON_NS + number, name=KRAKEN, epoch=5, bids=bids)
        )
        book.apply(event)
        events.append(msgspec.structs.replace(event, flags=Flag.CHECKED, state_hash=kraken(book)))
    certified(tmp_path / "good", events)
    found = verify_recording(tmp_path / "good")
    assert problems(found) == []
    assert found.streams[0].checksums == 29
    events[20] = msgspec.structs.replace(events[20], state_hash=1)
    certified(tmp_path / "bad", events)
    (problem,) = problems(verify_recording(tmp_path / "bad"))
    assert "has not the checksum that the venue sent" in problem


def test_copies_are_those_of_the_log_of_arrivals(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, certify=True)
    arrivals = sink.arrivals()
    copies = two_lines(40)
    logged(tmp_path, copies, arrivals)
    for _, line, event in copies:
        if line == "a":
            sink.write([parse(encode(event, "a"))], NOON_NS)
    sink.close()
    (said,) = certificates(tmp_path)
    assert said.copies == {"a": 41, "b": 41}
    found = verify_recording(tmp_path)
    assert problems(found) == []
    assert found.streams[0].copies == 82
    for path in (tmp_path / "arrivals").rglob("*.parquet"):
        rewritten(path, lambda table: table.slice(5))
    problem = problems(verify_recording(tmp_path))[0]
    assert "copies, the log of arrivals has" in problem


def test_bad_files_are_quarantined_and_the_rest_is_used(tmp_path: Path) -> None:
    certified(tmp_path, stream(), 60)
    bad = segment(tmp_path, at=1)
    bad.write_bytes(bad.read_bytes()[:-100])
    foreign = bad.with_name("foreign-000001.parquet")
    pq.write_table(pa.table({"x": [1]}), foreign)
    found = verify_recording(tmp_path, quarantine=True)
    assert [Path(path).name for path in found.quarantined] == [bad.name, foreign.name]
    assert not bad.exists() and not foreign.exists()
    assert any(bad.name in problem for problem in problems(found))
    # What is left is read, and says what is missing.
    found = verify_recording(tmp_path)
    assert [lie.problem for lie in found.lies if "ids" in lie.problem] != []
    assert len(list(Recording(tmp_path).events(channels=["trades"]))) == 300


def test_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no recording"):
        verify_recording(tmp_path)


def test_a_book_read_back_is_not_live_while_no_line_was_up(tmp_path: Path) -> None:
    name: dict[str, Any] = {"instrument": BTC, "channel": Channel.BOOK}
    down, up = NOON_NS + 5 * SECOND, NOON_NS + 9 * SECOND
    events = [snapshot(100, NOON_NS), delta(100, 101, NOON_NS + SECOND)]
    events += [Stalled(**name, cause="all lines are down", ts_recv_ns=down)]
    events += [Resynced(**name, id_last=101, ts_recv_ns=up), delta(101, 102, up), delta(102, 103, up + SECOND)]
    certified(tmp_path, events)
    recording = Recording(tmp_path)
    live = [recording.book_at(BTC, at_ns).top() is not None for at_ns in (down - 1, down, up - 1, up, up + SECOND)]
    assert live == [True, False, False, True, True]
    assert [type(event).__name__ for event in recording.events()][2:4] == ["Stalled", "Resynced"]
    assert recording.gaps().num_rows == 0
    assert problems(verify_recording(tmp_path)) == []


def test_a_stall_that_a_start_did_not_live_to_end_is_over_with_the_next(tmp_path: Path) -> None:
    stalled = Stalled(instrument=BTC, channel=Channel.BOOK, cause="all lines are down", ts_recv_ns=NOON_NS + SECOND)
    certified(tmp_path, [snapshot(100, NOON_NS), delta(100, 101, NOON_NS), stalled], close=False)
    again = ParquetSink(tmp_path, SinkSettings(), {(BTC, Channel.BOOK): 2}, certify=True)
    again.write([parse(encode(delta(101, 102, NOON_NS + 5 * SECOND), "1"))], NOON_NS)
    again.close()
    recording = Recording(tmp_path)
    live = [recording.book_at(BTC, NOON_NS + at * SECOND).top() is not None for at in (0, 1, 4, 5)]
    assert live == [True, False, False, True]


def test_a_resync_that_ends_no_stall_is_not_kept(tmp_path: Path) -> None:
    resynced = Resynced(instrument=BTC, channel=Channel.BOOK, id_last=100, ts_recv_ns=NOON_NS)
    certified(tmp_path, [snapshot(100, NOON_NS), resynced])
    assert not (tmp_path / "states").exists()


def test_the_files_of_one_start_are_numbered(tmp_path: Path) -> None:
    certified(tmp_path, stream(4))
    (path,) = certificate_paths(tmp_path)
    file = read_certificates(path)
    assert isinstance(file, CertificateFile)
    assert (file.number, file.is_final, file.is_recovered) == (0, True, False)


def test_gaps_and_states_are_certified_too(tmp_path: Path) -> None:
    stalled = Stalled(instrument=BTC, channel=Channel.BOOK, cause="all lines are silent", ts_recv_ns=NOON_NS + 3)
    sink = ParquetSink(tmp_path, certify=True)
    events: list[Any] = [snapshot(1, NOON_NS), gap(1, 5, NOON_NS + 1), stalled, gap(7, 9, NOON_NS + 4)]
    for at, event in enumerate(events):
        sink.write([parse(encode(event, "1"))], NOON_NS + at)
        sink.flush()
    sink.close()
    assert verify_recording(tmp_path).lies == []
    compact(tmp_path)
    assert verify_recording(tmp_path).lies == []
    (path,) = (tmp_path / "gaps").glob("*.parquet")
    original = path.read_bytes()
    table = pq.ParquetFile(path).read()
    for changed, problem in (
        (table.slice(0, 1), "says that there are 2 rows of gaps, the files hold 1"),
        (pa.concat_tables([table, table.slice(1)]), "speaks of 2 rows of gaps, the files hold 3"),
        (pa.concat_tables([table.slice(1), table.slice(0, 1)]), "the rows of gaps are not those it speaks of"),
    ):
        pq.write_table(changed, path)
        assert problem in " ".join(str(lie) for lie in verify_recording(tmp_path).lies)
    path.write_bytes(original)
    (tmp_path / "states" / next((tmp_path / "states").iterdir()).name).unlink()
    assert "says that there are 1 rows of states, the files hold 0" in str(verify_recording(tmp_path).lies[0])


def test_certificates_of_the_first_version_are_read(tmp_path: Path) -> None:
    certified(tmp_path, [snapshot(1, NOON_NS), delta(1, 2, NOON_NS + 1)])
    (path,) = certificate_paths(tmp_path)
    file = msgspec.json.decode(path.read_bytes())
    del file["notes"]
    plain = msgspec.json.encode(file | {"version": 1, "seal": ""})
    path.write_bytes(msgspec.json.encode(file | {"version": 1, "seal": sha256(plain).hexdigest()[:32]}))
    assert verify_recording(tmp_path).lies == []
    path.write_bytes(path.read_bytes().replace(b'"messages":2', b'"messages":3'))
    assert "its seal does not hold" in str(verify_recording(tmp_path).lies[0])


def test_every_kind_of_bad_file_is_named_and_put_aside_and_the_rest_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "ROWS_BETWEEN", 1)
    monkeypatch.setattr(checkpoints, "LEVELS_SHARE", 0)
    events = stream(60)
    certified(tmp_path, events, 10)
    paths = sorted(tmp_path.glob("venue=*/*/channel=book/*/*.parquet"))
    (checkpoint, *_) = sorted((tmp_path / "checkpoints").rglob("*.parquet"))
    truncated, flipped, version = paths[1], paths[2], paths[4]
    foreign = paths[0].with_name("notes.parquet")
    log = tmp_path / "wal" / "deadbeef-000000.arrows"
    log.parent.mkdir()
    log.write_bytes(pa.schema([("x", pa.int64())]).serialize().to_pybytes())
    truncated.write_bytes(truncated.read_bytes()[:-50])
    flipped.write_bytes(bytes(byte ^ (at == 700) for at, byte in enumerate(flipped.read_bytes())))
    checkpoint.write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1]}), foreign)
    table = pq.ParquetFile(version).read()
    pq.write_table(table.replace_schema_metadata({"raytrade.table_version": "77"}), version)
    bad = {truncated, flipped, version, foreign, checkpoint, log}
    told = " ".join(problems(verify_recording(tmp_path)))
    assert all(str(path) in told for path in bad)
    left_out = Recording(tmp_path, skip_bad=True)
    rows = left_out.book(BTC).num_rows
    assert {error.path for error in left_out.skipped} == {str(path) for path in bad - {checkpoint, log}}
    counted = Database(Recording(tmp_path, skip_bad=True)).query("SELECT count(*) AS n FROM book")
    assert counted.to_pylist() == [{"n": rows}]
    found = verify_recording(tmp_path, quarantine=True)
    assert len(found.quarantined) == len(bad)
    assert not any(path.exists() for path in bad)
    assert Recording(tmp_path).book(BTC).num_rows == rows > 20
    assert any(isinstance(event, Gap) for event in Recording(tmp_path).events())
