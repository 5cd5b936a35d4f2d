from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.events import Side
from raytrade.errors import ConfigError
from raytrade.strategy import (
    EngineSettings,
    Fees,
    Fill,
    Note,
    PaperSettings,
    Rejection,
    StrategyFailed,
    load_strategy,
)
from tests.unit.strategy.streams import BTC, ETH, HIT, Rig, delta, snapshot

EXAMPLES = Path(__file__).parents[3] / "examples" / "strategies"
GROUPS = {"BTC/USDT": [BTC, HIT]}


def monitor(**parameters: object) -> Rig:
    rig = Rig(load_strategy(f"{EXAMPLES}/spread_monitor.py:SpreadMonitor", {"groups": GROUPS, **parameters}))
    rig.receive("a", snapshot(1), snapshot(1, instrument=HIT), snapshot(1, instrument=ETH))
    return rig


def test_spread_monitor_logs_an_edge_once_when_it_opens_and_closes() -> None:
    rig = monitor(threshold_bps=50, fees_bps={"binance-spot": 10})
    assert not rig.of(Note) and rig.engine.statistics().gauges["edge_bps BTC/USDT"] < 0
    rig.receive("a", delta(2, bids=(103, 1), instrument=HIT), delta(3, bids=(103, 2), instrument=HIT))
    (opened,) = rig.of(Note)
    assert opened.text == "edge opened" and opened.fields["sell_on"] == HIT and opened.fields["buy_on"] == BTC
    assert opened.fields["edge_bps"] == pytest.approx(20_000 * 2 / 204 - 10)
    assert rig.engine.statistics().gauges["edge_bps BTC/USDT"] == opened.fields["edge_bps"]
    rig.receive("a", delta(4, bids=(103, 0), instrument=HIT))
    assert [note.text for note in rig.of(Note)] == ["edge opened", "edge closed"]


def test_spread_monitor_leaves_out_what_is_below_the_fees() -> None:
    rig = monitor(fees_bps={"binance-spot": 100, "hitbtc": 100})
    rig.receive("a", delta(2, bids=(102, 1), instrument=HIT))
    assert not rig.of(Note) and rig.engine.statistics().strategy_errors == 0


def imbalance(**parameters: object) -> Rig:
    paper = PaperSettings(fees_elsewhere=Fees(taker_bps=Decimal(5)))
    target = f"{EXAMPLES}/imbalance.py:Imbalance"
    strategy = load_strategy(target, {"instrument": BTC, "quantity": "0.6", **parameters})
    rig = Rig(strategy, settings=EngineSettings(paper=paper))
    rig.receive("a", snapshot(1), snapshot(1, instrument=ETH))
    return rig


def test_imbalance_follows_the_weight_of_the_book() -> None:
    rig = imbalance()
    assert not rig.of(Fill)
    rig.receive("a", delta(2, bids=(100, 90)))
    assert [(fill.side, str(fill.quantity)) for fill in rig.of(Fill)] == [(Side.BUY, "0.4")]
    rig.receive("a", delta(3, asks=(101, 9)))
    assert rig.engine.broker.position(BTC) == Decimal("0.6")
    rig.receive("a", delta(4, bids=(100, 4), asks=(101, 90)), delta(5, bids=(100, 12)))
    assert rig.engine.broker.position(BTC) == Decimal("-0.6")
    assert rig.engine.broker.account(BTC).fees > 0
    assert rig.engine.statistics().gauges["imbalance"] < 0
    assert {note.text for note in rig.of(Note)} == {"filled"}
    assert not rig.of(Rejection) and rig.engine.is_running


def test_imbalance_takes_its_orders_off_at_a_gap() -> None:
    rig = imbalance(quantity="2")
    rig.receive("a", delta(2, bids=(100, 90)))
    assert len(rig.engine.broker.orders) == 1
    rig.receive("a", delta(4))
    rig.wait()
    assert not rig.engine.broker.orders and rig.engine.is_running


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path


def test_moving_average_follows_the_trend_once_a_bar() -> None:
    parameters = {"instrument": BTC, "quantity": "0.1", "seconds": 0.002, "fast": 1, "slow": 3}
    rig = Rig(load_strategy(f"{EXAMPLES}/moving_average.py:MovingAverage", parameters))
    rig.receive("a", snapshot(1, bids=(100, 500), asks=(200, 500)))
    prices = [*range(101, 116), *range(115, 100, -1)]
    held = 100
    for number, price in enumerate(prices, start=2):
        rig.receive("a", delta(number, bids=(held, 0, price, 500)))
        held = price
    sides = [fill.side for fill in rig.of(Fill)]
    assert sides == [Side.BUY, Side.SELL] and rig.engine.broker.position(BTC) == Decimal("-0.1")
    with pytest.raises(ConfigError, match="fast must be above 0"):
        load_strategy(f"{EXAMPLES}/moving_average.py:MovingAverage", parameters | {"fast": 3})


def maker(rig: Rig) -> dict[Side, Decimal]:
    return {order.side: order.price for order in rig.engine.broker.orders.values() if order.price is not None}


def test_market_maker_leans_against_what_it_holds() -> None:
    parameters = {"instrument": BTC, "quantity": "0.1", "tick": "0.01", "limit": 2}
    rig = Rig(load_strategy(f"{EXAMPLES}/market_maker.py:MarketMaker", parameters))
    rig.receive("a", snapshot(1, bids=(99, 50), asks=(101, 50)))
    for number in range(2, 24):
        change = (100, 1) if number % 2 else (100, 0)
        rig.receive("a", delta(number, bids=change))
        rig.wait(SECOND)
    before = maker(rig)
    assert before[Side.BUY] <= 99
    assert before[Side.SELL] >= 101 and rig.engine.statistics().gauges["half_spread"] > 0
    rig.engine.broker.market(BTC, Side.BUY, "0.1", rig.now_ns)
    rig.wait(SECOND)
    after = maker(rig)
    assert after[Side.BUY] < before[Side.BUY] and after[Side.SELL] <= before[Side.SELL]
    rig.engine.broker.market(BTC, Side.BUY, "0.1", rig.now_ns)
    rig.wait(SECOND)
    assert set(maker(rig)) == {Side.SELL} and not rig.of(StrategyFailed)
