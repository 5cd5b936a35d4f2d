"""The dictionary that forgets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.recent import Recent


@given(st.lists(st.integers(0, 20)), st.integers(1, 5))
def test_it_holds_the_newest_keys(keys: list[int], entries_max: int) -> None:
    recent: Recent[int, str] = Recent(entries_max)
    order: list[int] = []
    for key in keys:
        is_new = key not in recent
        forgotten = recent.add(key, str(key))
        if is_new:
            order.append(key)
        assert forgotten == (str(order.pop(0)) if len(order) > entries_max else None)
    assert list(recent) == order


def test_clearing_forgets_the_order_too() -> None:
    recent: Recent[str, int] = Recent(1)
    recent.add("a", 1)
    recent.clear()
    assert recent.add("b", 2) is None
    assert recent.add("c", 3) == 2
