"""Nodes come and go: a new one gets its collector without any command, what a dead one carried is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytrade.demo.nodes import Nodes
from tests.ray.running import BINANCE, running, until, watch

GUEST = {"collector": "yes", "guest": "yes", "region": "oslo"}


def test_a_node_joins_and_leaves(nodes: Nodes, tmp_path: Path) -> None:
    """The guest carries a collector, and a dedup replica until it leaves."""
    guest = nodes.add({**GUEST, "dedup": "guest"})
    spare = None

    def change(data: dict[str, Any]) -> None:
        data["dedup"] = {"labels": {"dedup": "guest"}, "replicas": 2}
        data["strategies"] = [watch("watch")]

    try:
        spare = nodes.add({"dedup": "guest", "region": "bergen"})
        with running("nodes", tmp_path, BINANCE, change) as pipeline:
            assert len({actor["node"] for actor in pipeline.actors("dedup").values()}) == 2
            assert len(pipeline.actors("collector")) == 4
            pipeline.begin()
            pipeline.let_flow()
            home = {name for name, actor in pipeline.actors("dedup").items() if actor["node"] == guest.node_id}
            assert len(home) == 1
            nodes.remove(guest)
            guest = None
            until(lambda: len(pipeline.status()["actors"]) == 7, "the collector of the dead node is gone")
            until(lambda: home <= set(pipeline.actors("dedup")), "its dedup runs elsewhere")
            until(pipeline.is_redundant, "the dedups follow three collectors")
            pipeline.let_flow()
            guest = nodes.add(GUEST)
            until(lambda: len(pipeline.actors("collector")) == 4, "a node that joins gets its collector")
            until(pipeline.is_redundant, "the dedups follow it")
            pipeline.kill("dedup", "-a")
            until(pipeline.is_redundant, "a dedup that is started again follows the collectors of today")
            truths = pipeline.finish()
            pipeline.check_strategy("watch", truths)
            pipeline.stop()
            pipeline.check_files(truths)
    finally:
        for node in (guest, spare):
            if node is not None:
                nodes.remove(node)
