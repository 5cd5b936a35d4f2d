from __future__ import annotations

from typing import Any

import pytest

from raytrade.config import Config, StrategyConfig
from raytrade.errors import ConfigError
from raytrade.pipeline.changes import describe, merged, replaced
from tests.unit.pipeline.nodes import config

WATCH = {"name": "watch", "strategy": "raytrade.demo.watch:SpreadWatch"}


def with_attached(base: Config, name: str = "mine") -> Config:
    part = StrategyConfig(name=name, strategy="mine.py:Mine")
    return base.model_copy(update={"strategies": [*base.strategies, part]})


def test_nothing_changed_is_nothing_to_do() -> None:
    given = config()
    assert merged(given, given, config()) == given
    assert (describe(given, config()), replaced(given, config())) == ([], [])


def test_what_was_attached_stays() -> None:
    given = config()
    target = merged(given, with_attached(given), config(strategies=[]))
    assert [part.name for part in target.strategies] == ["mine"]


def test_an_attached_strategy_of_the_same_name_is_not_overwritten() -> None:
    given = config(strategies=[])
    with pytest.raises(ConfigError, match=r"strategies\.watch: another strategy of that name is attached"):
        merged(given, with_attached(given, "watch"), config())


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"dedup": {"regional": {}}}, "dedup.regional"),
        ({"links": {"ring_mb": 7}}, "links"),
        ({"collectors": {"service_timeout_s": 3.0}}, "collectors.service_timeout_s"),
    ],
)
def test_what_cannot_change_while_it_runs_is_named(more: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        merged(config(), config(), config(**more))
    assert str(refused.value) == f"{key}: cannot be changed while the pipeline runs: stop it first"


def test_shards_behind_regions_stay_as_they_are() -> None:
    tiered = config(dedup={"regional": {}})
    with pytest.raises(ConfigError, match=r"dedup\.shards: cannot be changed while dedups in regions run"):
        merged(tiered, tiered, config(dedup={"regional": {}, "shards": 2}))


def test_a_symbol_more_replaces_one_share_alone() -> None:
    old, new = config(symbols=30, venue={"shares": 8}), config(symbols=31, venue={"shares": 8})
    assert len(replaced(old, new)) == 1
    assert describe(old, new) == ["binance-spot: + S30USDT"]
    assert replaced(config(symbols=2), config(symbols=1)) == ["binance-spot"]


def test_a_changed_consumer_is_replaced_and_one_with_other_labels_only_moved() -> None:
    changed = config(strategies=[{**WATCH, "subscribe": ["*/book"]}])
    assert replaced(config(), changed) == ["test-strategy-watch"]
    assert describe(config(), changed) == ["strategy watch: replaced"]
    assert replaced(config(), config(strategies=[{**WATCH, "labels": {"zone": "a"}}])) == []
    assert replaced(config(), config(recorders=[{"directory": "/tmp/other"}])) == ["test-recorder-recorder"]


def test_dedups_that_must_keep_a_log_of_arrivals_are_replaced() -> None:
    without = config(recorders=[{"directory": "/tmp/recording", "arrivals": False}])
    assert replaced(without, config()) == ["test-dedup-0-a", "test-dedup-0-b", "test-recorder-recorder"]
    assert replaced(without, without) == []


def test_more_shards_replace_every_dedup_and_nothing_else() -> None:
    bases = [f"test-dedup-{shard}-{replica}" for shard in (0, 1) for replica in "ab"]
    assert replaced(config(), config(dedup={"shards": 2})) == bases
    assert replaced(config(dedup={"shards": 2}), config()) == bases[:2]


def test_changed_alerts_are_told_and_replace_nothing() -> None:
    louder = config(alerts={"redundancy": 3})
    assert replaced(config(), louder) == []
    [told] = describe(config(), louder)
    assert told.startswith("alerts: ") and told.partition(" -> ")[2].startswith("webhook='' redundancy=3 ")


def test_every_difference_is_told() -> None:
    new = config(
        2,
        venues={"kraken-v2": {"symbols": ["BTC/USD"]}},
        strategies=[{**WATCH, "name": "other"}],
        dedup={"replicas": 1},
    )
    told = describe(config(), new)
    assert told[:4] == ["binance-spot: removed", "kraken-v2: added", "strategy other: added", "strategy watch: removed"]
    assert told[4].startswith("dedup: ")
    assert describe(config(), config(2)) == ["binance-spot.redundancy: all -> 2"]
