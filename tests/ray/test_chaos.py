"""The commands of `raytrade chaos` against a running pipeline: each does what it says, and nothing is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytrade.chaos.redundancy import lacking
from raytrade.demo.nodes import Nodes
from tests.cli.commands import Outcome, run_process
from tests.ray.running import BINANCE, Running, running, until, watch

WANTED = {"collector": 3, "dedup": 2, "strategy": 2, "recorder": 2}


def test_faults_by_command(nodes: Nodes, tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["strategies"].append(watch("witness"))
        data["recorders"].append({**data["recorders"][0], "name": "second", "directory": str(tmp_path / "second")})

    def chaos(command: str, *arguments: object) -> Outcome:
        return run_process("chaos", command, *arguments, "--address", nodes.address)

    with running("chaos", tmp_path / "first", BINANCE, change) as pipeline:
        homes = {actor["node"] for actor in pipeline.actors("recorder").values()}
        assert len(homes) == 2, "recorders are each other's spares"
        pipeline.begin()
        pipeline.let_flow()
        line = next(iter(pipeline.actors("collector").values()))["lines"].popitem()[0]
        cut = chaos("cut", line)
        assert (cut.status, cut.out.split()[:2]) == (0, ["cut", line]), cut.error
        until(lambda: reconnects(pipeline, line) == 1, "the line noticed it")
        refused = chaos("disk-full", "dedup-0-a", "--seconds", 1)
        assert (refused.status, "no recorder of that name" in refused.problem) == (2, True)
        pid = pipeline.one("dedup", "-a")["pid"]
        killed = chaos("kill", "dedup-0-a")
        assert killed.out == f"killed chaos-dedup-0-a (pid {pid})\n", killed.error
        until(lambda: lacking(pipeline.status()["actors"], WANTED, {pid}) == "", "every role has its spare again")
        node = pipeline.one("collector")["node"]
        silent = chaos("partition", node[:12], "--seconds", 1)
        assert silent.out == f"nobody heard from node {node[:12]} for 1 s\n", silent.error
        full = chaos("disk-full", "recorder-second", "--seconds", 3)
        assert full.status == 0, full.error
        truths = pipeline.finish()
        pipeline.check_strategy("witness", truths)
        pipeline.stop()
        pipeline.check_files(truths)
        pipeline.directory = tmp_path / "second"
        pipeline.check_files(truths)


def reconnects(pipeline: Running, line: str) -> int:
    lines = {name: each for actor in pipeline.actors("collector").values() for name, each in actor["lines"].items()}
    return int(lines[line]["status"]["reconnects"])
