"""A recording carried to a place elsewhere, and read from there: whole files, retried, nothing lost."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pyarrow.fs as pafs
import pytest

from raytrade.actors.carrier import Carrier
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.compaction import compact
from raytrade.storage.recording import open_recording
from raytrade.storage.remote import Place, Uploader, is_uri, mirror
from raytrade.storage.retention import prune
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from tests.cli.commands import Commands
from tests.unit.storage.recordings import BTC, DAY_NS, NOON_NS, delta, gap, snapshot
from tests.unit.storage.streams import message


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(capsys, monkeypatch)


def make(directory: Path, first: int = 1, last: int = 30) -> None:
    from raytrade.storage.durable import next_indexes

    sink = ParquetSink(directory, SinkSettings(segment_messages_max=5), next_indexes(directory), certify=True)
    events: list[Any] = [snapshot(first, NOON_NS + first)]
    events += [delta(at, at + 1, NOON_NS + at + 1) for at in range(first, last)]
    events.append(gap(last, last, NOON_NS + last + 1))
    for event in events:
        sink.write([message(event)], event.ts_recv_ns)
    sink.close()


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


class Flaky:
    """A file system that fails now and then, or takes less than it is given."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self._inner = pafs.SubTreeFileSystem(str(root), pafs.LocalFileSystem())
        self.calls = 0
        self.failing = True
        self.is_short = False

    def __getattr__(self, name: str) -> Any:
        if name in ("open_output_stream", "move"):
            self.calls += 1
            if self.failing and self.calls % 3 == 0:
                raise OSError(110, "Connection timed out")
        return getattr(self._inner, name)

    def get_file_info(self, wanted: Any) -> Any:
        found = self._inner.get_file_info(wanted)
        return (
            pafs.FileInfo(found.path, found.type, size=found.size - 1)
            if self.is_short and isinstance(wanted, str)
            else found
        )


def test_what_is_carried_is_the_same_and_read_from_there(tmp_path: Path) -> None:
    here, there, uri = tmp_path / "here", tmp_path / "there", (tmp_path / "there").as_uri()
    make(here)
    uploader = Uploader(here, Place(uri))
    done = uploader.run()
    assert (done.files, done.waiting, done.problem) == (len(names(here)), 0, "")
    assert names(there) == names(here)
    assert uploader.run().files == done.files
    assert Uploader(here, Place(uri)).run().files == 0, "another start knows what is there"
    copy = mirror(uri, tmp_path / "copy")
    assert verify_recording(copy).lies == []
    assert open_recording(copy).book(BTC).equals(open_recording(here).book(BTC))


def test_failures_are_told_and_tried_again(tmp_path: Path) -> None:
    here = tmp_path / "here"
    make(here)
    place = Flaky(tmp_path / "there")
    uploader = Uploader(here, Place("bucket/recordings", place))
    rounds = 0
    while uploader.run().problem:
        rounds += 1
        assert "Connection timed out" in uploader.counts.problem
        assert uploader.counts.waiting > 0
        assert rounds < 100
    assert rounds > 1
    assert names(tmp_path / "there" / "bucket" / "recordings") == names(here)
    make(here, 60, 80)
    place.failing, place.is_short = False, True
    assert "bytes of" in uploader.run().problem
    waiting = uploader.counts.waiting
    assert waiting == len(names(here) - names(tmp_path / "there" / "bucket" / "recordings"))
    place.is_short = False
    assert (uploader.run().problem, uploader.counts.waiting) == ("", 0)


def test_compacted_days_take_the_place_of_their_sources_and_pruned_ones_stay(tmp_path: Path) -> None:
    here, there, uri = tmp_path / "here", tmp_path / "there", (tmp_path / "there").as_uri()
    make(here)
    uploader = Uploader(here, Place(uri))
    uploader.run()
    mirror(uri, tmp_path / "copy")
    compact(here)
    uploader.run()
    assert names(there) == names(here)
    assert names(mirror(uri, tmp_path / "copy")) == names(here)
    before = names(there)
    assert prune(here, 1, NOON_NS + 9 * DAY_NS).files > 0
    uploader.run()
    assert names(there) == before
    assert verify_recording(mirror(uri, tmp_path / "copy")).lies == []


def test_a_carrier_tells_when_it_cannot_and_when_it_can_again(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    make(here)
    there.write_text("no directory")
    told: list[str] = []
    failed, resumed = Event(), Event()

    def note(problem: str) -> None:
        told.append(problem)
        (failed if problem else resumed).set()

    carrier = Carrier(Uploader(here, Place(there.as_uri())), note, every_s=0.01)
    assert failed.wait(20)
    assert carrier.is_behind()
    there.unlink()
    assert resumed.wait(20)
    assert not carrier.is_behind()
    assert carrier.stop() == ""
    assert names(there) == names(here)
    assert len(told) == 2


def test_sql_and_open_take_a_uri(tmp_path: Path, run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "here")
    uri = (tmp_path / "here").as_uri()
    assert open_recording(uri).book(BTC).num_rows > 30
    assert run("sql", "SELECT count(*) AS n FROM gaps", "--data", uri, "--json").out == '{"n":1}\n'
    assert run("sql", "SELECT 1", "--data", (tmp_path / "nothing").as_uri()).status == 2
    assert run("sql", "SELECT 1", "--data", "nowhere://x").status == 2


def test_bad_places_are_named(tmp_path: Path) -> None:
    assert [is_uri(text) for text in ("s3://b/x", "file:///x", "/data", "data", "C:x")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(ConfigError, match="nowhere://x: cannot be used"):
        Place("nowhere://x")
    with pytest.raises(ConfigError, match="has no recording in it"):
        mirror(tmp_path.as_uri(), tmp_path / "copy")
    make(tmp_path / "here")
    (tmp_path / "copy").write_text("no directory")
    with pytest.raises(StorageError, match="cannot be fetched"):
        mirror((tmp_path / "here").as_uri(), tmp_path / "copy")
