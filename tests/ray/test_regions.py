"""A tier of dedups in each region: messages come from one, what it lacks from another, and nothing is missed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from raytrade.demo.nodes import Nodes
from tests.ray.running import BINANCE, Running, running, until

REGIONS = ("frankfurt", "london", "zurich")


def tiered(data: dict[str, Any]) -> None:
    data["dedup"] |= {"regional": {"replicas": 1}}


def sums(pipeline: Running) -> dict[str, tuple[int, list[str]]]:
    """Give how often each global dedup asked for help, and of whom it takes digests alone."""
    return {name: (actor["helped"], actor["digests"]) for name, actor in pipeline.actors("dedup").items()}


def is_whole(pipeline: Running) -> bool:
    regional, merged = pipeline.actors("regional"), pipeline.actors("dedup")
    consumers = [*pipeline.actors("strategy").values(), *pipeline.actors("recorder").values()]
    return (
        len(regional) == len(REGIONS)
        and all(len(actor["up"]) == 1 for actor in regional.values())
        and all(actor["up"] == sorted(regional) for actor in merged.values())
        and all(actor["up"] == sorted(merged) for actor in consumers)
    )


def test_what_the_near_region_lacks_comes_from_another(nodes: Nodes, tmp_path: Path) -> None:
    faults = ("conn=1:drop=0.005", "conn=2:drop=0.005")
    with running("regions", tmp_path, BINANCE, tiered, faults=faults, rate=200.0) as pipeline:
        until(lambda: is_whole(pipeline), "all links up", explain=pipeline.status)
        homes = {name: actor["node"] for name, actor in pipeline.actors("regional").items()}
        for name, (_, digests) in sums(pipeline).items():
            near = next(one for one, node in homes.items() if node == pipeline.actors("dedup")[name]["node"])
            assert digests == sorted(homes.keys() - {near}), "who is near sends, the others only tell"
        for exchange in pipeline.exchanges.values():
            exchange.begin()
        pipeline.let_flow(600)
        until(lambda: sum(helped for helped, _ in sums(pipeline).values()) > 0, "somebody was asked for a hole")
        near = next(iter(homes))
        pid = pipeline.actors("regional")[near]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: pipeline.actors("regional").get(near, {}).get("pid") not in (None, pid), "it is back")
        until(lambda: is_whole(pipeline), "all links up again", explain=pipeline.status)
        pipeline.let_flow(300)
        truths = pipeline.finish()
        assert truths["binance-spot"].fault_counts["drop"] > 0
        pipeline.check_strategy("watch", truths)
        pipeline.stop()
        pipeline.check_files(truths)
