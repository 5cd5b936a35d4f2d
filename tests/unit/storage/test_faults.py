"""Faults in a replay: what is lost is told, and the book that follows is the true one."""

from __future__ import annotations

import pytest

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookSnapshot, Channel, Event, Flag, Gap, Stalled
from raytrade.errors import ConfigError
from raytrade.replay import apply
from raytrade.storage.faults import Faults, StreamFault, Views
from raytrade.storage.recording import Recording, open_recording
from raytrade.storage.source import TimedEvent
from tests.unit.backtest.markets import STEP_NS, recorded_market
from tests.unit.storage.recordings import BTC, ETH, NOON_NS

START, SPAN = NOON_NS + 100 * STEP_NS, 40 * STEP_NS


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return open_recording(recorded_market(tmp_path_factory.mktemp("recording"), 300, names=(BTC, ETH)))


def fault(kind: str, **others: object) -> Faults:
    return Faults([StreamFault(**{"kind": kind, "start_ns": START, "duration_ns": SPAN} | others)])  # type: ignore[arg-type]


def books(recording: Recording, view: Faults | Views | None, channels: tuple[str, ...] = ("book",)) -> list[TimedEvent]:
    return list(recording.timed_events(instruments=BTC, channels=channels, site=view))


def within(timed: TimedEvent, end: Nanos = START + SPAN) -> bool:
    return START <= timed[0] < end


def states(events: list[TimedEvent]) -> list[tuple[Nanos, BookState, int]]:
    book, found = L2Book(BTC), []
    for now_ns, event in events:
        apply(book, event)
        found.append((now_ns, book.state, book.state_hash(0)))
    return found


@pytest.mark.parametrize("kind", ["drop", "silent"])
def test_what_is_lost_is_told_and_the_true_book_follows(recording: Recording, kind: str) -> None:
    plain, faulty = books(recording, None), books(recording, fault(kind))
    lost = [event for now_ns, event in plain if START <= now_ns < START + SPAN]
    assert len(lost) == 40 and [pair for pair in faulty if pair[0] < START] == [p for p in plain if p[0] < START]
    assert [type(event) for _, event in filter(within, faulty)] == ([Stalled] if kind == "silent" else [])
    behind: list[Event] = [event for now_ns, event in faulty if now_ns >= START + SPAN]
    gap, image = behind[:2]
    assert isinstance(gap, Gap) and (gap.id_prev, gap.id_last) == (lost[0].id_prev, lost[-1].id_last)  # type: ignore[union-attr]
    assert isinstance(image, BookSnapshot) and image.flags & Flag.IMAGE and image.id_last == lost[-1].id_last  # type: ignore[union-attr]
    assert states(faulty)[-100:] == states(plain)[-100:]
    times = [now_ns for now_ns, _ in faulty]
    assert times == sorted(times)


def test_what_is_late_keeps_its_order(recording: Recording) -> None:
    plain = books(recording, None)
    late = books(recording, fault("delay", delay_ns=15 * STEP_NS))
    held = books(recording, fault("stall"))
    for found in (late, held):
        times = [now_ns for now_ns, _ in found]
        assert times == sorted(times) and [event for _, event in found] == [event for _, event in plain]
    assert sum(now_ns == START + SPAN for now_ns, _ in held) == 41
    moved = [(then, now) for (then, _), (now, _) in zip(plain, late, strict=True) if then != now]
    assert moved[0] == (START, START + 15 * STEP_NS) and moved[-1][0] < START + SPAN + 15 * STEP_NS


def test_faults_are_of_a_symbol_and_after_each_other(recording: Recording) -> None:
    assert books(recording, fault("drop", symbol="ETHUSDT")) == books(recording, None)
    both = Views(fault("drop", symbol="BTCUSDT"), fault("delay", delay_ns=STEP_NS))
    assert len(books(recording, both)) == len(books(recording, fault("drop")))
    trades = books(recording, fault("drop"), ("trades",))
    assert 0 < len(trades) < len(books(recording, None, ("trades",))) and not any(map(within, trades))
    assert {event.channel for _, event in books(recording, fault("silent")) if isinstance(event, Gap)} == {Channel.BOOK}


@pytest.mark.parametrize(("wrong", "told"), [({"kind": "corrupt"}, "a replay has"), ({"duration_ns": 0}, "how long")])
def test_what_a_replay_has_not_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fault(**{"kind": "drop"} | wrong)  # type: ignore[arg-type]
