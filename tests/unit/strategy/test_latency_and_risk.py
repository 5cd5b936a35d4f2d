"""Orders that take time to arrive, and limits that stop an account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND
from raytrade.core.events import Side
from raytrade.errors import ConfigError
from raytrade.strategy import (
    BaseStrategy,
    Context,
    EngineSettings,
    Fill,
    PaperSettings,
    Rejection,
    RiskLimits,
    StrategyHalted,
)
from tests.unit.strategy.streams import BTC, T0, Rig, delta, snapshot

BUY, SELL = Side.BUY, Side.SELL
LATE_NS = 10 * MILLISECOND


class Scripted(BaseStrategy):
    """Does at each book what the script says."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.seen: list[Any] = []
        self.stopped = 0

    def on_book(self, context: Context, book: L2Book) -> None:
        self.seen.append(sorted(context.orders))
        step = self.script.pop(0) if self.script else None
        if step is not None:
            step(context)

    def on_stop(self, context: Context) -> None:
        self.stopped += 1


def rig_of(strategy: BaseStrategy, **paper: Any) -> Rig:
    return Rig(strategy, settings=EngineSettings(paper=PaperSettings(**paper)))


def buy(quantity: str, price: str | None = None) -> Any:
    if price is None:
        return lambda context: context.market(BTC, BUY, quantity)
    return lambda context: context.limit(BTC, BUY, price, quantity)


def test_an_order_acts_on_the_book_as_it_is_when_it_arrives() -> None:
    rig = rig_of(Scripted(buy("1")), order_latency_ns=LATE_NS)
    rig.receive("a", snapshot(1))
    assert rig.of(Fill) == [] and rig.engine.deadline_ns() == rig.now_ns + LATE_NS
    sent_ns = rig.now_ns
    rig.receive("a", delta(2, asks=(101, 0)))
    rig.wait(LATE_NS)
    (fill,) = rig.of(Fill)
    assert (fill.price, fill.ts_fill_ns, fill.book_id) == (102, sent_ns + LATE_NS, 2)
    assert rig.engine.broker.due_ns is None


def test_an_order_comes_before_a_message_of_a_later_time() -> None:
    rig = rig_of(Scripted(buy("0.4")), order_latency_ns=LATE_NS)
    rig.receive("a", snapshot(1))
    rig.now_ns += 5 * LATE_NS
    rig.receive("a", delta(2, asks=(101, 0)))
    (fill,) = rig.of(Fill)
    assert fill.price == 101 and fill.ts_fill_ns < rig.now_ns


def test_orders_on_their_way_are_open_until_they_are_asked_to_go() -> None:
    strategy = Scripted(buy("1", "90"), lambda context: context.cancel(1), lambda context: context.cancel(1))
    rig = rig_of(strategy, order_latency_ns=LATE_NS)
    rig.receive("a", snapshot(1))
    rig.receive("a", delta(2, bids=(99, 1)), delta(3, bids=(99, 2)))
    assert strategy.seen == [[], [1], []]
    (refused,) = rig.of(Rejection)
    assert refused.reason == "no such order is open"
    rig.wait(2 * LATE_NS)
    assert not rig.engine.broker.orders and rig.of(Fill) == []


def test_an_order_may_fill_before_its_cancel_arrives() -> None:
    strategy = Scripted(buy("1", "100"), None, lambda context: context.cancel(1))
    rig = rig_of(strategy, order_latency_ns=LATE_NS)
    rig.receive("a", snapshot(1))
    rig.wait(LATE_NS)
    rig.receive("a", delta(2, bids=(99, 1)), delta(3, bids=(99, 2)), delta(4, asks=(100, 90)))
    assert len(rig.of(Fill)) == 1
    rig.wait(LATE_NS)
    assert [refused.reason for refused in rig.of(Rejection)] == ["no such order is resting"]


def test_what_is_on_its_way_at_the_end_does_not_arrive() -> None:
    rig = rig_of(Scripted(buy("1")), order_latency_ns=LATE_NS)
    rig.receive("a", snapshot(1))
    rig.engine.stop(rig.now_ns)
    assert rig.engine.broker.due_ns is None and rig.engine.broker.cancel_all() == 0


def test_limits_of_order_and_position() -> None:
    limits = RiskLimits(order_max=Decimal("0.5"), position_max=Decimal("0.7"))
    steps = [buy("0.6"), buy("0.4"), buy("0.2", "90"), buy("0.2"), lambda context: context.market(BTC, SELL, "0.4")]
    rig = rig_of(Scripted(*steps), risk=limits)
    rig.receive("a", snapshot(1), *(delta(n, bids=(99, n)) for n in range(2, 6)))
    reasons = [refused.reason for refused in rig.of(Rejection)]
    assert reasons[0] == "risk: 0.6 is more than order_max, 0.5"
    assert reasons[1] == "risk: a position of 0.8 is beyond position_max, 0.7"
    assert len(reasons) == 2 and rig.engine.broker.position(BTC) == 0


def test_a_loss_stops_the_strategy_for_good() -> None:
    strategy = Scripted(buy("2"), buy("1", "90"))
    rig = rig_of(strategy, risk=RiskLimits(loss_max=Decimal(5)))
    rig.receive("a", snapshot(1), delta(2, bids=(99, 3)))
    assert rig.of(StrategyHalted) == [] and len(rig.engine.broker.orders) == 1
    rig.receive("a", delta(3, bids=(100, 0, 99, 0, 95, 1), asks=(96, 1)))
    (halted,) = rig.of(StrategyHalted)
    assert halted.reason == "a loss of 6.1 is beyond loss_max, 5" and not rig.engine.broker.orders
    assert not rig.engine.is_running and strategy.stopped == 1
    assert rig.engine.broker.position(BTC) == 1
    rig.engine.broker.limit(BTC, BUY, "1", "1", T0)
    (refused,) = (event for event in rig.engine.broker.events() if isinstance(event, Rejection))
    assert refused.reason.startswith("risk: a loss of")
    seen = len(strategy.seen)
    rig.receive("a", delta(4, bids=(95, 2)))
    assert len(strategy.seen) == seen


def test_a_limit_is_a_number_from_zero_on() -> None:
    for value in ("-1", "NaN", "Infinity"):
        with pytest.raises(ConfigError, match="no limit"):
            RiskLimits(loss_max=Decimal(value))
