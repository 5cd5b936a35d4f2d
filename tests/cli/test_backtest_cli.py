"""``raytrade backtest``: what is printed, written, and with which status it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytrade.backtest import sweep
from tests.cli.commands import Commands, files
from tests.unit.backtest.markets import STEP_NS, recorded_market
from tests.unit.backtest.test_run import TRADERS
from tests.unit.storage.recordings import NOON_NS

QUOTER, TAKER = f"{TRADERS}:Quoter", f"{TRADERS}:Taker"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_market(tmp_path_factory.mktemp("recording"), 150)


def test_one_run_with_its_files(run: Commands, data: Path, tmp_path: Path) -> None:
    options = ("--fees", "1,5", "--latencies-ms", "0,40", "--order-latency-ms", 5)
    outputs = ("--json", tmp_path / "o.json", "--report", tmp_path / "o.html")
    result = run("backtest", QUOTER, "--data", data, *options, *outputs)
    assert (result.status, result.error) == (0, "")
    written = json.loads((tmp_path / "o.json").read_text())
    assert f"hash {written['result']['hash']}" in result.out
    assert written["result"]["settings"]["paper"]["order_latency_ns"] == 5_000_000
    assert [one["order_latency_ns"] for one in written["latencies"]] == [0, 40_000_000]
    assert written["result"]["hash"] in (tmp_path / "o.html").read_text()
    assert len(files(tmp_path)) == 2
    again = run("backtest", QUOTER, "--data", data, *options)
    assert again.out == result.out


def test_a_grid_here_with_folds(run: Commands, data: Path, tmp_path: Path) -> None:
    axes = ("--grid", "every=5,20", "--grid", 'quantity="0.1","0.2"', "--walk-forward", 2, "--inline")
    result = run("backtest", QUOTER, "--data", data, *axes, "--json", tmp_path / "o.json")
    assert result.status == 0 and "4 runs, best first" in result.out and "walk-forward" in result.out
    written = json.loads((tmp_path / "o.json").read_text())
    profits = [float(one["figures"]["profit"]) for one in written["runs"]]
    assert len(profits) == 4 and float(written["result"]["figures"]["profit"]) == max(profits)
    assert len(written["folds"]) == 2 and all(fold["test"] for fold in written["folds"])


def test_an_interrupt_leaves_what_is_done(
    run: Commands, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sweep.run_inline

    def interrupted(jobs):  # type: ignore[no-untyped-def]
        outcomes = real(jobs)
        yield next(outcomes)
        yield next(outcomes)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run_inline", interrupted)
    axes = ("--grid", "every=5,10,20", "--inline", "--json", tmp_path / "o.json")
    result = run("backtest", QUOTER, "--data", data, *axes)
    assert result.status == 130 and result.problem == "raytrade: interrupted: 2 of 3 runs done"
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["interrupted"] and len(written["runs"]) == 2 and written["result"] is None


def test_a_strategy_that_raises(run: Commands, data: Path) -> None:
    result = run("backtest", TAKER, "--data", data, "--param", "fails_at=50")
    assert result.status == 1
    assert "in on_book" in result.error and "RuntimeError: no luck" in result.error
    assert "raytrade: the strategy failed: on_book binance-spot:BTCUSDT at 2022-01-08T12:00:00.98" in result.error


def test_limits_of_risk(run: Commands, data: Path) -> None:
    limits = ("--max-order", "0.5", "--max-position", "1", "--max-loss", "0.001")
    result = run("backtest", TAKER, "--data", data, "--fees", "binance-spot=0,50", *limits)
    assert result.status == 0 and "stopped: risk at" in result.out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--grid", "every"), "--grid: every: write KEY=A,B,C"),
        (("--grid", "nothing=1,2"), "no parameter 'nothing'"),
        (("--walk-forward", 2), "--walk-forward: chooses parameters"),
        (("--fees", "1"), "--fees: 1: write [VENUE=]MAKER,TAKER"),
        (("--fees", "1,x"), "'x' is not a number"),
        (("--max-loss", "-1"), "is no limit"),
        (("--order-latency-ms", "-1"), "is not between 0 and an hour"),
        (("--start", NOON_NS - 10 * STEP_NS, "--end", NOON_NS - STEP_NS), "nothing is recorded then"),
        (("--start", "yesterday"), "not a time"),
        (("--instruments", "kraken*"), "not in the recording"),
        (("--json", "/nowhere/o.json"), "no such directory"),
        (("--latencies-ms", "a", "--report", "o.html"), "write milliseconds"),
    ],
)
def test_bad_input(run: Commands, data: Path, options: tuple[object, ...], problem: str) -> None:
    result = run("backtest", QUOTER, "--data", data, *options)
    assert result.status == 2 and problem in result.problem


def test_no_recording(run: Commands, tmp_path: Path) -> None:
    result = run("backtest", QUOTER, "--data", tmp_path / "none")
    assert result.status == 2 and "no such directory" in result.problem
