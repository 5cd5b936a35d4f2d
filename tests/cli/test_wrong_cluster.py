"""Commands against a cluster without a pipeline, with several, or with one of another version: said, with a remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from raytrade import __version__
from raytrade.demo.nodes import free_port
from raytrade.pipeline import driver
from tests.cli.commands import Commands

STRATEGY = "raytrade.demo.watch:SpreadWatch"
LOOKING = [("status",), ("status", "--json", "--watch"), ("tail", "*"), ("events",), ("ui",)]
ACTING = [("attach", STRATEGY), ("detach", "watch"), ("chaos", "kill", "dedup-0-a"), ("chaos", "cut", "kraken")]
ENDING = [("stop",)]


def whole(command: tuple[str, ...]) -> tuple[str, ...]:
    """Give the command as it is run: a page needs a port that is free."""
    return (*command, "--port", str(free_port())) if command == ("ui",) else command


class Remote:
    """A method of a supervisor that gives one value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def remote(self, *arguments: Any) -> Any:
        return self._value


class Supervisor:
    """A supervisor of another version."""

    def __init__(self, version: str) -> None:
        found = {"name": "majors", "version": version, "actors": {}}
        self.status = self.counters = self.version = Remote(found)
        self.stop = Remote([])


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take every address for a cluster; what a supervisor answers is there at once."""
    monkeypatch.setattr(driver, "join", lambda address="auto": None)
    monkeypatch.setattr(ray, "get", lambda reference, timeout=None: reference)
    return monkeypatch


@pytest.mark.parametrize("command", [*LOOKING, *ACTING, *ENDING], ids=" ".join)
@pytest.mark.parametrize(
    ("running", "told"),
    [
        ([], "no single pipeline is running here (running: none); start one with: raytrade run PIPELINE.yaml"),
        (["a", "b"], "no single pipeline is running here (running: a, b); choose one with --pipeline"),
    ],
)
def test_no_pipeline(
    run: Commands, joined: pytest.MonkeyPatch, command: tuple[str, ...], running: list[str], told: str
) -> None:
    joined.setattr(driver, "running_pipelines", lambda: running)
    outcome = run(*whole(command))
    assert (outcome.status, outcome.problem) == (1, f"raytrade: {told}")
    assert outcome.out == ""


@pytest.mark.parametrize("command", [*LOOKING, *ACTING], ids=" ".join)
def test_another_version(run: Commands, joined: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    joined.setattr(driver, "supervisor", lambda pipeline: Supervisor("0.0.9"))
    outcome = run(*whole(command))
    told = f"pipeline 'majors' runs raytrade 0.0.9 and this is {__version__}: use the same version here, or stop the"
    assert outcome.status == 1
    assert outcome.problem == f"raytrade: {told} pipeline and start it anew"


def test_a_pipeline_of_a_version_that_knows_no_versions(run: Commands, joined: pytest.MonkeyPatch) -> None:
    joined.setattr(driver, "supervisor", lambda pipeline: object())
    assert "runs raytrade an older version" in run("events").problem


def test_starting_over_a_pipeline_of_another_version(run: Commands, joined: pytest.MonkeyPatch, tmp_path: Path) -> None:
    joined.setattr(driver, "supervisor", lambda pipeline: Supervisor("0.0.9"))
    joined.setattr(driver, "running_pipelines", lambda: ["majors"])
    path = tmp_path / "majors.yaml"
    path.write_text("name: majors\nvenues: {kraken-v2: {symbols: [BTC/USD]}}\n")
    outcome = run("run", path)
    assert outcome.status == 1
    assert outcome.problem.endswith("use the same version here, or stop the pipeline and start it anew")
