"""A strategy's host without Ray: what it journals is lived again to the same orders, and history leads into live."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from raytrade.actors import strategy as hosting
from raytrade.actors.strategy import StrategyActor, StrategyPlan
from raytrade.actors.warmup import WarmUpSettings
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import BookSnapshot, Event, Flag
from raytrade.core.message import Message, encode, join, parse, split
from raytrade.errors import StorageError
from raytrade.replay import apply
from raytrade.rules import rule_of
from raytrade.storage.journals import Journal, JournalWriter, journals_of
from raytrade.storage.recording import open_recording
from raytrade.strategy.base import BaseStrategy, Context
from raytrade.strategy.journal import Entry, EntryKind, Opening, Reenactment, engine_of
from tests.unit.backtest.markets import market
from tests.unit.storage.recordings import BTC, ETH, record

TRADERS = Path(__file__).parents[1] / "unit" / "backtest" / "traders.py"
BYTES = 64 * 2**20
MINUTE_NS: Nanos = 60 * SECOND


class Links:
    """Stands for `Upstreams`: hands on what the test gives."""

    newest: Links

    def __init__(self, name: str, template: Any, thread: Any, on_batch: Any, on_change: Any) -> None:
        self.on_batch, self.on_change, self.thread = on_batch, on_change, thread
        self.positions: dict[str, int] = {}
        self.writers: list[list[str]] = []
        self.wished: list[dict[str, int]] = []
        Links.newest = self

    def set_writers(self, names: list[str]) -> None:
        self.writers.append(names)
        self.wished.append(dict(self.positions))

    def tick(self, now_ns: int) -> None:
        pass

    def receive(self, dedup: str, data: bytes, now_ns: int) -> list[Message]:
        return split(data)

    def request_images(self, instruments: set[str], now_ns: int) -> None:
        pass

    def up(self) -> list[str]:
        return []


@pytest.fixture(autouse=True)
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "Upstreams", Links)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., StrategyActor]]:
    started: list[StrategyActor] = []

    def start(**others: Any) -> StrategyActor:
        fields: dict[str, Any] = {"name": "taker", "dedups": ["a", "b"], "strategy": f"{TRADERS}:Taker"}
        fields |= {"journal": str(tmp_path / "journal"), "journal_bytes_max": BYTES} | others
        started.append(StrategyActor(StrategyPlan(**fields)))
        return started[-1]

    yield start
    for actor in started:
        if actor._thread._thread.is_alive():
            actor.stop()


def give(actor: StrategyActor, replica: str, events: Iterable[Event]) -> None:
    opened = (replace(event, flags=int(Flag.IMAGE)) if isinstance(event, BookSnapshot) else event for event in events)
    actor.receive_batch(replica, join(parse(encode(event, "line")) for event in opened))


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (value := holds()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return value


def run_live(actor: StrategyActor, events: list[Any], seed: int) -> None:
    """Let two replicas bring the events in pieces of any size, one of them lost for a while."""
    rng, links = random.Random(seed), Links.newest
    for replica in ("a", "b"):
        links.thread.post(links.on_change, replica, True, links.thread.clock.now_ns())
    places = {"a": 0, "b": 0}
    while min(places.values()) < len(events):
        replica = rng.choice("ab")
        begin = places[replica]
        places[replica] = end = min(begin + rng.randrange(1, 40), len(events))
        if rng.random() > 0.1 or replica == "a" or begin == 0:
            give(actor, replica, events[begin:end])
        if rng.random() < 0.05:
            links.thread.post(links.on_change, "b", rng.random() < 0.5, links.thread.clock.now_ns())


def reenacted(path: Path, strategy: str = "") -> Reenactment:
    journal = Journal(path)
    again = Reenactment(engine_of(journal.opening, rule_of, strategy))
    again.play(journal.entries())
    return again


@pytest.mark.parametrize("seed", range(3))
def test_a_journal_is_lived_again_to_the_same_orders(host: Any, tmp_path: Path, seed: int) -> None:
    actor = host()
    events = sorted([*market(seed, 300), *market(seed + 9, 200, name=ETH)], key=lambda event: event.ts_recv_ns)
    run_live(actor, events, seed)
    statistics = actor._thread.call(actor._engine.statistics)
    actor.stop()
    (path,) = journals_of(tmp_path / "journal", "taker")
    again = reenacted(path)
    assert again.difference() == "" and again.is_whole and len(again.wishes) > 10 and len(again.results) > 10
    assert again.engine.statistics().instruments == statistics.instruments
    assert again.engine.broker.accounts[BTC].position == actor._engine.broker.accounts[BTC].position
    other = reenacted(path, f"{TRADERS}:Quoter")
    assert "order 1 was" in other.difference()


def test_the_recording_gives_the_books_of_the_journal(host: Any, tmp_path: Path) -> None:
    """At every id that both show, book for book."""
    actor, events = host(), [event for event in market(4, 200) if not hasattr(event, "aggressor")]
    run_live(actor, events, 4)
    actor.stop()
    record(tmp_path / "recording", events)
    journal = Journal(journals_of(tmp_path / "journal", "taker")[0])
    again = Reenactment(engine_of(journal.opening, rule_of))
    shown: dict[int, int] = {}

    def see(context: Any, book: L2Book) -> None:
        shown[book.id_last] = book.state_hash(0)

    again.engine._strategy.on_book = see  # type: ignore[method-assign]
    again.play(journal.entries())
    book, recorded = L2Book(BTC), dict[int, int]()
    for event in open_recording(tmp_path / "recording").events():
        apply(book, event)
        recorded[book.id_last] = book.state_hash(0)
    common = shown.keys() & recorded.keys()
    assert len(common) > 150 and all(shown[id_last] == recorded[id_last] for id_last in common)


def fill(path: Path, count: int, step_ns: Nanos = MILLISECOND) -> JournalWriter:
    writer = JournalWriter(path, Opening(name="x", strategy=f"{TRADERS}:Taker", ts_start_ns=count), 2**20)
    for number in range(count):
        writer.add(Entry(EntryKind.TIMEOUT, number * step_ns, "", os.urandom(100)))
        writer.tick(number * step_ns)
    return writer


def test_a_torn_journal_keeps_every_whole_block(tmp_path: Path) -> None:
    fill(tmp_path, 1000).close()
    (path,) = journals_of(tmp_path, "x")
    data, whole = path.read_bytes(), list(Journal(path).entries())
    assert len(whole) == 1000 and [entry.now_ns for entry in whole] == [n * MILLISECOND for n in range(1000)]
    found = set()
    for cut in range(len(data) - 40_000, len(data), 3001):
        path.write_bytes(data[:cut])
        journal = Journal(path)
        entries = list(journal.entries())
        assert entries == whole[: len(entries)] and journal.torn_bytes > 0
        found.add(len(entries))
    assert len(found) > 2
    path.write_bytes(data[:-5000] + bytes(10) + data[-4990:])
    assert list(Journal(path).entries()) == whole[: len(list(Journal(path).entries()))] != whole
    path.write_bytes(b"something else")
    with pytest.raises(StorageError, match="is no journal"):
        Journal(path)


def test_a_killed_process_leaves_a_journal_up_to_its_last_moments(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.actors.test_strategy_host import fill\n"
        "writer = fill(Path(sys.argv[1]), 1000)\nprint('there', flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        until(lambda: len(list(Journal(journals_of(tmp_path, "x")[0]).entries())) >= 900)
        process.send_signal(signal.SIGKILL)
    assert len(list(Journal(journals_of(tmp_path, "x")[0]).entries())) >= 900


def test_journals_are_bounded(tmp_path: Path) -> None:
    for count in (2000, 3000, 4000):
        fill(tmp_path, count, step_ns=MILLISECOND // 10).close()
    writer = fill(tmp_path, 20_000, step_ns=MILLISECOND // 10)
    writer.close()
    paths = journals_of(tmp_path, "x")
    assert len(paths) < 4 and sum(path.stat().st_size for path in paths) <= 1.5 * 2**20
    assert "is full" in writer.problem and len(list(Journal(paths[-1]).entries())) > 5000


# History, then live.


def history(events: list[Any], now_ns: Nanos) -> list[Any]:
    """Give the events moved in time: the first hundred to hours ago, the rest to the last minute."""
    ages_ns = [MINUTE_NS * 300 if number < 100 else MINUTE_NS for number in range(len(events))]
    times = [now_ns - age_ns + number * MILLISECOND for number, age_ns in enumerate(ages_ns)]
    return [replace(event, ts_recv_ns=at_ns) for event, at_ns in zip(events, times, strict=True)]


@pytest.mark.parametrize("overlap", [0, 30])
def test_history_leads_into_live_without_gap_or_repeat(host: Any, tmp_path: Path, overlap: int) -> None:
    """A fresh strategy is shown what was recorded, then goes on behind the last id, whatever the rings send of it."""
    events = history([e for e in market(5, 400) if not hasattr(e, "aggressor")], time.time_ns())
    record(tmp_path / "recording", events[:300], segment_messages_max=50)
    warmup = WarmUpSettings(directory=str(tmp_path / "recording"), span_ns=60 * MINUTE_NS)
    actor = host(strategy=f"{Path(__file__)}:Watcher", warmup=warmup, filters=(f"{BTC}/book",))
    links = Links.newest
    until(lambda: links.writers)
    assert links.writers == [["a", "b"]] and links.wished == [{f"{BTC}/book": 300}]
    for replica in ("a", "b"):
        links.thread.post(links.on_change, replica, True, links.thread.clock.now_ns())
        give(actor, replica, events[300 - overlap : 310])
        give(actor, replica, events[310:])
    links.thread.call(lambda: None)
    watcher = actor._engine._strategy
    actor.stop()
    ids = [id_last for id_last, _ in watcher.seen]
    assert ids == list(range(100, 401)) and watcher.gaps == []
    assert [is_warming for _, is_warming in watcher.seen] == [id_last <= 310 for id_last in ids]
    assert watcher.refused and all("warming up" in reason for reason in watcher.refused)
    truth = L2Book(BTC)
    for event in events:
        truth.apply(event)
    assert actor._engine.books[BTC].state_hash(0) == truth.state_hash(0)
    assert reenacted(journals_of(tmp_path / "journal", "taker")[0]).difference() == ""


def test_history_that_is_not_there_does_not_keep_a_strategy_from_starting(host: Any, tmp_path: Path) -> None:
    actor = host(warmup=WarmUpSettings(directory=str(tmp_path / "nothing"), span_ns=SECOND))
    links = Links.newest
    until(lambda: links.writers)
    assert "no such directory" in actor._warmup.status()["problem"] and links.wished == [{}]


class Watcher(BaseStrategy):
    """Writes down what it is shown, and tries to trade at its first book."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.gaps: list[object] = []
        self.refused: list[str] = []

    def on_book(self, context: Context, book: L2Book) -> None:
        if not self.seen:
            context.market(book.instrument, 1, "1")  # type: ignore[arg-type]
        self.seen.append((book.id_last, context.is_warming))

    def on_gap(self, context: Context, gap: Any) -> None:
        self.gaps.append(gap)

    def on_stalled(self, context: Context, stalled: Any) -> None:
        self.gaps.append(stalled)

    def on_rejection(self, context: Context, rejection: Any) -> None:
        self.refused.append(rejection.reason)
