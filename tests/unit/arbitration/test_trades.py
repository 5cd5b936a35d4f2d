"""Trades with sparse ids."""

from __future__ import annotations

import pytest

from raytrade.arbitration import Rule, StreamRule, trades
from raytrade.arbitration.stream import Outlet
from raytrade.arbitration.trades import TradeStream
from raytrade.core.clock import SECOND
from raytrade.core.events import Channel, Gap, GapKind, LineDown
from raytrade.core.message import Kind, Message, decode, encode, parse
from tests.property.lines import NAME, START_NS, Arrival, message, run, trade

TRADE = StreamRule(Rule.TRADE)


def prints(ids: list[int], line: str = "a", **fields: object) -> list[Arrival]:
    messages = [message(trade(number, **fields), line) for number in ids]
    return [Arrival(each.ts_venue_ns, line, each) for each in messages]


def test_the_first_copy_of_each_trade_goes_out_whatever_the_order() -> None:
    arriving = prints([3, 10, 7, 20]) + prints([3, 7, 10, 20, 25], "b")
    arbiter, out = run(arriving, TRADE)
    assert sorted(each.message.id_last for each in out) == [3, 7, 10, 20, 25]
    lines = arbiter.statistics()[(NAME, Channel.TRADES)].lines
    assert sum(line.wins for line in lines.values()) == 5
    assert sum(line.duplicates for line in lines.values()) == 4
    assert lines["a"].lead.total == 4


def test_ids_that_are_no_numbers_are_compared_as_text() -> None:
    events = [message(trade(0, trade_id=name)) for name in ("x1", "x2", "x1")]
    _, out = run([Arrival(START_NS, "a", each) for each in events], TRADE)
    assert [each.message.tail() for each in out] == [b"x1", b"x2"]


def test_forgotten_ids_leave_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trades, "REMEMBERED_MAX", 10)
    arriving = prints(list(range(1, 101)))
    resent = [each._replace(now_ns=START_NS + 2 * SECOND) for each in prints(list(range(50, 101)), "b")]
    _, out = run(arriving + resent, TRADE)
    assert [each.message.id_last for each in out] == list(range(1, 101))


def test_restarted_ids_do_not_silence_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trades, "REMEMBERED_MAX", 10)
    later_ns = START_NS + 20 * SECOND
    again = [each._replace(now_ns=later_ns + each.message.id_last) for each in prints([5, 6, 7], ts_venue_ns=later_ns)]
    arbiter, out = run(prints(list(range(1001, 1101))) + again, TRADE)
    assert [each.message.id_last for each in out[-3:]] == [5, 6, 7]
    assert arbiter.statistics()[(NAME, Channel.TRADES)].resets == 1


def test_a_time_without_lines_is_a_gap() -> None:
    cut = [Arrival(START_NS + SECOND, line, message(LineDown(venue="sim", cause="cut"), line)) for line in "ab"]
    arriving = prints([1, 2]) + prints([1, 2], "b") + cut + prints([200, 201])
    _, out = run(arriving, TRADE)
    kinds = [each.message.kind for each in out if each.message.kind is not Kind.LINE_DOWN]
    assert kinds == [Kind.TRADE, Kind.TRADE, Kind.STALLED, Kind.GAP, Kind.RESYNCED, Kind.TRADE, Kind.TRADE]


def overrun(now_ns: int) -> Message:
    gap = Gap(
        instrument=NAME,
        channel=Channel.TRADES,
        kind=GapKind.SLOW_CONSUMER,
        id_prev=3,
        id_last=0,
        cause="fell behind",
        ts_recv_ns=now_ns,
    )
    return parse(encode(gap, "a"))


def test_what_every_line_may_have_left_out_is_a_gap() -> None:
    outlet = Outlet("x")
    stream = TradeStream((NAME, Channel.TRADES), outlet)
    second = 1_000_000_000
    for line in "ab":
        stream.receive_line_up(line, second)
    stream.receive("a", overrun(2 * second), 2 * second)
    assert [message.kind for message in outlet.messages] == []
    stream.receive("b", overrun(60 * second), 60 * second)
    assert [message.kind for message in outlet.messages] == []
    stream.receive("a", overrun(61 * second), 61 * second)
    assert [message.kind for message in outlet.messages] == [Kind.GAP, Kind.RESYNCED]
    gap = decode(outlet.messages[0])
    assert isinstance(gap, Gap)
    assert gap.kind is GapKind.SLOW_CONSUMER
    assert gap.lines == ("a", "b")
