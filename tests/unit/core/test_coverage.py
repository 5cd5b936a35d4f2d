from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.coverage import Coverage


def test_a_whole_stream_has_no_holes() -> None:
    coverage = Coverage()
    coverage.start(10)
    for number in range(10, 20):
        coverage.observe(number, number + 1)
    assert (coverage.first, coverage.last, coverage.count, coverage.repeats, coverage.holes) == (10, 20, 10, 0, [])
    assert [coverage.covers(number) for number in (10, 11, 20, 21)] == [False, True, True, False]


def test_a_jump_is_a_hole() -> None:
    coverage = Coverage()
    coverage.observe(5, 8)
    coverage.observe(10, 12)
    assert coverage.holes == [(8, 10)]
    assert [coverage.covers(number) for number in (8, 9, 10, 11)] == [True, False, False, True]


def test_a_snapshot_beyond_the_last_id_leaves_a_hole_and_one_below_does_not() -> None:
    coverage = Coverage()
    coverage.start(5)
    coverage.observe(5, 6)
    coverage.start(6)
    coverage.start(4)
    assert (coverage.last, coverage.holes) == (6, [])
    coverage.start(9)
    assert (coverage.last, coverage.holes) == (9, [(6, 9)])


def test_what_brings_nothing_new_is_a_repeat() -> None:
    coverage = Coverage()
    coverage.observe(0, 5)
    coverage.observe(4, 5)
    coverage.observe(1, 2)
    coverage.observe(4, 7)
    assert (coverage.repeats, coverage.last, coverage.holes) == (2, 7, [])


def test_a_stream_may_begin_before_the_first_id() -> None:
    coverage = Coverage()
    coverage.observe(0, 1)
    coverage.observe(3, 4)
    assert (coverage.first, coverage.last, coverage.holes) == (0, 4, [(1, 3)])


def test_coverages_do_not_share_holes() -> None:
    first = Coverage()
    first.observe(1, 2)
    first.observe(4, 5)
    assert Coverage().holes == []


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), min_size=1, max_size=20))
def test_covers_is_membership(rows: list[tuple[int, int]]) -> None:
    """Messages with rising last ids: an id is covered exactly if some message contains it."""
    coverage = Coverage()
    held: set[int] = set()
    last = 0
    for id_prev, width in sorted(rows, key=sum):
        id_last = id_prev + width
        if id_last > last:
            start = max(id_prev, last) if held else id_prev
            held |= set(range(start + 1, id_last + 1))
            last = id_last
        coverage.observe(id_prev, id_last)
    assert {number for number in range(60) if coverage.covers(number)} == held
