"""Streams of whole books."""

from __future__ import annotations

from raytrade.arbitration import Rule, StreamRule
from raytrade.core.events import LineDown
from raytrade.core.message import Kind
from tests.property.lines import STREAM, Arrival, Consumer, Truth, message, run, same

NEWEST = StreamRule(Rule.NEWEST)


def books(truth: Truth, numbers: list[int], line: str = "a", late_ns: int = 0) -> list[Arrival]:
    return [Arrival(truth.at_ns(n) + late_ns, line, message(truth.snapshot(n), line)) for n in numbers]


def test_the_newest_book_wins_and_older_ones_are_dropped() -> None:
    truth = Truth(1, 20)
    arriving = books(truth, [1001, 1003, 1007]) + books(truth, [1001, 1002, 1003, 1005, 1008], "b", 1)
    arbiter, out = run(arriving, NEWEST)
    assert [each.message.id_last for each in out] == [1001, 1002, 1003, 1005, 1007, 1008]
    counts = arbiter.statistics()[STREAM]
    assert (counts.updates, counts.first_id, counts.last_id) == (6, 1001, 1008)
    assert counts.lines["b"].duplicates == 2


def test_the_first_book_after_a_stall_makes_the_stream_whole() -> None:
    truth = Truth(2, 20)
    cut = Arrival(truth.at_ns(1005), "a", message(LineDown(venue="sim", cause="cut"), "a"))
    consumer = Consumer(truth)
    _, out = run([*books(truth, [1001, 1004, 1010]), cut], NEWEST, consumer)
    kinds = [each.message.kind for each in out if each.message.kind is not Kind.LINE_DOWN]
    assert kinds == [Kind.SNAPSHOT, Kind.SNAPSHOT, Kind.STALLED, Kind.SNAPSHOT, Kind.RESYNCED]
    assert same(consumer.book, truth.book(1010))
