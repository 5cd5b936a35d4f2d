"""Every kind of actor is killed while updates flow; whoever was not killed misses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from raytrade.config import StrategyConfig
from raytrade.demo.nodes import Nodes
from raytrade.pipeline import driver
from tests.ray.running import MARKETS, running, until, watch

VICTIMS = (("collector", "-0"), ("dedup", "-a"), ("recorder", ""), ("strategy", "-watch"), ("dedup", "-b"))


@pytest.mark.parametrize("lane", ["shm", "call"])
def test_everything_arrives_once_in_full_depth_and_on_disk(nodes: Nodes, tmp_path: Path, lane: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["links"] = {"same_node": lane, "spacing_ms": 15.0}

    markets = {**MARKETS, "kraken-v2": ("BTC/USD",)}
    with running("whole", tmp_path, markets, change) as pipeline:
        dedups = pipeline.actors("dedup")
        assert len({actor["node"] for actor in dedups.values()}) == 2
        assert len(pipeline.actors("collector")) == 3
        pipeline.begin()
        pipeline.let_flow(400)
        assert {name.split()[0] for actor in pipeline.actors("dedup").values() for name in actor["lanes"].values()} == {
            lane
        }
        truths = pipeline.finish()
        pipeline.check_strategy("watch", truths)
        pipeline.stop()
        pipeline.check_files(truths)
        assert driver.running_pipelines() == []


def test_kills_under_flow(nodes: Nodes, tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["strategies"].append(watch("witness"))

    with running("kills", tmp_path, change=change) as pipeline:
        pipeline.begin()
        pipeline.let_flow()
        for role, ending in VICTIMS:
            pipeline.kill(role, ending)
            pipeline.let_flow()
            until(pipeline.is_redundant, f"redundancy after the kill of a {role}")
        kill_supervisor(pipeline.status()["pid"], pipeline.name)
        pipeline.let_flow()
        truths = pipeline.finish()
        pipeline.check_strategy("witness", truths)
        pipeline.check_strategy("watch", truths, whole=False)
        pipeline.stop()
        pipeline.check_files(truths)


def kill_supervisor(pid: int, pipeline: str) -> None:
    """The attached strategy and where everything runs are still known afterwards, and nothing else was started anew."""
    driver.attach(pipeline, StrategyConfig(**watch("late")))
    before = driver.status(pipeline)
    os.kill(pid, signal.SIGKILL)
    until(lambda: driver.status(pipeline)["pid"] != pid, "the supervisor is back")
    after = until(lambda: status_with(pipeline, set(before["actors"])), "all actors known again")
    assert {n: (a["pid"], a["node"]) for n, a in after["actors"].items()} == {
        n: (a["pid"], a["node"]) for n, a in before["actors"].items()
    }
    assert after["strategies"] == ["watch", "witness", "late"]
    driver.detach(pipeline, "late")
    assert f"{pipeline}-strategy-late" not in driver.status(pipeline)["actors"]


def status_with(pipeline: str, names: set[str]) -> dict[str, Any] | None:
    found = driver.status(pipeline)
    alive = {name for name, actor in found["actors"].items() if actor["state"] == "alive"}
    return found if alive == names else None
