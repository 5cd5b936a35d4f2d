"""The checker must find what is planted."""

from __future__ import annotations

import pytest

from raytrade.chaos.verdict import Verdict, judge, longest_gap

SENT = list(range(100, 200, 10))


def test_all_that_was_sent_was_seen() -> None:
    assert judge(SENT, SENT, is_last=True) == Verdict(seen=10)


def test_what_came_before_the_first_state_is_not_owed() -> None:
    assert judge(SENT, SENT[4:], is_last=True).missed == 0


def test_a_hole_is_missed() -> None:
    found = judge(SENT, [*SENT[:3], *SENT[5:]], is_last=True)
    assert (found.missed, found.untold, found.examples) == (2, 2, [130, 140])


def test_a_gap_tells_of_a_hole_but_fills_it_not() -> None:
    found = judge(SENT, [*SENT[:3], *SENT[5:]], gaps=[(120, 130)], is_last=True)
    assert (found.missed, found.untold, found.examples) == (2, 1, [140])


@pytest.mark.parametrize(("is_last", "missed"), [(True, 4), (False, 0)])
def test_the_end_is_owed_to_who_lived_to_see_it(is_last: bool, missed: int) -> None:
    assert judge(SENT, SENT[:6], is_last=is_last).missed == missed


def test_who_saw_nothing_missed_everything_if_it_lived() -> None:
    assert judge(SENT, [], is_last=True).missed == len(SENT)
    assert judge(SENT, [], is_last=False) == Verdict()


def test_twice_and_late_are_told_apart() -> None:
    twice = judge(SENT, [100, 110, 110, 120])
    assert (twice.repeated, twice.late) == (1, 0)
    late = judge(SENT, [100, 120, 110, 130])
    assert (late.repeated, late.late, late.missed) == (0, 1, 0)


def test_the_longest_gap_may_begin_before_the_window() -> None:
    times = [0, 10, 20, 90, 95, 100]
    assert longest_gap(times, 20, 100) == 70
    assert longest_gap(times, 50, 100) == 70
    assert longest_gap(times, 90, 100) == 5


def test_silence_to_the_end_counts() -> None:
    assert longest_gap([0, 10], 5, 100) == 90
    assert longest_gap([], 5, 100) == 95
