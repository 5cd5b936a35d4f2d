"""Options and fault texts that make no sense are refused with one clear line."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.emulator import KINDS, EmulatorSettings, parse_fault, parse_faults
from raytrade.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"venue": "nosuch"}, "venue"),
        ({"symbols": ()}, "symbols"),
        ({"symbols": ("A", "A")}, "symbols"),
        ({"rate": -1.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"updates": -1}, "updates"),
        ({"depth": 1}, "depth"),
        ({"trades_share": 1.5}, "trades_share"),
        ({"port": 70_000}, "port"),
        ({"burst": "many"}, "burst"),
        ({"burst": "0@1s"}, "burst"),
        ({"venue": "hitbtc-v2", "skew_windows": 3}, "skew_windows"),
        ({"venue": "kraken-v2", "faults": ("skew_windows=3",)}, "faults"),
        ({"capture": "x.gz", "burst": "10@1s"}, "capture"),
        ({"capture": "x.gz", "faults": ("refuse",)}, "faults"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], key: str) -> None:
    options: dict[str, Any] = {"venue": "binance-spot", "symbols": ("BTCUSDT",), **changes}
    with pytest.raises(ConfigError) as caught:
        EmulatorSettings(**options)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "explode",
        "drop=2",
        "drop=0",
        "drop=abc",
        "drop@",
        "drop@5m",
        "cut@5s:",
        "conn=x:drop=0.1",
        "delay",
        "delay=0.5",
        "silent=0.5",
        "stall=1s",
        "skew_windows",
        "skew_windows=1",
        "refuse@5s",
        "drop=0.1=2",
    ],
)
def test_malformed_faults_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fault(text)
    assert caught.value.key == "faults"
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fault("explode")
    assert all(kind in str(caught.value) for kind in KINDS)


def test_faults_are_parsed() -> None:
    rules = parse_faults(["drop=0.01,cut@5s", "conn=2:symbol=BTC/USD:delay=50ms@1.5s:2s"])
    assert [rule.kind for rule in rules] == ["drop", "cut", "delay"]
    assert rules[0].probability == 0.01 and not rules[0].happens_once
    assert rules[1].at_s == 5.0 and rules[1].happens_once
    lag = rules[2]
    assert (lag.connection, lag.symbol, lag.delay_s) == (2, "BTC/USD", 0.05)
    assert (lag.at_s, lag.duration_s) == (1.5, 2.0)
    assert parse_fault("reorder@100").at_message == 100
    assert parse_fault("refuse=ETHBTC").symbol == "ETHBTC"
