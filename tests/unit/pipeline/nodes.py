"""Nodes and configurations to plan with."""

from __future__ import annotations

from typing import Any

from raytrade.config import Config, check_config
from raytrade.pipeline.planning import Node


def node(number: int, zone: str = "", **labels: str) -> Node:
    """Give a node that may carry collectors."""
    apart = {"zone": zone} if zone else {}
    return Node(f"{number:02d}" * 14, {"collector": "yes", **apart, **labels}, f"host-{number}", f"10.0.0.{number}")


def config(redundancy: int | str = "all", symbols: int = 4, **more: Any) -> Config:
    """Give a pipeline with one venue, a strategy and a recorder."""
    venue = {"symbols": [f"S{at}USDT" for at in range(symbols)], "redundancy": redundancy, **more.pop("venue", {})}
    data = {
        "name": "test",
        "venues": {"binance-spot": venue},
        "collectors": {"labels": {"collector": "yes"}},
        "strategies": [{"name": "watch", "strategy": "raytrade.demo.watch:SpreadWatch"}],
        "recorders": [{"directory": "/tmp/recording"}],
        **more,
    }
    return check_config(data, "test.yaml")
