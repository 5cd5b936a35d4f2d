"""Strategies come and go while the pipeline runs; a slow one hurts nobody but itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytrade.config import StrategyConfig
from raytrade.demo.nodes import Nodes
from raytrade.errors import ConfigError
from raytrade.pipeline import driver
from raytrade.pipeline.supervisor import named_actors
from raytrade.rules import rule_of
from raytrade.storage.journals import Journal, journals_of
from raytrade.strategy.journal import Reenactment, engine_of
from tests.ray.running import MARKETS, Running, running, until, watch

STRATEGIES = Path(__file__).with_name("strategies.py")
RING_MB = 1


@pytest.fixture(scope="module")
def pipeline(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    def change(data: dict[str, Any]) -> None:
        data["links"] = {"ring_mb": RING_MB}

    with running("attach", tmp_path_factory.mktemp("recording"), MARKETS, change, rate=60.0) as pipeline:
        pipeline.begin()
        yield pipeline


def test_a_late_strategy_begins_with_images(pipeline: Running) -> None:
    driver.attach(pipeline.name, StrategyConfig(**watch("late")))
    driver.attach(pipeline.name, StrategyConfig(**watch("part", subscribe=["hitbtc-*/book"])))
    pipeline.let_flow()
    coverage = until(lambda: pipeline.one("strategy", "late").get("coverage"), "the late one has books")
    assert len(coverage) == 6
    assert all(part["holes"] == [] and part["repeats"] == 0 for part in coverage.values())
    assert set(pipeline.one("strategy", "part")["coverage"]) == {"hitbtc-v2:ETHBTC/book"}
    assert driver.detach(pipeline.name, "part") == "attach-strategy-part"
    assert "attach-strategy-part" not in pipeline.status()["actors"]
    until(lambda: "attach-strategy-part" not in named_actors(), "the detached one is gone")


def test_a_strategy_begins_with_history_and_its_journal_is_lived_again(pipeline: Running, tmp_path: Path) -> None:
    """The recording first, then live behind its last id: one stretch of ids; then the same out of the journal."""
    until(lambda: list(pipeline.directory.rglob("channel=book/*/*.parquet")), "something is recorded")
    more = {"warmup": "10min", "journal": str(tmp_path), "subscribe": ["binance-*:BTCUSDT/book"]}
    driver.attach(pipeline.name, StrategyConfig(**watch("warm", **more)))
    status = until(lambda: pipeline.one("strategy", "warm").get("warmup", {}).get("messages"), "history is played")
    assert status > 0
    pipeline.let_flow()
    warm = pipeline.one("strategy", "warm")
    (coverage,) = warm["coverage"].values()
    assert coverage["holes"] == [] and coverage["repeats"] == 0 and warm["warmup"]["problem"] == ""
    (behind,) = warm["warmup"]["goes_on_behind"].values()
    assert coverage["first"] < behind < coverage["last"] and not warm["journal"]["problem"]
    driver.detach(pipeline.name, "warm")
    (path,) = journals_of(tmp_path, "attach-strategy-warm")
    journal = Journal(path)
    again = Reenactment(engine_of(journal.opening, rule_of))
    again.play(journal.entries())
    counts = again.engine.statistics().instruments["binance-spot:BTCUSDT"].counts
    assert again.difference() == "" and again.is_whole and counts.gaps == 0
    assert counts.last_id >= coverage["last"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strategy": "no.such.module:X"}, "no module of this name"),
        ({"strategy": "/no/such.py:X"}, "no such file"),
        ({"strategy": "raytrade.demo.watch:SpredWatch"}, "did you mean SpreadWatch"),
        ({"params": {"speed": 3}}, "no parameter 'speed'"),
        ({"strategy": f"{STRATEGIES}:Picky", "params": {"limit": 7}}, "limit 7 is not to my taste"),
        ({"name": "watch"}, "attached already"),
        ({"labels": {"strategy": "perhaps"}}, "no node has the labels strategy=perhaps"),
    ],
)
def test_a_bad_strategy_is_refused_in_one_line(pipeline: Running, change: dict[str, Any], told: str) -> None:
    before = pipeline.status()["strategies"]
    with pytest.raises(ConfigError) as refused:
        driver.attach(pipeline.name, StrategyConfig(**watch("bad") | change))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert pipeline.status()["strategies"] == before
    until(lambda: "attach-strategy-bad" not in named_actors(), "nothing is left behind")


def test_detaching_what_is_not_there(pipeline: Running) -> None:
    with pytest.raises(ConfigError, match="no such strategy; attached are watch"):
        driver.detach(pipeline.name, "nobody")


def test_a_slow_strategy_hurts_nobody_else(pipeline: Running) -> None:
    """One takes 20 ms for each book, one is stopped for seconds; the ring's bound holds for all readers together."""
    slow = {"strategy": f"{STRATEGIES}:Slow", "params": {"busy_ms": 20}}
    driver.attach(pipeline.name, StrategyConfig(**watch("slow") | slow))
    driver.attach(pipeline.name, StrategyConfig(**watch("stopped")))
    until(pipeline.is_redundant, "all are linked")
    pid = pipeline.one("strategy", "stopped")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        pipeline.let_flow(900)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: pipeline.one("strategy", "stopped"), "it answers again")
    assert pipeline.one("strategy", "slow"), "it answers, however far it is behind"
    assert all(actor["ring_bytes"] <= RING_MB * 2**20 for actor in pipeline.actors("dedup").values())
    driver.detach(pipeline.name, "slow")


def test_the_end_is_the_same_for_all(pipeline: Running) -> None:
    truths = pipeline.finish()
    pipeline.check_strategy("watch", truths)
    pipeline.check_strategy("late", truths, whole=False)
    pipeline.check_strategy("stopped", truths, whole=False)
    pipeline.stop()
    pipeline.check_files(truths)
