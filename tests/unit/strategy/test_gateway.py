"""The order gateway by hand: once, in order, in its epoch."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import Side
from raytrade.core.instrument import Filter
from raytrade.errors import ConfigError
from raytrade.rules import rule_of
from raytrade.strategy import BaseStrategy, Context, Fill, PaperBroker
from raytrade.strategy.desk import Desk, Turn
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.gateway import (
    STATE_BYTES_MAX,
    Call,
    GatewaySettings,
    OrderGateway,
    Request,
    Word,
    order_id_of,
)
from raytrade.strategy.orders import Order
from raytrade.strategy.replica import Replica, state_of
from tests.unit.strategy.streams import BTC, T0
from tests.unit.strategy.test_paper import BUY, Market


class Desks:
    """An executor that only writes down."""

    def __init__(self) -> None:
        self.placed: list[int] = []
        self.cancelled: list[int] = []

    def place(self, order: Order) -> None:
        self.placed.append(order.order_id)

    def cancel(self, order_id: int) -> None:
        self.cancelled.append(order_id)


def request(number: int) -> Request:
    return Request(number=number, instrument=BTC, side=Side.BUY, price=Decimal(100), quantity=Decimal(1))


def fill(order_id: int) -> Fill:
    return Fill(
        fill_id=0,
        order_id=order_id,
        instrument=BTC,
        side=Side.BUY,
        price=Decimal(100),
        quantity=Decimal(1),
        fee=Decimal(0),
        is_maker=False,
        ts_fill_ns=T0,
        book_id=1,
    )


def call(replica: str, epoch: int = 0, *numbers: int, is_leaving: bool = False, is_over: bool = False) -> Call:
    requests = tuple(map(request, numbers))
    return Call(replica=replica, epoch=epoch, requests=requests, is_warm=True, is_leaving=is_leaving, is_over=is_over)


def granted() -> tuple[OrderGateway, Desks]:
    executor = Desks()
    gateway = OrderGateway(executor, GatewaySettings(reports_max=3))
    gateway.receive(call("a"), T0)
    gateway.receive(call("b"), T0)
    assert (gateway.active, gateway.epoch) == ("a", 1)
    return gateway, executor


def test_a_request_is_taken_once_and_in_order() -> None:
    gateway, executor = granted()
    gateway.receive(call("a", 1, 2, 3), T0)
    assert executor.placed == []
    for _ in range(3):
        gateway.receive(call("a", 1, 1, 2), T0)
    assert executor.placed == [order_id_of(1, 1), order_id_of(1, 2)] and gateway.taken == 2


def test_requests_of_another_epoch_or_of_a_standby_are_refused() -> None:
    gateway, executor = granted()
    gateway.receive(call("b", 1, 1), T0)
    assert (executor.placed, gateway.refused) == ([], 1)
    for tenths in range(1, 10):
        gateway.receive(call("b"), T0 + tenths * SECOND // 10)
    assert (gateway.active, gateway.epoch) == ("b", 2)
    gateway.receive(call("a", 1, 1, 2), T0 + SECOND)
    assert (executor.placed, gateway.refused) == ([], 3)


def test_one_that_leaves_is_followed_at_once_and_one_that_is_over_by_nobody() -> None:
    gateway, executor = granted()
    gateway.receive(call("a", 1, 1, is_leaving=True), T0)
    assert gateway.active == "b" and executor.placed == [order_id_of(1, 1)]
    gateway.receive(call("b", 2, is_over=True), T0)
    assert executor.cancelled == [order_id_of(1, 1)]
    gateway.receive(call("a"), T0 + 5 * SECOND)
    assert (gateway.active, gateway.epoch) == ("b", 2)


def test_a_new_process_of_the_active_one_needs_an_epoch_of_its_own() -> None:
    gateway, _ = granted()
    gateway.receive(Call(replica="a", life=7, is_warm=True), T0)
    assert gateway.epoch == 2
    gateway.receive(call("a", 1, 1), T0)
    assert gateway.taken == 0, "a call of the earlier process, late"


def test_more_reports_than_are_kept_come_as_a_whole_ledger() -> None:
    gateway, _ = granted()
    desk = Desk("a", 0)
    desk.receive(word(gateway, "a"), T0)
    for _ in range(5):
        desk.limit(BTC, BUY, "100", "1", T0)
    gateway.receive(desk.call(T0, is_warm=True, is_leaving=False) or call("?"), T0)
    for number in range(1, 6):
        gateway.report_fill(fill(order_id_of(1, number)))
    assert gateway.reports_lost == 2
    last = word(gateway, "a")
    assert last.opening is not None and last.opening.lost == 2
    desk.receive(last, T0)
    assert [each.fill_id for each in desk.events() if isinstance(each, Fill)] == [3, 4, 5]
    assert desk.position(BTC) == 5 and not desk.orders and desk.number == 5
    desk.validate()


def word(gateway: OrderGateway, replica: str) -> Word:
    return dict(gateway.words())[replica]


def test_a_gateway_that_has_lost_what_it_kept_begins_a_later_epoch() -> None:
    gateway = OrderGateway(Desks())
    gateway.receive(Call(replica="a", epoch=5, known=5, is_warm=True, requests=(request(9),)), T0)
    assert (gateway.epoch, gateway.taken, gateway.refused) == (6, 0, 1)


def test_a_desk_refuses_what_it_cannot_send() -> None:
    desk = Desk("a", 0)
    desk.limit(BTC, BUY, "100", "1", T0)
    gateway, _ = granted()
    assert desk.receive(word(gateway, "a"), T0) is Turn.ACTIVE
    assert not desk.events(), "what was refused to a standby is no news to the one that begins"
    desk.market(BTC, BUY, "no number", T0)
    desk.market(BTC, BUY, "1", T0 + 2 * SECOND)
    reasons = [getattr(each, "reason", "") for each in desk.events()]
    assert reasons == ["'no number' is not a number that can be held exactly", "the order gateway does not answer"]
    assert not desk.cancel(7, T0)


class Big(BaseStrategy):
    def __init__(self, state: object) -> None:
        self.state = state

    def save(self, context: Context) -> object:
        return self.state


def test_a_state_must_be_plain_and_bounded() -> None:
    context: Context = object()  # type: ignore[assignment]
    assert state_of(context, Big(None)) == b""
    with pytest.raises(ConfigError, match="at most"):
        state_of(context, Big(bytes(STATE_BYTES_MAX)))
    with pytest.raises(ConfigError, match="no plain data"):
        state_of(context, Big(object()))


def test_a_paper_account_goes_on_elsewhere() -> None:
    market = Market()
    market.show()
    market.broker.limit(BTC, BUY, "100", "2", 0)
    bought = market.broker.limit(BTC, BUY, "101", "3", 0)
    image = market.broker.image()
    moved = PaperBroker({BTC: market.book})
    moved.restore(image)
    moved.validate()
    assert moved.position(BTC) == market.broker.position(BTC) == 3 and moved.cash == market.broker.cash
    assert list(moved.orders.values()) == list(market.broker.orders.values())
    assert moved.limit(BTC, BUY, "1", "1", 0) == bought + 1
    moved.receive_book(BTC, 0)
    assert not moved.events()


class Buyer(BaseStrategy):
    """Orders once, and remembers that it has."""

    def __init__(self) -> None:
        self.has_ordered = False

    def order(self, context: Context) -> None:
        self.has_ordered = True
        context.limit(BTC, Side.BUY, "100", "1")

    def save(self, context: Context) -> object:
        return self.has_ordered

    def restore(self, context: Context, state: object) -> None:
        self.has_ordered = bool(state)


def test_the_first_order_of_an_epoch_goes_with_the_state_it_was_decided_in() -> None:
    """Else who takes over within the first quarter of a second is told of fills that it knows no order of."""
    desk, strategy = Desk("a", 1), Buyer()
    engine = StrategyEngine("a", BaseStrategy(), Filter(), rule_of, broker=desk)
    replica = Replica(engine, desk, lambda: strategy)
    gateway = OrderGateway(Desks())
    gateway.receive(Call(replica="a", life=1, is_warm=True), T0)
    for _, word in gateway.words():
        replica.receive(word, T0)
    begun = replica.call(T0, is_warm=True)
    assert begun is not None and begun.checkpoint is not None and not begun.requests
    engine.act(strategy.order, T0 + 1)
    ordered = replica.call(T0 + 1, is_warm=True)
    assert ordered is not None and ordered.checkpoint is not None and len(ordered.requests) == 1
    gateway.receive(begun, T0 + 1)
    gateway.receive(ordered, T0 + 1)
    assert gateway.checkpoint is not None and msgspec.msgpack.decode(gateway.checkpoint.state) is True
