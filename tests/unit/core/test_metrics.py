from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.metrics import BUCKETS, Histogram

DURATIONS = st.lists(st.integers(-5, 2**63 - 1), min_size=1, max_size=60)


def recorded(durations: list[int]) -> Histogram:
    histogram = Histogram()
    for duration_ns in durations:
        histogram.record(duration_ns)
    return histogram


def test_without_records() -> None:
    assert Histogram().quantile_ns(0.5) == 0


def test_histograms_do_not_share_counts() -> None:
    first = recorded([5])
    assert Histogram().counts == {}
    assert first.counts == {5: 1}


def test_small_durations_are_exact() -> None:
    histogram = recorded(list(range(1, 9)))
    assert [histogram.quantile_ns(share / 8) for share in range(1, 9)] == list(range(1, 9))


@given(DURATIONS, st.floats(0.01, 1))
def test_a_quantile_is_never_too_low_and_at_most_an_eighth_too_high(durations: list[int], share: float) -> None:
    histogram = recorded(durations)
    rank = min(len(durations), max(1, math.ceil(share * len(durations) - 1e-9)))
    exact = max(0, sorted(durations)[rank - 1])
    assert exact <= histogram.quantile_ns(share) <= exact + exact // 8 + 1
    assert set(histogram.counts) <= set(range(BUCKETS))


@given(DURATIONS, DURATIONS)
def test_merging_is_recording_both(left: list[int], right: list[int]) -> None:
    merged = recorded(left)
    merged.merge(recorded(right))
    assert merged == recorded(left + right)
