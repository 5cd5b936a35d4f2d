"""Figures and verdict of a soak."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from raytrade.chaos.history import Entry, Soak, by_kind, combined, figures
from raytrade.chaos.report import print_report


def entry(kind: str = "kill dedup", **fields: object) -> Entry:
    return msgspec.structs.replace(Entry(kind=kind, target="soak-dedup-0-a", at_s=20.0, restored_s=4.0), **fields)


def soak(**fields: object) -> Soak:
    return msgspec.structs.replace(Soak(seed=1, rate=2000.0, updates=1000, history=[entry()]), **fields)


def test_a_clean_soak_has_no_failures() -> None:
    assert soak().failures() == []
    assert soak().kills == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"missed_by_strategies": 3}, "3 updates missed by consumers"),
        ({"repeated": 2}, "2 updates seen twice"),
        ({"repeated_in_files": 2}, "2 rows recorded twice"),
        ({"missed_by_union": 5}, "5 updates missing from the union of the recorders"),
        ({"unreadable": ["a.parquet: no footer"]}, "1 unreadable files"),
        ({"updates": 0}, "nothing was sent"),
        ({"problems": ["the book is stale"]}, "the book is stale"),
        ({"history": [entry(restored_s=10.5)]}, "redundancy back after 10.5 s"),
        ({"history": [entry(restored_s=None, waited_for=["1 of 2 dedups"])]}, "back never (1 of 2 dedups)"),
    ],
)
def test_each_fault_fails_it(fields: dict[str, object], told: str) -> None:
    assert told in " ".join(soak(**fields).failures())


def test_a_dead_node_has_a_minute() -> None:
    assert soak(history=[entry("kill node", restored_s=45.0)]).failures() == []
    assert soak(history=[entry("kill node", restored_s=61.0)]).failures() != []


def test_without_a_spare_what_was_told_may_be_missing() -> None:
    assert soak(both_copies=True, missed_by_strategies=9, missed_by_union=9).failures() == []
    assert soak(both_copies=True, missed_by_strategies=9, untold=1).failures() != []


def test_figures_of_few_values() -> None:
    assert figures([]).count == 0
    values = figures([float(value) for value in range(1, 201)])
    assert (values.count, values.p50, values.p99, values.highest) == (200, 101.0, 199.0, 200.0)


def test_soaks_add_up() -> None:
    parts = [soak(missed_by_recorder={"r1": 1}, quiet_ms=[1.0]), soak(missed_by_recorder={"r1": 2}, quiet_ms=[2.0])]
    total = combined(parts)
    assert (total.updates, total.kills, total.missed_by_recorder, total.quiet_ms) == (2000, 2, {"r1": 3}, [1.0, 2.0])
    assert list(by_kind([entry("pause dedup"), entry()])) == ["kill dedup", "pause dedup"]
    assert msgspec.json.decode(msgspec.json.encode(total), type=Soak) == total


def test_the_report_says_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    failures = print_report(Console(width=200), soak(repeated=2))
    out = capsys.readouterr().out
    assert "updates missed by consumers: 0" in out
    assert "kill dedup" in out
    assert failures == ["2 updates seen twice"]
    assert "FAILED: 2 updates seen twice" in out
