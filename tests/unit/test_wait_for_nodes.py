"""A driver that comes before the nodes waits for them, and says for which."""

from __future__ import annotations

import pytest

from raytrade.config import check_config
from raytrade.errors import ConfigError
from raytrade.pipeline import driver
from raytrade.pipeline.planning import Node

CONFIG = check_config(
    {"venues": {"binance-spot": {"symbols": ["BTCUSDT"]}}, "dedup": {"labels": {"dedup": "yes"}, "replicas": 1}}, "x"
)
HEAD, WORKER = Node("a" * 20, {"role": "head"}), Node("b" * 20, {"dedup": "yes"})


def test_it_waits_until_the_plan_fits_and_tells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [[HEAD], [HEAD], [HEAD, WORKER]]
    told: list[str] = []
    monkeypatch.setattr(driver, "live_nodes", lambda: looks.pop(0))
    monkeypatch.setattr(driver, "RESTART_POLL_S", 0.001)
    driver.wait_for_nodes(CONFIG, 1.0, told.append)
    assert looks == []
    assert told == ["dedup.labels: no node has the labels dedup=yes (nodes: role=head)"]


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "live_nodes", lambda: [HEAD])
    monkeypatch.setattr(driver, "RESTART_POLL_S", 0.001)
    with pytest.raises(ConfigError, match="no node has the labels dedup=yes"):
        driver.wait_for_nodes(CONFIG, 0.01, lambda _: None)
