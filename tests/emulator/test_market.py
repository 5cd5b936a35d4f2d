"""The synthetic market by itself: whatever the seed, its promises hold."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.emulator.market import IdRule, Level, Market, MarketSettings, SymbolBook
from raytrade.emulator.windows import DepthWindow, WindowMerger, merge_steps

markets = st.builds(
    MarketSettings,
    symbols=st.sampled_from([("A",), ("A", "B"), ("A", "B", "C")]),
    seed=st.integers(0, 10_000),
    levels=st.integers(1, 30),
    depth=st.integers(10, 60),
    trades_share=st.floats(0, 1),
    id_rule=st.sampled_from(IdRule),
    is_touched=st.booleans(),
)


def copy_of(book: SymbolBook) -> SymbolBook:
    """Copy a book through its public view."""
    copy = SymbolBook(book.symbol, book.id_last)
    bids = [Level(True, price, size) for price, size in book.best_bids()]
    asks = [Level(False, price, size) for price, size in book.best_asks()]
    copy.apply([*bids, *asks], book.id_last)
    return copy


def state(book: SymbolBook) -> tuple[object, ...]:
    """Give what makes two books equal."""
    return book.id_last, book.best_bids(), book.best_asks()


@settings(max_examples=60, deadline=None)
@given(markets)
def test_books_are_never_crossed_and_replay_to_the_final_state(options: MarketSettings) -> None:
    market = Market(options)
    copies = {symbol: copy_of(book) for symbol, book in market.books.items()}
    trades: dict[str, int] = {}
    for _ in range(300):
        step = market.step()
        assert step.id_prev == copies[step.symbol].id_last
        assert step.id_prev < step.id_first <= step.id_last
        assert len({(level.is_bid, level.price) for level in step.levels}) == len(step.levels) > 0
        copies[step.symbol].apply(step.levels, step.id_last)
        book = market.books[step.symbol]
        assert not book.is_crossed
        assert book.bids.prices and book.asks.prices
        if step.trade is not None:
            assert step.trade.trade_id > trades.get(step.symbol, 0)
            trades[step.symbol] = step.trade.trade_id
    for symbol, book in market.books.items():
        assert state(book) == state(copies[symbol])
        assert book.bids.prices == sorted(book.bids.sizes)


@given(st.integers(0, 1000))
def test_the_same_seed_gives_the_same_market(seed: int) -> None:
    options = MarketSettings(symbols=("A", "B"), seed=seed)
    first, second = Market(options), Market(options)
    assert [first.step() for _ in range(50)] == [second.step() for _ in range(50)]


def test_net_markets_list_only_what_changed() -> None:
    market = Market(MarketSettings(symbols=("A",), is_touched=False))
    copy = copy_of(market.books["A"])
    for _ in range(2_000):
        step = market.step()
        for level in step.levels:
            side = copy.bids if level.is_bid else copy.asks
            assert side.sizes.get(level.price, 0) != level.size
        copy.apply(step.levels, step.id_last)


def test_touched_markets_repeat_unchanged_levels_now_and_then() -> None:
    market = Market(MarketSettings(symbols=("A",)))
    copy = copy_of(market.books["A"])
    repeats = 0
    for _ in range(500):
        step = market.step()
        for level in step.levels:
            side = copy.bids if level.is_bid else copy.asks
            repeats += side.sizes.get(level.price, 0) == level.size
        copy.apply(step.levels, step.id_last)
    assert repeats > 10


@settings(max_examples=40, deadline=None)
@given(markets, st.integers(2, 8), st.integers(0, 100))
def test_merged_windows_lead_to_the_same_book(options: MarketSettings, steps_max: int, seed: int) -> None:
    market = Market(options)
    symbol = options.symbols[0]
    copy = copy_of(market.books[symbol])
    merger = WindowMerger(steps_max, random.Random(seed))
    windows = []
    for _ in range(200):
        step = market.step()
        if step.symbol == symbol:
            windows.append(merger.add(step))
    windows.append(merger.flush())
    for window in windows:
        if window is not None:
            assert window.id_prev == copy.id_last
            copy.apply(window.levels, window.id_last)
    assert state(copy) == state(market.books[symbol])


def test_a_merged_window_lists_levels_that_came_back() -> None:
    market = Market(MarketSettings(symbols=("A",)))
    steps = [market.step() for _ in range(5)]
    touched = {(level.is_bid, level.price) for step in steps for level in step.levels}
    merged = merge_steps(steps)
    assert {(level.is_bid, level.price) for level in merged.levels} == touched
    assert (merged.id_prev, merged.id_last) == (steps[0].id_prev, steps[-1].id_last)


@settings(max_examples=40, deadline=None)
@given(markets, st.integers(1, 40), st.booleans())
def test_a_depth_window_follows_the_best_levels(options: MarketSettings, depth: int, tells_leaving: bool) -> None:
    market = Market(options)
    symbol = options.symbols[0]
    book = market.books[symbol]
    window = DepthWindow(book, depth, tells_leaving)
    bids, asks = dict(book.best_bids(depth)), dict(book.best_asks(depth))
    for _ in range(200):
        step = market.step()
        if step.symbol != symbol:
            continue
        for level in window.narrow(step).levels:
            side = bids if level.is_bid else asks
            side.pop(level.price, None)
            if level.size:
                side[level.price] = level.size
        if not tells_leaving:
            bids = dict(sorted(bids.items(), reverse=True)[:depth])
            asks = dict(sorted(asks.items())[:depth])
        assert bids == dict(book.best_bids(depth))
        assert asks == dict(book.best_asks(depth))


@pytest.mark.parametrize("rule", IdRule)
def test_ids_follow_the_rule(rule: IdRule) -> None:
    market = Market(MarketSettings(symbols=("A", "B"), id_rule=rule))
    steps = [market.step() for _ in range(200)]
    jumps = [step.id_first - step.id_prev for step in steps]
    assert (max(jumps) > 1) == (rule is IdRule.SPARSE)
    if rule is IdRule.SINGLE:
        assert all(step.id_last == step.id_prev + 1 for step in steps)
    if rule is IdRule.SPARSE:
        ids = [step.id_last for step in steps]
        assert ids == sorted(set(ids))
