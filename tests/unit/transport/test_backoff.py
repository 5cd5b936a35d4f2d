from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raytrade.transport.backoff import Backoff


def delays(backoff: Backoff, count: int) -> list[float]:
    return [backoff.delay_s() for _ in range(count)]


@given(st.integers(), st.floats(0.001, 10), st.floats(10, 100))
def test_delays_double_up_to_a_bound(seed: int, first_s: float, most_s: float) -> None:
    bound = first_s
    for delay_s in delays(Backoff(seed, first_s, most_s), 20):
        assert bound / 2 <= delay_s <= bound
        bound = min(2 * bound, most_s)


def test_success_begins_again() -> None:
    backoff = Backoff(1, first_s=0.25)
    assert max(delays(backoff, 8)) > 10
    backoff.reset()
    assert backoff.delay_s() <= 0.25


def test_lines_do_not_come_back_in_step_and_each_can_be_repeated() -> None:
    assert delays(Backoff(1), 5) == delays(Backoff(1), 5) != delays(Backoff(2), 5)
