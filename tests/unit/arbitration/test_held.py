"""Word of what is held back, and the back-off of requests for books."""

from __future__ import annotations

from raytrade.arbitration import HELD_NS, Arbiter, ArbiterSettings, Rule, SnapshotWanted, StreamRule
from raytrade.arbitration.stream import Outlet, SnapshotRequests, StreamCounts
from raytrade.core.clock import SECOND
from raytrade.core.events import Held
from raytrade.core.message import Kind, decode
from tests.property.lines import NAME, START_NS, Truth, message

BOOK = StreamRule(Rule.STRICT, contiguous=True, in_band=True)


def holding(settings: ArbiterSettings) -> tuple[Truth, Arbiter]:
    """An arbiter with two lines of which one has left an update out."""
    truth, arbiter = Truth(1, 5), Arbiter("dedup", lambda *_: BOOK, settings)
    for line in "ab":
        arbiter.receive(line, message(truth.snapshot(1000), line), START_NS)
    arbiter.receive("a", message(truth.delta(1001, 1002), "a"), START_NS)
    arbiter.output()
    return truth, arbiter


def test_what_is_held_for_long_is_told_once() -> None:
    truth, arbiter = holding(ArbiterSettings(held_ns=HELD_NS))
    assert arbiter.deadline_ns() == START_NS + HELD_NS
    arbiter.receive_timeout(START_NS + HELD_NS)
    (told,) = arbiter.output()
    assert decode(told) == Held(instrument=NAME, channel=told.channel, id_last=1000, ts_recv_ns=START_NS + HELD_NS)
    later_ns = arbiter.deadline_ns()
    assert later_ns is not None and later_ns > START_NS + HELD_NS
    arbiter.receive("b", message(truth.delta(1000, 1001), "b"), START_NS + 2 * HELD_NS)
    assert [each.id_last for each in arbiter.output()] == [1001, 1002]
    assert arbiter.deadline_ns() is None


def test_what_is_filled_soon_is_not_told() -> None:
    truth, arbiter = holding(ArbiterSettings(held_ns=HELD_NS))
    arbiter.receive("b", message(truth.delta(1000, 1001), "b"), START_NS + HELD_NS - 1)
    arbiter.output()
    arbiter.receive_timeout(START_NS + 10 * HELD_NS)
    assert arbiter.output() == []


def test_a_new_hole_has_its_own_time() -> None:
    truth, arbiter = holding(ArbiterSettings(held_ns=HELD_NS))
    arbiter.receive("a", message(truth.delta(1003, 1004), "a"), START_NS)
    arbiter.receive("b", message(truth.delta(1000, 1001), "b"), START_NS + 30)
    arbiter.output()
    assert arbiter.deadline_ns() == START_NS + 30 + HELD_NS


def test_who_does_not_ask_is_not_told_and_passes_no_word_on() -> None:
    _, told = holding(ArbiterSettings(held_ns=HELD_NS))
    told.receive_timeout(START_NS + HELD_NS)
    (word,) = told.output()
    for settings, passed in ((ArbiterSettings(), []), (ArbiterSettings(held_ns=HELD_NS), [Kind.HELD])):
        _, arbiter = holding(settings)
        arbiter.receive("a", word, START_NS)
        assert [each.kind for each in arbiter.output()] == passed


def requests() -> tuple[SnapshotRequests, list[SnapshotWanted], StreamCounts]:
    outlet, counts = Outlet("dedup"), StreamCounts()
    return SnapshotRequests(NAME, outlet, ArbiterSettings(), counts), outlet.commands, counts


def test_a_venue_that_contradicts_itself_is_not_asked_without_end() -> None:
    """Every book that comes is of use for a moment: 10 minutes of that cost less than 25 requests."""
    wanted, commands, counts = requests()
    now_ns = START_NS
    for _ in range(6000):
        if wanted.due_ns is None or now_ns >= wanted.due_ns:
            asked = len(commands)
            wanted.ask(now_ns, "gap")
            if len(commands) > asked:
                wanted.cancel()
        now_ns += SECOND // 10
    assert 8 < len(commands) <= 25
    assert counts.asked == len(commands)
    assert counts.alarm == f"{len(commands)} books asked for in a row, none was good for long (gap)"


def test_after_a_calm_time_requests_are_free_again() -> None:
    wanted, commands, counts = requests()
    now_ns = START_NS
    for _ in range(20):
        wanted.ask(now_ns, "gap")
        wanted.cancel()
        now_ns += SECOND // 10
    burst = len(commands)
    assert burst == ArbiterSettings().snapshot_burst
    wanted.ask(now_ns + 121 * SECOND, "gap")
    assert (len(commands), counts.alarm) == (burst + 1, "")


def test_the_alarm_is_shown_until_it_is_calm() -> None:
    arbiter = Arbiter("dedup", lambda *_: BOOK)
    truth = Truth(2, 5)
    arbiter.receive("a", message(truth.snapshot(1000), "a"), START_NS)
    counts = next(iter(arbiter.statistics().values()))
    counts.alarm, counts.asked_ns = "it lies", START_NS
    assert arbiter.alarms(START_NS + SECOND) == {NAME: "it lies"}
    assert arbiter.alarms(START_NS + 121 * SECOND) == {}
