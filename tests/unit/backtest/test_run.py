"""One backtest: the engine that trades live, latencies, the ledger's sums, and the same hash every time."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from raytrade.backtest.results import Curve, Result
from raytrade.backtest.run import Backtest, interval_of, run
from raytrade.backtest.settings import BacktestSettings
from raytrade.core.clock import MILLISECOND
from raytrade.core.instrument import Filter
from raytrade.errors import ConfigError
from raytrade.replay import Player
from raytrade.rules import rule_of
from raytrade.storage.recording import open_recording
from raytrade.strategy import EngineSettings, Fees, Fill, FillRule, PaperSettings, RiskLimits, StrategyEngine
from raytrade.strategy.loading import load_strategy
from tests.unit.backtest.markets import STEP_NS, recorded_market
from tests.unit.storage.recordings import BTC, ETH, NOON_NS

TRADERS = Path(__file__).parent / "traders.py"
FEES = Fees(maker_bps=Decimal(1), taker_bps=Decimal(5))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_market(tmp_path_factory.mktemp("recording"), names=(BTC, ETH))


def settings(data: Path, name: str = "Quoter", **others: object) -> BacktestSettings:
    paper = PaperSettings(fees_elsewhere=FEES, fill_rule=FillRule.QUEUE)
    return BacktestSettings(strategy=f"{TRADERS}:{name}", data=str(data), **{"paper": paper} | others)  # type: ignore[arg-type]


def test_the_sums_agree(data: Path) -> None:
    result = run(settings(data))
    figures = result.figures
    assert figures.fills == len(result.fills) > 10 and figures.maker_fills > 0
    assert sorted(result.instruments) == [BTC, ETH]
    for name, one in result.instruments.items():
        assert one.cash + one.position * (one.mark or 0) == one.realised + one.unrealised - one.fees
        assert one.fills == sum(fill.instrument == name for fill in result.fills)
    assert figures.fees == sum(fill.fee for fill in result.fills)
    assert figures.turnover == sum(fill.price * fill.quantity for fill in result.fills)
    assert figures.profit == result.curve.profit[-1]
    assert figures.profit == sum(one.cash + one.position * (one.mark or 0) for one in result.instruments.values())
    assert figures.messages == sum(1 for _ in open_recording(data).messages())
    assert len(result.curve.ts_ns) == 500 and len(set(map(len, result.curve.positions.values()))) == 1


def test_it_is_the_engine_that_trades_live(data: Path) -> None:
    """Without latency a backtest gives the fills of the engine that a strategy actor hosts."""
    wanted = settings(data)
    paper = EngineSettings(paper=wanted.paper)
    engine = StrategyEngine("Quoter", load_strategy(wanted.strategy), Filter("*"), rule_of, paper)
    player, fills = Player(engine), list[Fill]()
    for now_ns, message in open_recording(data).messages():
        fills += [event for event in player.play(now_ns, message) if isinstance(event, Fill)]
    assert fills == run(wanted).fills and fills


def test_feed_latency_moves_the_clock_and_delays_orders(data: Path) -> None:
    """What is decided on a late view acts late: a feed of 30 ms is an order of 30 ms, seen 30 ms later."""
    late_ns = 30 * MILLISECOND
    late_feed = run(settings(data, "Taker", feed_latency_ns=late_ns))
    paper = PaperSettings(fees_elsewhere=FEES, fill_rule=FillRule.QUEUE, order_latency_ns=late_ns)
    late_order = run(settings(data, "Taker", paper=paper))
    assert late_feed.fills == [
        msgspec.structs.replace(fill, ts_fill_ns=fill.ts_fill_ns + late_ns) for fill in late_order.fills
    ]
    assert late_feed.fills != run(settings(data, "Taker")).fills
    assert late_feed.curve.profit == late_order.curve.profit


def test_runs_and_events_give_the_same_result(data: Path) -> None:
    """What is read in runs, books that lag behind included, is to the bit what single events give."""
    for wanted in (settings(data), settings(data, "Taker", feed_latency_ns=MILLISECOND, curve_points=37)):
        recording = open_recording(data)
        by_events = Backtest(wanted, interval_of(wanted, recording))
        by_events.play(recording.timed_events())
        assert by_events.result().hash == run(wanted).hash


def test_a_strategy_sees_the_interval_only(data: Path) -> None:
    start_ns, end_ns = NOON_NS + 100 * STEP_NS, NOON_NS + 200 * STEP_NS
    result = run(settings(data, start_ns=start_ns, end_ns=end_ns, instruments=(BTC,)))
    assert list(result.curve.bids) == [BTC] and all(start_ns <= fill.ts_fill_ns < end_ns for fill in result.fills)
    assert result.figures.messages < 200 and result.figures.fills > 0
    with pytest.raises(ConfigError, match="nothing is recorded then"):
        run(settings(data, start_ns=NOON_NS - 20, end_ns=NOON_NS - 10))


def test_a_strategy_that_raises_ends_the_run(data: Path) -> None:
    result = run(settings(data, "Taker", parameters={"fails_at": 100}))
    assert result.has_failed and "RuntimeError: no luck" in result.traceback
    assert result.stopped.startswith(f"on_book {ETH} at 2022-01-08T12:") and result.stopped.endswith("no luck")
    assert result.figures.messages < 200


def test_a_limit_of_loss_ends_the_trading_but_not_the_run(data: Path) -> None:
    paper = PaperSettings(fees_elsewhere=FEES, risk=RiskLimits(loss_max=Decimal("0.05")))
    result = run(settings(data, "Taker", paper=paper))
    assert result.stopped.startswith("risk at") and "loss_max" in result.stopped and not result.has_failed
    assert 0 < result.figures.fills < run(settings(data, "Taker")).figures.fills
    assert len(result.curve.ts_ns) == 500


CODE = """
import sys
from pathlib import Path
from tests.unit.backtest.test_run import run, settings
print(run(settings(Path(sys.argv[1]))).hash)
"""


def test_the_same_input_has_the_same_hash_in_any_process(data: Path) -> None:
    hashes = {run(settings(data)).hash}
    root = Path(__file__).parents[3]
    for seed in ("0", "77"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PATH": ""}
        command = [sys.executable, "-c", CODE, str(data)]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=True)
        hashes.add(ended.stdout.strip())
    assert len(hashes) == 1
    assert run(settings(data, parameters={"every": 11})).hash not in hashes


def test_a_result_goes_through_json(data: Path) -> None:
    result = run(settings(data))
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


def test_a_curve() -> None:
    curve = Curve(ts_ns=[0, 10, 20, 30], profit=[Decimal(amount) for amount in (0, 5, -2, 1)])
    assert curve.drawdown() == [0, 0, 7, 4]
    flat = Curve(ts_ns=[0, 10, 20], profit=[Decimal(1)] * 3)
    assert flat.sharpe() is None and Curve().sharpe() is None
    assert curve.sharpe() is not None


def test_settings_are_checked() -> None:
    for wrong in ({"feed_latency_ns": -1}, {"curve_points": 1}, {"paper": PaperSettings(order_latency_ns=10**15)}):
        with pytest.raises(ConfigError):
            BacktestSettings(strategy="a:B", data="", **wrong)
