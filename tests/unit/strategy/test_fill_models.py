"""Queues: where an order stands, what moves it on, and that no trade fills more than its size."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Side, Trade
from raytrade.strategy import Fill, FillRule, PaperBroker, PaperSettings
from raytrade.strategy.fill_models import QueueModel
from tests.unit.strategy.streams import BTC

BUY, SELL = Side.BUY, Side.SELL
LAG_NS = 100


class Market:
    """A book of whole prices and sizes in tenths, moved by hand; each step is one nanosecond."""

    def __init__(self, rule: FillRule = FillRule.QUEUE) -> None:
        self.book = L2Book(BTC)
        settings = PaperSettings(fill_rule=rule, trade_lag_ns=LAG_NS)
        self.broker = PaperBroker({BTC: self.book}, settings)
        self.now_ns = 0
        self.show()

    def show(self, bids: tuple[int, ...] = (100, 50, 99, 70), asks: tuple[int, ...] = (101, 40, 102, 60)) -> list[str]:
        book = BookSnapshot(
            instrument=BTC, id_last=self.book.id_last + 1, bids=bids, asks=asks, price_scale=0, size_scale=1
        )
        self.book.apply(book)
        return self._moved()

    def move(self, bids: tuple[int, ...] = (), asks: tuple[int, ...] = (), wait_ns: int = 1) -> list[str]:
        self.now_ns += wait_ns - 1
        last = self.book.id_last
        delta = BookDelta(
            instrument=BTC, id_prev=last, id_last=last + 1, bids=bids, asks=asks, price_scale=0, size_scale=1
        )
        self.book.apply(delta)
        return self._moved()

    def _moved(self) -> list[str]:
        self.now_ns += 1
        self.broker.receive_book(BTC, self.now_ns)
        return self.fills()

    def trade(self, price: int, size: int, aggressor: Side = SELL, flags: int = 0) -> list[str]:
        self.now_ns += 1
        trade = Trade(
            instrument=BTC,
            trade_id="1",
            price=price,
            size=size,
            price_scale=0,
            size_scale=1,
            aggressor=aggressor,
            flags=flags,
        )
        self.broker.receive_trade(trade, self.now_ns)
        return self.fills()

    def limit(self, side: Side, price: str, quantity: str) -> int:
        return self.broker.limit(BTC, side, price, quantity, self.now_ns)

    def fills(self) -> list[str]:
        self.broker.validate()
        return [f"{f.order_id}:{f.quantity}@{f.price}" for f in self.broker.events() if isinstance(f, Fill)]

    def ahead(self, order_id: int) -> Decimal:
        model = self.broker._model
        assert isinstance(model, QueueModel)
        return model.ahead(self.broker.orders[order_id])


def test_an_order_waits_behind_what_was_shown() -> None:
    market = Market()
    order = market.limit(BUY, "100", "2")
    assert market.ahead(order) == 5
    assert market.trade(100, 30) == [] and market.ahead(order) == 2
    assert market.trade(100, 30) == ["1:1@100"]
    assert market.trade(100, 30) == ["1:1@100"] and not market.broker.orders
    assert market.broker.position(BTC) == 2


def test_the_other_aggressor_and_old_trades_do_not_count() -> None:
    market = Market()
    order = market.limit(BUY, "100", "2")
    for aggressor, flags in ((BUY, 0), (Side.NONE, 0), (SELL, int(Flag.HISTORY))):
        assert market.trade(100, 300, aggressor, flags) == [] and market.ahead(order) == 5


def test_a_trade_through_the_price_fills_before_all_else() -> None:
    market = Market()
    market.limit(BUY, "100", "2")
    assert market.trade(99, 15, Side.NONE) == ["1:1.5@100"]
    assert market.trade(99, 15) == ["1:0.5@100"]
    market.limit(SELL, "101", "2")
    assert market.trade(102, 5, BUY) == ["2:0.5@101"]


def test_own_orders_share_a_trade_better_price_first_then_older() -> None:
    market = Market()
    market.limit(BUY, "100", "1")
    market.limit(BUY, "100", "1")
    assert market.trade(100, 65) == ["1:1@100", "2:0.5@100"]
    market.show(bids=(100, 50), asks=(110, 40))
    market.limit(BUY, "105", "1")
    assert market.trade(100, 8) == ["3:0.8@105"]


@pytest.mark.parametrize(("rule", "left"), [(FillRule.QUEUE, 5), (FillRule.QUEUE_PRO_RATA, 3)])
def test_cancellations_behind_or_in_proportion(rule: FillRule, left: int) -> None:
    market = Market(rule)
    order = market.limit(BUY, "100", "1")
    market.move(bids=(100, 100))
    assert market.ahead(order) == 5
    market.move(bids=(100, 60))
    assert market.ahead(order) == 5
    market.move(wait_ns=LAG_NS)
    assert market.ahead(order) == left


def test_nobody_stands_ahead_at_a_level_that_is_gone() -> None:
    market = Market()
    order = market.limit(BUY, "100", "1")
    market.move(bids=(100, 0))
    market.move(wait_ns=LAG_NS)
    assert market.ahead(order) == 0 and market.trade(100, 4) == ["1:0.4@100"]


@pytest.mark.parametrize("trade_first", [True, False])
def test_a_trade_and_its_change_of_the_book_count_once(trade_first: bool) -> None:
    market = Market(FillRule.QUEUE_PRO_RATA)
    order = market.limit(BUY, "100", "1")
    for is_trade in (trade_first, not trade_first):
        assert (market.trade(100, 20) if is_trade else market.move(bids=(100, 30))) == []
    market.move(wait_ns=LAG_NS)
    assert market.ahead(order) == 3


def test_a_trade_that_the_book_never_shows_explains_no_later_loss() -> None:
    market = Market(FillRule.QUEUE_PRO_RATA)
    order = market.limit(BUY, "100", "1")
    market.trade(100, 10)
    market.move(wait_ns=LAG_NS)
    market.move(bids=(100, 25))
    market.move(wait_ns=LAG_NS)
    assert market.ahead(order) == 2


def test_an_order_inside_the_spread_is_first() -> None:
    market = Market()
    market.show(asks=(110, 40))
    order = market.limit(BUY, "105", "1")
    assert market.ahead(order) == 0 and market.trade(105, 3) == ["1:0.3@105"]


def test_a_queue_follows_a_finer_scale() -> None:
    market = Market()
    order = market.limit(BUY, "100", "1")
    finer = BookDelta(instrument=BTC, id_prev=1, id_last=2, bids=(10_000, 30_000), asks=(), price_scale=2, size_scale=4)
    market.book.apply(finer)
    market._moved()
    market.move(wait_ns=LAG_NS)
    assert market.ahead(order) == 3


def test_nothing_fills_while_the_book_is_not_live() -> None:
    market = Market()
    market.limit(BUY, "100", "1")
    market.book.invalidate()
    assert market.trade(90, 100) == []


def test_the_crossing_rule_takes_no_notice_of_trades() -> None:
    market = Market(FillRule.CROSS)
    market.limit(BUY, "100", "1")
    assert market.trade(90, 100) == []
    assert market.move(asks=(100, 5)) == ["1:0.5@100"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(97, 104), st.integers(1, 90), st.sampled_from(list(Side))),
        st.tuples(st.just("bid"), st.integers(97, 100), st.integers(0, 90), st.just(BUY)),
        st.tuples(st.just("ask"), st.integers(101, 104), st.integers(0, 90), st.just(SELL)),
        st.tuples(st.just("order"), st.integers(97, 104), st.integers(1, 30), st.sampled_from([BUY, SELL])),
        st.tuples(st.just("wait"), st.integers(0, 0), st.integers(1, 200), st.just(BUY)),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([FillRule.QUEUE, FillRule.QUEUE_PRO_RATA]))
def test_no_trade_fills_more_than_its_size_and_no_place_is_negative(steps, rule: FillRule) -> None:  # type: ignore[no-untyped-def]
    market = Market(rule)
    for kind, price, amount, side in steps:
        before = sum((account.bought + account.sold for account in market.broker.accounts.values()), Decimal(0))
        match kind:
            case "trade":
                market.trade(price, amount, side)
                account = market.broker.account(BTC)
                assert account.bought + account.sold - before <= Decimal(amount) / 10
            case "order":
                market.limit(side, str(price), str(Decimal(amount) / 10))
            case "wait":
                market.move(wait_ns=amount)
            case _:
                change = (price, amount)
                market.move(bids=change if kind == "bid" else (), asks=change if kind == "ask" else ())
        for order_id in market.broker.orders:
            assert market.ahead(order_id) >= 0
