"""Two recordings of one stream, each with holes of its own, become two whole ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Event, Side, Trade
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError, StorageError
from raytrade.replay import apply
from raytrade.storage.durable import next_indexes
from raytrade.storage.recording import Recording
from raytrade.storage.repair import repair
from raytrade.storage.sink import ParquetSink
from raytrade.storage.verification import verify_recording
from tests.unit.storage.recordings import BTC, NOON_NS, delta, gap, same, snapshot, trade
from tests.unit.storage.test_verification import certified, problems

HITBTC = "hitbtc-v2:ETHBTC"


def truth(count: int = 400, name: str = BTC) -> list[Event]:
    rng = random.Random(count)
    events: list[Event] = [snapshot(100, NOON_NS, name=name)]
    for number in range(count):
        at_ns = NOON_NS + (number + 1) * SECOND // 8
        bids = (9_900 + rng.randrange(60), rng.choice((0, 1, 5)))
        events.append(delta(100 + number, 101 + number, at_ns, name=name, bids=bids))
    return events


def with_hole(events: list[Event], first: int, last: int) -> list[Event]:
    """Leave out the messages `first` to `last`; a gap and a snapshot of the book stand in their place."""
    name: str = events[0].instrument  # type: ignore[union-attr]
    book = L2Book(name)
    for event in events[: last + 1]:
        apply(book, event)
    before, after = events[first - 1], events[last]
    at_ns = after.ts_recv_ns
    ids = (before.id_last, after.id_last)  # type: ignore[union-attr]
    return [*events[:first], gap(*ids, at_ns, name=name), book.snapshot(0), *events[last + 1 :]]


def books(directory: Path, name: str = BTC) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """Give id, state and best levels after every message."""
    book, found = L2Book(name), []
    for event in Recording(directory).events(instruments=name, channels=["book"]):
        apply(book, event)
        found.append((book.id_last, book.state.value, book.texts(Side.BUY, 5)))
    return found


def replayed(directory: Path, at_ns: int) -> L2Book:
    return Recording(directory).book_at(BTC, at_ns)


def ids(directory: Path) -> list[int]:
    events = Recording(directory).events(channels=["book"])
    return [event.id_last for event in events if not isinstance(event, BookSnapshot)]  # type: ignore[union-attr]


def test_each_is_filled_from_the_other(tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, with_hole(events, 50, 80), 64)
    certified(b, with_hole(events, 200, 230), 64)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report = repair(a, b)
    (stream,) = report.streams
    assert (stream.first.messages, stream.first.ranges) == (31, [(149, 180)])
    assert (stream.second.messages, stream.second.ranges) == (31, [(299, 330)])
    assert stream.missing == []
    assert stream.compared > 300
    for directory in (a, b):
        assert ids(directory) == list(range(101, 501))
        assert problems(verify_recording(directory)) == []
        (found,) = verify_recording(directory).streams
        assert (found.missing, found.uncertified) == (0, 0)
        assert all(state == "live" for _, state, _ in books(directory))
    assert all(path.read_bytes() == data for path, data in before.items()), "no file is changed"
    book = L2Book(BTC)
    for event in events:
        apply(book, event)
        if event.ts_recv_ns < events[-1].ts_recv_ns and event.id_last % 37 == 0:  # type: ignore[union-attr]
            for directory in (a, b):
                found_book = replayed(directory, event.ts_recv_ns)
                assert same(found_book, book)


def test_a_second_repair_finds_nothing_to_do(tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, with_hole(events, 50, 80))
    certified(b, events)
    assert repair(a, b, is_dry=True).streams[0].first.messages == 31
    assert not any(a.rglob("fill-*"))
    assert repair(a, b).streams[0].first.messages == 31
    files = sorted(tmp_path.rglob("*"))
    again = repair(a, b)
    assert (again.streams[0].first.messages, again.streams[0].second.messages) == (0, 0)
    assert sorted(tmp_path.rglob("*")) == files


def test_what_neither_has_stays_missing_and_is_said(tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, with_hole(events, 50, 80))
    certified(b, with_hole(events, 70, 99))
    (stream,) = repair(a, b).streams
    assert stream.missing == [(169, 180)]
    for directory in (a, b):
        found = verify_recording(directory)
        assert problems(found) == []
        assert found.streams[0].missing == 1
        states = [state for id_last, state, _ in books(directory) if id_last == 169]
        assert states[-1] == "stale"
        assert books(directory)[-1][1] == "live"


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", [BTC, HITBTC])
def test_any_holes(tmp_path: Path, seed: int, name: str) -> None:
    """What is missing afterwards is what was missing in both, in classes that merge windows and in strict ones."""
    rng = random.Random(seed)
    events = truth(300, name)
    lost: list[set[int]] = []
    for directory in (tmp_path / "a", tmp_path / "b"):
        holes = sorted(rng.sample(range(2, 290), 6))
        pairs = [
            (first, min(last, first + rng.randrange(1, 40)))
            for first, last in zip(holes[::2], holes[1::2], strict=True)
        ]
        part = events
        for first, last in reversed(pairs):
            part = with_hole(part, first, last)
        certified(directory, part, rng.choice((7, 50, 1000)))
        lost.append({number for first, last in pairs for number in range(first, last + 1)})
    neither = {100 + number for number in lost[0] & lost[1]}
    (stream,) = repair(tmp_path / "a", tmp_path / "b").streams
    assert {number for after, up_to in stream.missing for number in range(after + 1, up_to + 1)} == neither
    for directory in (tmp_path / "a", tmp_path / "b"):
        found = [number for number in ids_of(directory, name) if number > 100]
        assert found == sorted({number for number in range(101, 401)} - neither)
        assert problems(verify_recording(directory)) == []
        assert books(directory, name)[-1][1:] == books_of(events, name)
    (stream,) = repair(tmp_path / "a", tmp_path / "b").streams
    assert (stream.first.messages, stream.second.messages) == (0, 0)


def ids_of(directory: Path, name: str) -> list[int]:
    """Give the ids of the deltas as they are read."""
    events = Recording(directory).events(instruments=name, channels=["book"])
    return [event.id_last for event in events if isinstance(event, BookDelta)]


def books_of(events: list[Event], name: str) -> tuple[str, list[tuple[str, str]]]:
    """Give state and best levels at the end."""
    book = L2Book(name)
    for event in events:
        apply(book, event)
    return book.state.value, book.texts(Side.BUY, 5)


@pytest.mark.parametrize(("first", "last"), [(0, 120), (300, 401)])
def test_beginning_and_end_are_filled_too(tmp_path: Path, first: int, last: int) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    book = L2Book(BTC)
    for event in events[: last + 1]:
        apply(book, event)
    part = [book.snapshot(0), *events[last + 1 :]] if first == 0 else events[:first]
    certified(a, part)
    certified(b, events)
    repair(a, b)
    assert ids(a) == list(range(101, 501))
    assert problems(verify_recording(a)) == []
    assert books(a)[-1] == books(b)[-1]


def test_a_recorder_that_goes_on_after_the_repair_reads_as_one(tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, with_hole(events[:300], 50, 80))
    certified(b, events[:300])
    repair(a, b)
    again = ParquetSink(a, None, next_indexes(a), certify=True)
    for event in events[300:]:
        again.write([parse(encode(event, "1"))], event.ts_recv_ns)
    again.close()
    assert ids(a) == list(range(101, 501))
    assert problems(verify_recording(a)) == []
    assert Recording(a).coverage().column("missing").to_pylist() == [[]]
    assert Recording(a).coverage().column("messages").to_pylist() == [402], "two snapshots"


def test_contradictions_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    other: list[Any] = list(events)
    other[200] = delta(299, 300, other[200].ts_recv_ns, bids=(9_950, 4711))
    certified(a, with_hole(events, 50, 80))
    certified(b, other)
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match=r"ids 299 to 300 have other content .* nothing was written"):
        repair(a, b)
    assert sorted(tmp_path.rglob("*")) == files


def test_books_that_differ_at_the_same_id_are_refused(tmp_path: Path) -> None:
    events = truth()
    certified(tmp_path / "a", events)
    certified(tmp_path / "b", [snapshot(100, NOON_NS, bids=(9_990, 6)), *events[1:]])
    with pytest.raises(StorageError, match=r"the books at .* differ"):
        repair(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("name", [BTC, HITBTC])
def test_trades_are_filled(tmp_path: Path, name: str) -> None:
    """Dense ids by id, others by the id's text."""
    trades: list[Trade] = [trade(3 * n if name == HITBTC else n, NOON_NS + n * SECOND, name=name) for n in range(1, 60)]
    certified(tmp_path / "a", trades[:20] + trades[30:])
    certified(tmp_path / "b", trades[5:50])
    (stream,) = repair(tmp_path / "a", tmp_path / "b").streams
    assert (stream.first.messages, stream.second.messages) == (10, 14)
    for directory in (tmp_path / "a", tmp_path / "b"):
        found = [
            event.trade_id for event in Recording(directory).events(channels=["trades"]) if isinstance(event, Trade)
        ]
        assert found == [event.trade_id for event in trades]
        assert problems(verify_recording(directory)) == []
    again = repair(tmp_path / "a", tmp_path / "b")
    assert (again.streams[0].first.messages, again.streams[0].second.messages) == (0, 0)


def test_streams_whose_ids_prove_nothing_are_left_alone(tmp_path: Path) -> None:
    name = "kraken-v2:BTC/USD"
    certified(tmp_path / "a", [snapshot(1, NOON_NS, name=name, epoch=7)])
    certified(tmp_path / "b", [snapshot(1, NOON_NS, name=name, epoch=8), delta(1, 2, NOON_NS, name=name, epoch=8)])
    (stream,) = repair(tmp_path / "a", tmp_path / "b").streams
    assert (stream.is_provable, stream.first.messages, stream.second.messages) == (False, 0, 0)


def test_a_stream_that_one_has_not_at_all_is_copied(tmp_path: Path) -> None:
    events = truth()
    certified(tmp_path / "a", [trade(1, NOON_NS)])
    certified(tmp_path / "b", [*events, trade(1, NOON_NS)])
    repair(tmp_path / "a", tmp_path / "b")
    assert books(tmp_path / "a") == books(tmp_path / "b")


def test_bad_directories_are_named(tmp_path: Path) -> None:
    certified(tmp_path / "a", truth(5))
    with pytest.raises(ConfigError, match="the same recording twice"):
        repair(tmp_path / "a", tmp_path / "a")
    with pytest.raises(ConfigError, match="no such directory"):
        repair(tmp_path / "a", tmp_path / "nothing")
