"""What can be wrong at the start is told in one line, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raytrade.config import check_config
from raytrade.demo.nodes import Nodes
from raytrade.errors import ConfigError, RaytradeError
from raytrade.pipeline import driver
from raytrade.pipeline.supervisor import named_actors, to_json
from tests.ray.running import BINANCE, data_of, running, start_exchanges, until

Change = Callable[[dict[str, Any]], None]


def no_such_labels(data: dict[str, Any]) -> None:
    data["dedup"]["labels"] = {"dedup": "never"}


def no_recorder_node(data: dict[str, Any]) -> None:
    data["recorders"][0]["labels"] = {"region": "atlantis"}


def no_such_strategy(data: dict[str, Any]) -> None:
    data["strategies"][0]["strategy"] = "raytrade.demo.watch:Nothing"


def no_directory(data: dict[str, Any]) -> None:
    data["recorders"][0]["directory"] = "/dev/null/recording"


@pytest.mark.parametrize(
    ("change", "told", "kind"),
    [
        (no_such_labels, "dedup.labels: no node has the labels dedup=never (nodes: collector=yes, dedup", ConfigError),
        (no_recorder_node, "recorders.recorder.labels: no node has the labels region=atlantis", ConfigError),
        (no_such_strategy, "no class Nothing; it has SpreadWatch", ConfigError),
        (no_directory, "/dev/null/recording: not writable: Not a directory", RaytradeError),
    ],
)
def test_a_pipeline_that_cannot_start(
    nodes: Nodes, tmp_path: Path, change: Change, told: str, kind: type[Exception]
) -> None:
    with ExitStack() as stack:
        data = data_of("wrong", start_exchanges(stack, BINANCE), tmp_path, BINANCE)
        change(data)
        with pytest.raises(kind) as refused:
            driver.start(check_config(data, "wrong.yaml"))
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
        until(lambda: not [name for name in named_actors() if name.startswith("wrong-")], "nothing is left")


def test_starting_what_runs_already(nodes: Nodes, tmp_path: Path) -> None:
    with running("twice", tmp_path, BINANCE) as pipeline:
        data = data_of("twice", pipeline.exchanges, tmp_path, BINANCE)
        before = {name: actor["pid"] for name, actor in pipeline.status()["actors"].items()}
        again = driver.start(check_config(data, "twice.yaml"))
        assert (set(again.names), again.changes, again.was_running) == (set(before), [], True)
        data["links"] = {"ring_mb": 7}
        with pytest.raises(ConfigError, match="links: cannot be changed while the pipeline runs"):
            driver.start(check_config(data, "twice.yaml"))
        del data["links"]
        data["venues"]["binance-spot"]["redundancy"] = 4
        with pytest.raises(ConfigError, match="4 copies wanted in different nodes, there are only 3"):
            driver.start(check_config(data, "twice.yaml"))
        handle = driver.supervisor("twice")
        handle.begin.remote(to_json(check_config(data, "twice.yaml")), "elsewhere:1", True)
        with pytest.raises(ConfigError, match=r"another driver \(elsewhere:1\) is starting or changing it"):
            driver.start(check_config(data, "twice.yaml"))
        handle.revert.remote("elsewhere:1")
        data["venues"]["binance-spot"]["redundancy"] = "all"
        data["strategies"][0]["params"] = {"speed": 3}
        with pytest.raises(ConfigError, match="no parameter 'speed'"):
            driver.start(check_config(data, "twice.yaml"))
        until(lambda: not pipeline.status()["waiting"], "what was begun is gone")
        until(
            lambda: {name: actor["pid"] for name, actor in pipeline.status()["actors"].items()} == before, "as before"
        )
