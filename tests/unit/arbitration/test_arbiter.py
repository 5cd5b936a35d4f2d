"""The arbiter as a whole: many streams, and lines behind other arbiters."""

from __future__ import annotations

import pytest

from raytrade.arbitration import Arbiter, Rule, StreamRule, line_totals
from raytrade.core.events import Channel, LineDown, LineUp
from raytrade.core.message import Kind
from raytrade.errors import InvariantError
from tests.property.lines import NAME, START_NS, Truth, message, trade

BOOK = StreamRule(Rule.STRICT, contiguous=True, in_band=True)
DENSE = StreamRule(Rule.DENSE, contiguous=True)


def make() -> Arbiter:
    return Arbiter("dedup", lambda _, channel: BOOK if channel is Channel.BOOK else DENSE)


def test_streams_are_kept_apart_and_totals_add_up() -> None:
    truth, arbiter = Truth(1, 5), make()
    for line in "ab":
        arbiter.receive(line, message(truth.snapshot(1000), line), START_NS)
        for at in range(1001, 1006):
            arbiter.receive(line, message(truth.delta(at - 1, at), line), START_NS)
            arbiter.receive(line, message(trade(at), line), START_NS)
    assert [each.id_last for each in arbiter.output() if each.kind is Kind.TRADE] == list(range(1001, 1006))
    assert set(arbiter.statistics()) == {(NAME, Channel.BOOK), (NAME, Channel.TRADES)}
    totals = line_totals(arbiter.statistics())
    assert (totals["a"].updates, totals["a"].wins, totals["a"].duplicates) == (10, 10, 0)
    assert (totals["b"].updates, totals["b"].wins, totals["b"].duplicates) == (10, 0, 10)
    assert totals["a"].lead.total == 10


def test_outputs_are_drained_once() -> None:
    truth, arbiter = Truth(2, 5), make()
    arbiter.receive("a", message(truth.snapshot(1000)), START_NS)
    assert len(arbiter.output()) == 1
    assert arbiter.output() == []
    assert arbiter.commands() == []
    assert arbiter.deadline_ns() is None


def test_the_earliest_of_all_timers_is_the_deadline() -> None:
    truth, arbiter = Truth(3, 5), make()
    arbiter.receive("a", message(truth.snapshot(1000)), START_NS)
    arbiter.receive("a", message(truth.delta(1001, 1002)), START_NS + 5)
    arbiter.receive("a", message(trade(1)), START_NS)
    arbiter.receive("a", message(trade(3)), START_NS + 2)
    first_ns = arbiter.deadline_ns()
    assert first_ns is not None
    arbiter.receive_timeout(first_ns)
    assert [each.channel for each in arbiter.output() if each.kind is Kind.GAP] == [Channel.TRADES]
    second_ns = arbiter.deadline_ns()
    assert second_ns == first_ns + 3
    arbiter.receive_timeout(second_ns)
    assert [each.channel for each in arbiter.output() if each.kind is Kind.GAP] == [Channel.BOOK]
    assert [wanted.instrument for wanted in arbiter.commands()] == [NAME]


def test_word_of_a_far_line_is_passed_on_once_and_moves_no_stream() -> None:
    truth, arbiter = Truth(4, 5), make()
    arbiter.receive("left", message(truth.snapshot(1000)), START_NS)
    far = message(LineDown(venue="sim", cause="cut"), "tokyo-1")
    arbiter.receive("left", far, START_NS)
    arbiter.receive("right", far, START_NS)
    arbiter.receive("left", message(LineUp(venue="sim"), "tokyo-1"), START_NS)
    assert [each.kind for each in arbiter.output()] == [Kind.SNAPSHOT, Kind.LINE_DOWN, Kind.LINE_UP]


def test_a_lost_link_is_a_lost_line() -> None:
    truth, arbiter = Truth(5, 5), make()
    arbiter.receive("left", message(truth.snapshot(1000)), START_NS)
    arbiter.output()
    arbiter.receive_line_down("right", START_NS)
    assert arbiter.output() == []
    arbiter.receive_line_down("left", START_NS)
    assert [each.kind for each in arbiter.output()] == [Kind.STALLED]


def test_validate_finds_a_broken_stream() -> None:
    truth, arbiter = Truth(6, 5), make()
    arbiter.receive("a", message(truth.snapshot(1000)), START_NS)
    arbiter.receive("a", message(truth.delta(1001, 1002)), START_NS)
    arbiter.validate()
    arbiter._streams[(NAME, Channel.BOOK)]._held.bytes_held += 1  # type: ignore[attr-defined]
    with pytest.raises(InvariantError):
        arbiter.validate()
