"""Features: known values, bounds that always hold, and the same value from the plain definition."""

from __future__ import annotations

from itertools import pairwise
from math import log, sqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raytrade.core.book import L2Book, Top
from raytrade.core.clock import SECOND
from raytrade.core.events import BookSnapshot
from raytrade.strategy.features import (
    Bars,
    OrderFlowImbalance,
    RealisedVolatility,
    Vwap,
    imbalance,
    microprice,
    mid,
)
from tests.unit.strategy.streams import BTC


def top_of(bid: int, bid_size: int, ask: int, ask_size: int) -> Top:
    return Top(bid, bid_size, ask, ask_size, 2, 1)


TOPS = st.builds(
    lambda bid, spread, sizes: top_of(bid, sizes[0], bid + spread, sizes[1]),
    st.integers(1, 10**6),
    st.integers(1, 500),
    st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
)


@given(TOPS)
def test_the_microprice_lies_inside_and_leans_to_the_lighter_side(top: Top) -> None:
    value = microprice(top)
    slack = 1e-9 * top.ask
    assert top.bid - slack <= value <= top.ask + slack
    if top.bid_size > top.ask_size:
        assert value >= mid(top) - slack
    if top.bid_size == top.ask_size:
        assert value == pytest.approx(mid(top))


def test_known_values() -> None:
    assert mid(top_of(10_000, 30, 10_100, 10)) == 100.5
    assert microprice(top_of(10_000, 30, 10_100, 10)) == pytest.approx(100.75)


@given(st.lists(st.integers(1, 1000), max_size=6), st.lists(st.integers(1, 1000), max_size=6), st.integers(1, 8))
def test_imbalance_is_between_one_and_minus_one_and_odd(bids: list[int], asks: list[int], levels: int) -> None:
    def book_of(low: list[int], high: list[int]) -> L2Book:
        sides = [
            tuple(value for at, size in enumerate(part) for value in (1000 + sign * (at + 1), size))
            for part, sign in ((low, -1), (high, 1))
        ]
        book = L2Book(BTC)
        book.apply(BookSnapshot(instrument=BTC, id_last=1, bids=sides[0], asks=sides[1], price_scale=0, size_scale=0))
        return book

    value, mirrored = imbalance(book_of(bids, asks), levels), imbalance(book_of(asks, bids), levels)
    if value is None or mirrored is None:
        assert not bids and not asks
    else:
        assert -1 <= value <= 1 and value == -mirrored
        assert value == (sum(bids[:levels]) - sum(asks[:levels])) / (sum(bids[:levels]) + sum(asks[:levels]))


def test_order_flow_imbalance_of_single_events() -> None:
    """The four cases of the paper: size grows, price rises, price falls, and the same of the asks."""
    feature = OrderFlowImbalance()
    steps = [
        (top_of(100, 50, 110, 40), 0.0),
        (top_of(100, 70, 110, 40), 2.0),
        (top_of(105, 10, 110, 40), 2.0 + 1.0),
        (top_of(100, 70, 110, 40), 3.0 - 1.0),
        (top_of(100, 70, 108, 20), 2.0 - 2.0),
        (top_of(100, 70, 110, 40), 0.0 + 2.0),
    ]
    for at, (top, expected) in enumerate(steps):
        assert feature.update(top, at) == pytest.approx(expected)


@given(st.lists(TOPS, min_size=1, max_size=40))
@example([top_of(1, 34186, 2, 1), top_of(1, 1, 2, 7307), top_of(1, 34186, 2, 1)])
def test_order_flow_forgets_and_mirrors(tops: list[Top]) -> None:
    feature, mirrored = OrderFlowImbalance(10), OrderFlowImbalance(10)
    for at, top in enumerate(tops):
        value = feature.update(top, at)
        other = top_of(2 * 10**6 - top.ask_ticks, top.ask_lots, 2 * 10**6 - top.bid_ticks, top.bid_lots)
        assert value == -mirrored.update(other, at)
    assert feature.update(tops[-1], len(tops) + 100) == 0


PRICES = st.lists(st.tuples(st.floats(1, 1e5), st.floats(0.001, 1e3)), min_size=1, max_size=50)


@given(PRICES)
def test_vwap_is_between_the_prices(trades: list[tuple[float, float]]) -> None:
    feature = Vwap(20)
    for at, (price, size) in enumerate(trades):
        value = feature.update(price, size, at)
        window = trades[max(at - 19, 0) : at + 1]
        assert value == pytest.approx(sum(p * s for p, s in window) / sum(s for _, s in window))
    assert Vwap().value is None


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=40), st.floats(0.1, 1e4))
def test_volatility_is_that_of_the_definition_in_every_unit(factors: list[float], unit: float) -> None:
    plain, scaled = RealisedVolatility(SECOND, 30), RealisedVolatility(SECOND, 30)
    price, prices = 100.0, list[float]()
    for at, factor in enumerate(factors):
        price *= factor
        prices.append(price)
        plain.update(price, at * SECOND)
        scaled.update(price * unit, at * SECOND)
    changes = [log(later / earlier) for earlier, later in pairwise(prices)][-30:]
    assert plain.value == pytest.approx(sqrt(sum(change**2 for change in changes) / len(changes)))
    assert plain.value == pytest.approx(scaled.value)


def test_a_price_stands_until_the_next() -> None:
    feature = RealisedVolatility(SECOND, 4)
    assert feature.update(100.0, 0) is None
    assert feature.update(100.0, SECOND // 2) is None
    assert feature.update(110.0, 3 * SECOND) == pytest.approx(sqrt(log(1.1) ** 2 / 3))
    assert feature.update(110.0, 10**6 * SECOND) == 0


def test_bars() -> None:
    bars = Bars(1)
    prices = [(0, 5.0), (10, 7.0), (20, 4.0), (SECOND - 1, 6.0)]
    assert all(bars.update(price, at) is None for at, price in prices)
    bar = bars.update(9.0, 3 * SECOND)
    assert bar is not None and (bar.ts_ns, bar.open, bar.high, bar.low, bar.close) == (0, 5.0, 7.0, 4.0, 6.0)
    bar = bars.update(1.0, 4 * SECOND)
    assert bar is not None and (bar.ts_ns, bar.open, bar.close) == (3 * SECOND, 9.0, 9.0)
