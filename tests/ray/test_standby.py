"""A strategy with a standby: the active one is killed while it trades, and the gateway after it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from raytrade.demo.nodes import Nodes
from raytrade.pipeline import driver
from tests.ray.running import BINANCE, Running, running, until

STEPS = f"{Path(__file__).with_name('strategies.py')}:Steps"
RESUME_S = 2.0
PATIENCE = 5
"""How much longer than promised a busy machine may take."""


def with_standby(data: dict[str, Any], directory: Path) -> None:
    part = {"name": "steps", "strategy": STEPS, "params": {"instrument": "binance-spot:BTCUSDT"}, "standby": True}
    data["strategies"] = [{**part, "state": str(directory / "state"), "labels": {"strategy": "yes"}}]


def gateway(pipeline: Running) -> dict[str, Any]:
    """Ask it itself, as the supervisor waits for actors that are dead; one that was killed is asked again."""

    def asked() -> dict[str, Any]:
        with suppress(RayActorError):
            return dict(ray.get(pipeline.handle(f"{pipeline.name}-gateway-steps").status.remote(), timeout=10))
        return {}

    return dict(until(asked, "the gateway answers"))


def active(pipeline: Running) -> dict[str, Any]:
    found = [actor for actor in pipeline.actors("strategy").values() if actor["is_active"]]
    return found[0] if len(found) == 1 else {}


def kill_active(pipeline: Running) -> float:
    """Kill it and give the seconds until the other one has made its first fill."""
    victim, before = active(pipeline), gateway(pipeline)
    os.kill(victim["pid"], signal.SIGKILL)
    killed_at = time.monotonic()
    until(lambda: gateway(pipeline)["epoch"] == before["epoch"] + 1, "another one is active")
    fills = gateway(pipeline)["fills"]
    until(lambda: gateway(pipeline)["fills"] > fills, "it trades")
    took_s = time.monotonic() - killed_at
    assert took_s < PATIENCE * RESUME_S
    assert gateway(pipeline)["active"] != victim["name"]
    return took_s


def test_the_active_one_is_killed_and_nothing_is_lost_or_doubled(nodes: Nodes, tmp_path: Path) -> None:
    with running("spare", tmp_path, BINANCE, lambda data: with_standby(data, tmp_path), rate=100.0) as pipeline:
        pipeline.begin()
        assert len({actor["node"] for role in ("strategy", "gateway") for actor in pipeline.actors(role).values()}) == 3
        until(lambda: gateway(pipeline)["fills"] > 5, "it trades")
        took_s = kill_active(pipeline)
        killed = gateway(pipeline)
        os.kill(killed["pid"], signal.SIGKILL)
        until(lambda: gateway(pipeline)["pid"] != killed["pid"], "the gateway is there again")
        until(lambda: gateway(pipeline)["fills"] > killed["fills"] + 5, "it trades through that")
        print(f"resumed after {took_s:.2f} s")
        pipeline.finish()
        check(pipeline)
        pipeline.stop()
        assert not list((tmp_path / "state").glob("*.journal")), "the account of a strategy that has ended is over"
        assert driver.running_pipelines() == []


def check(pipeline: Running) -> None:
    """What the strategy was told is what the gateway has, and no order was too many (that would have stopped it)."""
    until(lambda: told(pipeline) == Decimal(gateway(pipeline)["positions"]["binance-spot:BTCUSDT"]), "all is told")
    trading, account = active(pipeline), gateway(pipeline)
    assert trading["engine"]["running"], trading["engine"]["failure"]
    assert trading["epoch"] == account["epoch"] and account["reports_lost"] == 0
    assert trading["accounts"]["binance-spot:BTCUSDT"]["position"] == account["positions"]["binance-spot:BTCUSDT"]


def told(pipeline: Running) -> Decimal:
    return Decimal(str(active(pipeline)["engine"]["gauges"]["bought"])).quantize(Decimal("0.001"))
