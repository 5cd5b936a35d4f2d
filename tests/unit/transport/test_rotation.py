from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.clock import SECOND
from raytrade.transport.rotation import SLOTS, YOUNG_S, rotation_due_ns

DAY_S = 24 * 3600
HOUR_NS = 3600 * SECOND
NOW = st.integers(1_600_000_000 * SECOND, 1_900_000_000 * SECOND)


@settings(deadline=None)
@given(NOW, st.integers(0, SLOTS - 1))
def test_a_line_is_opened_anew_before_the_venue_cuts_it(opened_ns: int, slot: int) -> None:
    due_ns = rotation_due_ns(slot, opened_ns, DAY_S)
    assert due_ns is not None
    assert YOUNG_S * SECOND <= due_ns - opened_ns < DAY_S * SECOND - HOUR_NS // 2


@settings(deadline=None)
@given(st.lists(st.tuples(NOW, st.integers(0, SLOTS - 1)), min_size=2, max_size=6, unique_by=lambda pair: pair[1]))
def test_copies_with_different_slots_never_go_within_an_hour(lines: list[tuple[int, int]]) -> None:
    """Whenever they were opened, over four rounds."""
    times = []
    for opened_ns, slot in lines:
        at_ns: int | None = opened_ns
        for _ in range(4):
            assert at_ns is not None
            at_ns = rotation_due_ns(slot, at_ns, DAY_S)
            times.append((at_ns, slot))
    for at_ns, slot in times:
        assert at_ns is not None
        assert all(abs(at_ns - (other or 0)) > HOUR_NS for other, mine in times if mine != slot)


def test_a_venue_that_cuts_nothing_and_one_that_cuts_soon() -> None:
    assert rotation_due_ns(3, 0, 0) is None
    assert rotation_due_ns(3, 5, 600) == 5 + 300 * SECOND
