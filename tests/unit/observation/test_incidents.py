"""Incidents: the actors' own ones once each, and what only a watcher sees."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.core.incidents import Incident, IncidentLog
from raytrade.observation.incidents import IncidentBook, PipelineIncident
from tests.unit.observation.statuses import collector, status

ROOT = Path(__file__).resolve().parents[3]


def kinds(records: list[PipelineIncident]) -> list[tuple[str, str]]:
    return [(record.incident, record.actor) for record in records]


def own(index: int, incident: str = "line_up") -> dict[str, Any]:
    return {"index": index, "ts_ns": index, "incident": incident, "fields": {"line": "l"}}


def test_an_actors_own_incidents_are_taken_once() -> None:
    book = IncidentBook()
    first = book.receive(status(c={**collector(), "incidents": [own(0)]}), 0)
    assert kinds(first) == [("actor_started", "c"), ("line_up", "c")]
    assert book.receive(status(c={**collector(), "incidents": [own(0)]}), 1) == []
    assert kinds(book.receive(status(c={**collector(), "incidents": [own(0), own(1, "line_down")]}), 2)) == [
        ("line_down", "c")
    ]


@pytest.mark.parametrize(
    ("change", "incident"),
    [
        ({"pid": 2}, "actor_restarted"),
        ({"pid": 2, "node": "n2"}, "actor_moved"),
        ({"state": "restarting"}, "actor_lost"),
    ],
)
def test_what_a_watcher_sees_of_an_actor(change: dict[str, Any], incident: str) -> None:
    book = IncidentBook()
    book.receive(status(c=collector()), 0)
    changed = status(c={**collector(), **change})
    assert kinds(book.receive(changed, 1)) == [(incident, "c")]
    assert book.receive(changed, 2) == []


def test_a_new_process_counts_its_incidents_anew() -> None:
    book = IncidentBook()
    book.receive(status(c={**collector(), "incidents": [own(0), own(1)]}), 0)
    again = book.receive(status(c={**collector(), "pid": 2, "incidents": [own(0)]}), 1)
    assert [record.incident for record in again] == ["actor_restarted", "line_up"]


def test_removals_problems_refusals_and_overruns() -> None:
    book = IncidentBook()
    book.receive(status(c=collector(), d=collector("e")), 0)
    changed = collector()
    changed["lines"]["c/kraken-v2"]["status"]["refused"] = {"BTC/USD": "no such symbol"}
    changed["links"]["d"]["overruns"] = 2
    found = book.receive({**status(c=changed), "problems": ["no node"]}, 1)
    assert {record.incident for record in found} == {
        "actor_removed",
        "subscription_refused",
        "consumer_overrun",
        "problem",
    }
    assert book.receive({**status(c=changed), "problems": ["no node"]}, 2) == []


def test_the_book_is_bounded_and_can_be_followed() -> None:
    book = IncidentBook(kept_max=3)
    for at in range(5):
        book.note(Incident.PROBLEM, "p", at)
    assert [record.number for record in book.since(0)] == [2, 3, 4]
    assert [record.number for record in book.since(4)] == [4]


def test_a_storm_is_cut() -> None:
    log = IncidentLog(kept_max=10, per_second_max=3)
    taken = [log.note(Incident.GAP, 5, {}) for _ in range(5)]
    assert [record is None for record in taken] == [False] * 3 + [True] * 2
    assert log.note(Incident.GAP, 2 * SECOND, {}) is not None
    assert (log.suppressed, [record.index for record in log.records()]) == (2, [0, 1, 2, 3])


def test_every_name_is_used_in_one_place() -> None:
    used: Counter[str] = Counter()
    for path in (ROOT / "raytrade").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Incident":
                used[node.attr] += 1
    assert used == Counter({incident.name: 1 for incident in Incident})
