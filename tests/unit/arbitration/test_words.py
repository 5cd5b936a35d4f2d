from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.arbitration.words import LineWords, is_retired
from raytrade.core.events import RETIRED, LineDown, LineUp
from raytrade.core.message import Kind, Message, encode, parse


def up(line: str = "x") -> Message:
    return parse(encode(LineUp(venue="binance-spot", ts_recv_ns=1), line))


def down(line: str = "x", cause: str = "cut") -> Message:
    return parse(encode(LineDown(venue="binance-spot", cause=cause, ts_recv_ns=2), line))


def test_two_replicas_that_say_the_same_count_once() -> None:
    words = LineWords()
    said = [words.hear("a", up()), words.hear("b", up()), words.hear("a", down()), words.hear("b", down())]
    assert [message.kind if message else None for message in said] == [Kind.LINE_UP, None, None, Kind.LINE_DOWN]


def test_a_line_is_up_as_long_as_one_replica_says_so() -> None:
    words = LineWords()
    words.hear("a", up())
    words.hear("b", up())
    assert words.hear("a", down()) is None
    assert words.hear("a", up()) is None


def test_a_lost_replica_takes_its_words_along() -> None:
    words = LineWords()
    words.hear("a", up())
    assert words.hear("b", down()) is None
    assert [message.kind for message in words.lose("a")] == [Kind.LINE_DOWN]
    assert words.lose("b") == [], "the last word stands"
    assert words.hear("b", down()) is None


def test_a_line_is_retired_once_when_all_have_said_so() -> None:
    words = LineWords()
    words.hear("a", up())
    words.hear("b", up())
    assert words.hear("a", down(cause=RETIRED)) is None
    last = words.hear("b", down(cause=RETIRED))
    assert last is not None and is_retired(last)
    assert words.hear("b", down(cause=RETIRED)) is None
    again = words.hear("a", up())
    assert again is not None and again.kind is Kind.LINE_UP


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans())))
def test_what_is_passed_on_alternates_and_ends_with_what_holds(said: list[tuple[str, str, bool]]) -> None:
    words = LineWords()
    passed: dict[str, list[bool]] = {"x": [], "y": []}
    last: dict[tuple[str, str], bool] = {}
    for replica, line, is_up in said:
        last[line, replica] = is_up
        news = words.hear(replica, up(line) if is_up else down(line))
        if news is not None:
            passed[line].append(news.kind is Kind.LINE_UP)
    for line, told in passed.items():
        assert all(one is not other for one, other in pairwise(told))
        held = [is_up for (one, _), is_up in last.items() if one == line]
        assert told[-1:] == ([any(held)] if held else [])
