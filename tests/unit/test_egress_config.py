"""Which way out a line takes, from the configuration and the node's labels."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.actors.collector import CollectorPlan
from raytrade.config import check_config
from raytrade.errors import ConfigError
from raytrade.pipeline.planning import Node, plan_pipeline
from raytrade.transport.egress import Egress

NODES = [Node("a" * 20, {"network": "isp-a"}), Node("b" * 20, {"network": "isp-b"})]


def data(*egress: dict[str, Any], per_node: int = 1) -> dict[str, Any]:
    return {
        "venues": {"binance-spot": {"symbols": ["BTCUSDT"]}, "kraken-v2": {"symbols": ["BTC/USD"]}},
        "collectors": {"egress": list(egress), "per_node": per_node},
    }


def ways(*egress: dict[str, Any], per_node: int = 1) -> dict[tuple[str, int, str], Egress]:
    """Give the way out by node, number of the collector and venue."""
    plans = [p for p in plan_pipeline(check_config(data(*egress, per_node=per_node), "x"), NODES)]
    return {
        (placement.node.labels["network"], int(placement.plan.name[-1]), line.venue): line.egress
        for placement in plans
        if isinstance(placement.plan, CollectorPlan)
        for line in placement.plan.lines
    }


def test_without_a_word_the_host_chooses() -> None:
    assert set(ways().values()) == {Egress()}


def test_the_first_entry_that_covers_a_line_is_taken() -> None:
    found = ways(
        {"labels": {"network": "isp-a"}, "venues": ["binance-*"], "source_address": "10.0.0.7"},
        {"labels": {"network": "isp-a"}, "interface": "eth1"},
        {"venues": ["kraken-v2"], "number": 1, "proxy": "env:PROXY"},
        per_node=2,
    )
    for number in (0, 1):
        assert found["isp-a", number, "binance-spot"] == Egress(source_address="10.0.0.7")
        assert found["isp-a", number, "kraken-v2"] == Egress(interface="eth1")
        assert found["isp-b", number, "binance-spot"] == Egress()
    assert found["isp-b", 0, "kraken-v2"] == Egress()
    assert found["isp-b", 1, "kraken-v2"] == Egress(proxy="env:PROXY")


@pytest.mark.parametrize(
    ("egress", "told"),
    [
        ({}, "needs source_address, interface or proxy"),
        ({"source_address": "10.0.0"}, "'10.0.0' is no IP address"),
        ({"source_address": "10.0.0.1", "interface": "eth0"}, "two ways of saying one thing"),
        ({"proxy": "http://u:planted@h:1"}, "string should match pattern"),
        ({"proxy": "socks5://h:1"}, "string should match pattern"),
        ({"proxi": "env:X"}, "did you mean proxy?"),
    ],
)
def test_bad_input_is_told_and_passwords_are_not(egress: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_config(data(egress), "x")
    assert told in str(refused.value)
    assert "planted" not in str(refused.value)
