"""When every role has its spare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raytrade.chaos.redundancy import LAG_IDS, lacking
from tests.unit.chaos.statuses import WANTED, status


def test_nothing_is_lacking() -> None:
    assert lacking(status()["actors"], WANTED) == ""


def _end(actors: dict[str, Any]) -> None:
    actors["p-dedup-0-a"] = {"state": "restarting", "node": "aa11"}


def _remove(actors: dict[str, Any]) -> None:
    del actors["p-collector-bb-0"]


def _cut(actors: dict[str, Any]) -> None:
    actors["p-collector-aa-0"]["lines"]["p-collector-aa-0/v"]["status"]["is_up"] = False


def _unlink(actors: dict[str, Any]) -> None:
    actors["p-dedup-0-b"]["up"] = ["p-collector-aa-0"]


def _blind(actors: dict[str, Any]) -> None:
    actors["p-strategy-watch"]["up"] = []


def _no_snapshot(actors: dict[str, Any]) -> None:
    actors["p-dedup-0-b"]["streams"]["v:A/book"]["snapshots"] = 0


def _behind(actors: dict[str, Any]) -> None:
    actors["p-dedup-0-a"]["streams"]["v:A/book"]["last_id"] = 500 + LAG_IDS + 1


def _unborn(actors: dict[str, Any]) -> None:
    actors["p-dedup-0-b"]["streams"] = {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_end, "p-dedup-0-a is restarting"),
        (_remove, "1 of 2 collectors"),
        (_cut, "line p-collector-aa-0/v is down"),
        (_unlink, "p-dedup-0-b has no link to p-collector-bb-0"),
        (_blind, "p-strategy-watch has no link to p-dedup-0-a"),
        (_no_snapshot, "p-dedup-0-b does not yet give out v:A/book"),
        (_behind, "p-dedup-0-b does not yet give out v:A/book"),
        (_unborn, "p-dedup-0-b does not yet give out v:A/book"),
    ],
)
def test_what_is_lacking_is_named(change: Callable[[dict[str, Any]], None], told: str) -> None:
    actors = status()["actors"]
    change(actors)
    assert lacking(actors, WANTED) == told


def test_the_word_of_a_dead_process_does_not_count() -> None:
    assert lacking(status()["actors"], WANTED, gone={20}) == "p-dedup-0-a is still the old one"


def test_before_anything_flows_nobody_gives_out_a_book() -> None:
    actors = status()["actors"]
    for name in ("p-dedup-0-a", "p-dedup-0-b"):
        actors[name]["streams"] = {}
    assert lacking(actors, WANTED) == ""
