from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Side
from raytrade.errors import ConfigError, InvariantError
from raytrade.strategy import Fees, Fill, PaperBroker, PaperSettings, Rejection
from tests.unit.strategy.streams import BTC, HIT

BUY, SELL = Side.BUY, Side.SELL
FEES = {"binance-spot": Fees(maker_bps=Decimal("-1"), taker_bps=Decimal("7.5"))}


class Market:
    """A book that is moved by hand, and the paper account over it; prices in whole units, sizes in tenths."""

    def __init__(self, paper: PaperSettings | None = None, instrument: str = BTC) -> None:
        self.book = L2Book(instrument)
        self.broker = PaperBroker({instrument: self.book}, paper)
        self.instrument = instrument
        self.now_ns = 0

    def show(
        self, bids: tuple[int, ...] = (100, 50, 99, 70), asks: tuple[int, ...] = (101, 40, 102, 60)
    ) -> list[Fill | Rejection]:
        event = BookSnapshot(
            instrument=self.instrument,
            id_last=self.book.id_last + 1,
            bids=bids,
            asks=asks,
            price_scale=0,
            size_scale=1,
        )
        return self._apply(event)

    def move(
        self,
        bids: tuple[int, ...] = (),
        asks: tuple[int, ...] = (),
        price_scale: int = 0,
        size_scale: int = 1,
    ) -> list[Fill | Rejection]:
        event = BookDelta(
            instrument=self.instrument,
            id_prev=self.book.id_last,
            id_last=self.book.id_last + 1,
            bids=bids,
            asks=asks,
            price_scale=price_scale,
            size_scale=size_scale,
        )
        return self._apply(event)

    def _apply(self, event: BookSnapshot | BookDelta) -> list[Fill | Rejection]:
        self.now_ns += 1
        self.book.apply(event)
        self.broker.receive_book(self.instrument, self.now_ns)
        return self.events()

    def limit(self, side: Side, price: object, quantity: object) -> list[Fill | Rejection]:
        self.broker.limit(self.instrument, side, price, quantity, self.now_ns)
        return self.events()

    def market(self, side: Side, quantity: object) -> list[Fill | Rejection]:
        self.broker.market(self.instrument, side, quantity, self.now_ns)
        return self.events()

    def events(self) -> list[Fill | Rejection]:
        self.broker.validate()
        return self.broker.events()


def live(paper: PaperSettings | None = None) -> Market:
    market = Market(paper)
    market.show()
    return market


def parts(events: list[Fill | Rejection]) -> list[tuple[str, str, bool]]:
    assert all(isinstance(event, Fill) for event in events)
    return [(str(f.price), str(f.quantity), f.is_maker) for f in events if isinstance(f, Fill)]


def refusal(events: list[Fill | Rejection]) -> Rejection:
    (event,) = events
    assert isinstance(event, Rejection)
    return event


# Taking.


def test_market_order_walks_the_levels() -> None:
    market = live()
    assert parts(market.market(BUY, "5")) == [("101", "4", False), ("102", "1", False)]
    assert market.broker.position(BTC) == 5
    assert market.broker.cash == -506
    assert parts(market.market(SELL, "6")) == [("100", "5", False), ("99", "1", False)]
    assert market.broker.account(BTC).realised == Decimal(4 * -1 + 1 * -2) and market.broker.position(BTC) == -1


def test_market_order_for_more_than_is_shown() -> None:
    market = live()
    *fills, rest = market.market(BUY, "12")
    assert sum(f.quantity for f in fills if isinstance(f, Fill)) == 10
    rejection = refusal([rest])
    assert rejection.reason == "no more size is shown" and rejection.quantity == 2
    assert rejection.order_id == 1 and not market.broker.orders


def test_crossing_limit_takes_up_to_its_price_and_rests() -> None:
    market = live()
    assert parts(market.limit(BUY, "101", "5")) == [("101", "4", False)]
    (order,) = market.broker.orders.values()
    assert order.filled == 4 and order.remaining == 1 and order.price == 101


def test_fees_per_venue() -> None:
    market = live(PaperSettings(fees=FEES, cash=Decimal(1000)))
    (taken,) = market.market(BUY, "2")
    assert isinstance(taken, Fill) and taken.fee == Decimal("0.1515")
    market.limit(BUY, "100", "1")
    (made,) = market.move(asks=(100, 10))
    assert isinstance(made, Fill) and made.fee == Decimal("-0.01")
    assert market.broker.cash == 1000 - 202 - 100 - Decimal("0.1415")
    elsewhere = Market(PaperSettings(fees=FEES, fees_elsewhere=Fees(taker_bps=Decimal(10))), HIT)
    elsewhere.show()
    (other,) = elsewhere.market(BUY, "1")
    assert isinstance(other, Fill) and other.fee == Decimal("0.101")


# Resting.


def test_resting_order_fills_at_its_own_price_for_what_is_shown_through_it() -> None:
    market = live()
    assert market.limit(BUY, "100", "9") == []
    assert market.move(asks=(102, 10)) == []
    assert parts(market.move(asks=(98, 20, 100, 30))) == [("100", "5", True)]
    assert market.move(bids=(90, 1)) == [], "the same size is not taken twice"
    assert parts(market.move(asks=(98, 25))) == [("100", "2.5", True)]
    assert parts(market.move(asks=(98, 30))) == [("100", "1.5", True)]
    assert not market.broker.orders and market.broker.position(BTC) == 9


def test_taken_size_is_back_when_the_level_changes() -> None:
    market = live()
    assert parts(market.market(BUY, "3")) == [("101", "3", False)]
    assert parts(market.market(BUY, "2")) == [("101", "1", False), ("102", "1", False)]
    market.move(asks=(101, 41))
    assert parts(market.market(BUY, "5")) == [("101", "4.1", False), ("102", "0.9", False)]
    market.show()
    assert parts(market.market(BUY, "8"))[0] == ("101", "4", False)


def test_taken_size_survives_a_finer_scale() -> None:
    market = live()
    market.market(BUY, "3")
    market.move(bids=(9950, 1000), price_scale=2, size_scale=3)
    assert market.book.price_scale == 2
    assert parts(market.market(BUY, "2"))[0] == ("101", "1", False)


def test_better_price_first_then_older() -> None:
    market = live()
    for price in ("99", "100", "100"):
        market.limit(BUY, price, "1")
    fills = market.move(asks=(97, 25))
    assert [(f.order_id, str(f.quantity)) for f in fills if isinstance(f, Fill)] == [
        (2, "1"),
        (3, "1"),
        (1, "0.5"),
    ]


def test_nothing_fills_while_the_book_is_not_live() -> None:
    market = Market()
    assert market.limit(BUY, "105", "1") == []
    assert refusal(market.market(BUY, "1")).reason == "the book is syncing"
    assert parts(market.show()) == [("105", "1", True)]
    market.limit(SELL, "103", "1")
    market.book.invalidate()
    assert refusal(market.market(SELL, "1")).reason == "the book is stale"
    assert market.move(bids=(104, 50)) == []
    market.limit(SELL, "104", "1")
    market.book.revalidate()
    assert parts(market.move()) == [("103", "1", True), ("104", "1", True)]


def test_own_orders_do_not_meet() -> None:
    market = live()
    market.limit(SELL, "105", "1")
    market.move(asks=(101, 0, 102, 0, 110, 10))
    assert market.limit(BUY, "106", "1") == []
    assert len(market.broker.orders) == 2


# Refusals.


@pytest.mark.parametrize(
    ("side", "price", "quantity", "reason"),
    [
        (BUY, "0", "1", "price"),
        (BUY, None, "1", "price"),
        (BUY, 100.5, "1", "price"),
        (BUY, "100", "-1", "quantity"),
        (BUY, "100", 0.1, "quantity"),
        (Side.NONE, "100", "1", "buys or sells"),
    ],
)
def test_refusals(side: Side, price: object, quantity: object, reason: str) -> None:
    market = live()
    assert reason in refusal(market.limit(side, price, quantity)).reason
    assert not market.broker.orders


def test_unknown_instrument_and_too_many_orders() -> None:
    market = live(PaperSettings(orders_max=1))
    market.broker.limit(HIT, BUY, "1", "1", 0)
    assert refusal(market.events()).reason == "no book of this instrument"
    market.limit(BUY, "90", "1")
    assert "resting already" in refusal(market.limit(BUY, "91", "1")).reason
    assert parts(market.market(BUY, "1"))


def test_cancel() -> None:
    market = live()
    market.limit(BUY, "90", "1")
    assert market.broker.cancel(1, 0) and not market.broker.orders
    assert not market.broker.cancel(1, 0)
    assert refusal(market.events()).reason == "no such order is resting"
    assert market.move(asks=(80, 10)) == []
    market.limit(BUY, "70", "1")
    assert market.broker.cancel_all() == 1


@pytest.mark.parametrize("fee", ["NaN", "1e-9", "10001"])
def test_fees_that_are_none(fee: str) -> None:
    with pytest.raises(ConfigError, match="taker_bps"):
        Fees(taker_bps=Decimal(fee))


def test_validate_finds_a_lost_order() -> None:
    market = live()
    market.limit(BUY, "90", "1")
    del market.broker.orders[1]
    with pytest.raises(InvariantError):
        market.broker.validate()


# Any course of events.

PRICES = st.integers(95, 105)
LOTS = st.integers(0, 30)
QUANTITIES = st.decimals(min_value="0.001", max_value="8", places=3)
STEPS = st.one_of(
    st.tuples(st.just("bid"), PRICES, LOTS),
    st.tuples(st.just("ask"), PRICES, LOTS),
    st.tuples(st.just("buy"), PRICES, QUANTITIES),
    st.tuples(st.just("sell"), PRICES, QUANTITIES),
    st.tuples(st.just("market"), st.sampled_from([1, 2]), QUANTITIES),
    st.tuples(st.just("cancel"), st.integers(1, 12), st.none()),
    st.tuples(st.just("doubt"), st.booleans(), st.none()),
)


class Check:
    """What must hold of every fill, whatever happens: kept beside the broker, in another way."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.ordered: dict[int, Fraction] = {}
        self.filled: dict[int, Fraction] = {}
        self.limits: dict[int, tuple[Side, Fraction]] = {}
        self.worth = Fraction(0)
        self.position = Fraction(0)

    def order(self, order_id: int, quantity: Decimal, side: Side, price: int | None) -> None:
        self.ordered[order_id] = Fraction(quantity)
        if price is not None:
            self.limits[order_id] = side, Fraction(price)

    def follow(self, events: list[Fill | Rejection]) -> None:
        for event in events:
            if isinstance(event, Fill):
                self._fill(event)

    def _fill(self, fill: Fill) -> None:
        assert self.market.book.state.value == "live"
        sign = 1 if fill.side is BUY else -1
        price, quantity = Fraction(fill.price), Fraction(fill.quantity)
        self.filled[fill.order_id] = self.filled.get(fill.order_id, Fraction(0)) + quantity
        assert 0 < self.filled[fill.order_id] <= self.ordered[fill.order_id]
        if fill.order_id in self.limits:
            _, limit = self.limits[fill.order_id]
            assert (limit - price) * sign >= 0
            assert not fill.is_maker or price == limit
        self.position += sign * quantity
        self.worth -= sign * price * quantity + Fraction(fill.fee)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_any_course_keeps_the_books_balanced(steps: list[tuple[str, int, Decimal | int | None]]) -> None:
    market = live(PaperSettings(fees=FEES))
    check = Check(market)
    placed = 0
    for name, number, amount in steps:
        match name:
            case "bid" | "ask":
                assert isinstance(amount, int)
                level = (number, amount)
                check.follow(market.move(bids=level) if name == "bid" else market.move(asks=level))
            case "buy" | "sell" | "market":
                assert isinstance(amount, Decimal)
                placed += 1
                side_of = {"buy": BUY, "sell": SELL, "market": Side(number) if number < 3 else BUY}[name]
                check.order(placed, amount, side_of, None if name == "market" else number)
                place = market.market(side_of, amount) if name == "market" else market.limit(side_of, number, amount)
                check.follow(place)
            case "cancel":
                market.broker.cancel(number, 0)
                market.events()
            case "doubt" if number:
                market.book.invalidate()
            case _:
                market.book.revalidate()
    account = market.broker.account(BTC)
    assert Fraction(account.position) == check.position and Fraction(market.broker.cash) == check.worth
    for order_id, order in market.broker.orders.items():
        assert Fraction(order.filled) == check.filled.get(order_id, 0)
        assert Fraction(order.quantity) == check.ordered[order_id]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), QUANTITIES), max_size=20))
def test_a_still_book_gives_no_more_than_it_shows(orders: list[tuple[bool, Decimal]]) -> None:
    market = live()
    had = Fraction(0)
    for at_market, quantity in orders:
        events = market.market(BUY, quantity) if at_market else market.limit(BUY, "102", quantity)
        had += sum(Fraction(event.quantity) for event in events if isinstance(event, Fill))
        market.move(bids=(90, 1))
    wanted = sum(Fraction(quantity) for _, quantity in orders)
    assert had == min(wanted, 10)
