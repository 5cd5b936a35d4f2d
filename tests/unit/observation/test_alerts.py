"""Alerts: each rule fires, is told once, again after its time, and ends."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.observation.alerts import AlertRules, AlertSettings, Notice
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy

SETTINGS = AlertSettings(redundancy=1, hold_ns=5 * SECOND, repeat_ns=60 * SECOND, recorder_behind_ns=10 * SECOND)
LOST = {"state": "restarting", "node": "n1"}


def told(notices: list[Notice]) -> list[tuple[str, str, str]]:
    return [(notice.alert, notice.subject, notice.state) for notice in notices]


@pytest.mark.parametrize(
    ("bad", "alert", "subject", "held"),
    [
        ({"c": collector(is_up=False)}, "redundancy_low", "kraken-v2", True),
        ({"s": strategy("on_book: ZeroDivisionError")}, "strategy_stopped", "s", False),
        ({"r": recorder(problem="disk full")}, "recorder_behind", "r", False),
        ({"r": recorder(free=1)}, "disk_low", "r", False),
        ({"c": collector(), "d": LOST}, "actor_lost", "d", True),
    ],
)
def test_a_rule_fires_repeats_and_ends(bad: dict[str, Any], alert: str, subject: str, held: bool) -> None:
    rules = AlertRules(SETTINGS)
    good = status(c=collector(), s=strategy(), r=recorder())
    assert rules.receive(good, 0) == []
    first = rules.receive(status(**bad), SECOND)
    assert told(first) == ([] if held else [(alert, subject, "firing")])
    second = rules.receive(status(**bad), 6 * SECOND)
    assert told(first + second) == [(alert, subject, "firing")]
    assert rules.receive(status(**bad), 30 * SECOND) == []
    assert told(rules.receive(status(**bad), 67 * SECOND)) == [(alert, subject, "firing")]
    assert rules.firing() == [(alert, subject)]
    assert told(rules.receive(good, 70 * SECOND)) == [(alert, subject, "resolved")]
    assert rules.firing() == []


def test_what_lasts_shorter_than_the_hold_is_never_told() -> None:
    rules = AlertRules(SETTINGS)
    assert rules.receive(status(c=collector(is_up=False)), 0) == []
    assert rules.receive(status(c=collector()), 4 * SECOND) == []
    assert rules.receive(status(c=collector(is_up=False)), 5 * SECOND) == []


def test_gaps_are_counted_together() -> None:
    rules = AlertRules(SETTINGS)
    assert rules.receive(status(d=dedup(gaps=4)), 0) == []
    notices = rules.receive(status(d=dedup(gaps=5)), SECOND)
    assert told(notices) == [("gap_on_all_lines", "kraken-v2:BTC/USD/book", "firing")]
    assert rules.receive(status(d=dedup(gaps=8)), 2 * SECOND) == []
    assert rules.receive(status(d=dedup(gaps=9)), 3 * SECOND) == []
    later = rules.receive(status(d=dedup(gaps=9)), 61 * SECOND)
    assert [notice.summary for notice in later] == ["kraken-v2:BTC/USD/book: 4 gaps that no line filled"]


def test_a_stream_that_begins_with_a_gap_is_told() -> None:
    rules = AlertRules(SETTINGS)
    assert rules.receive(status(c=collector()), 0) == []
    assert told(rules.receive(status(d=dedup(gaps=1)), SECOND)) != []


def test_a_recorder_that_stands_still_is_behind() -> None:
    rules = AlertRules(SETTINGS)
    for second in range(0, 10):
        assert rules.receive(status(d=dedup(last_id=second), r=recorder(last=0)), second * SECOND) == []
    late = rules.receive(status(d=dedup(last_id=12), r=recorder(last=0)), 12 * SECOND)
    assert told(late) == [("recorder_behind", "r", "firing")]
    assert told(rules.receive(status(d=dedup(last_id=13), r=recorder(last=13)), 13 * SECOND)) == [
        ("recorder_behind", "r", "resolved")
    ]


def test_ids_that_begin_anew_are_no_delay() -> None:
    rules = AlertRules(SETTINGS)
    for second in range(0, 12):
        assert rules.receive(status(d=dedup(last_id=1000), r=recorder(last=1000)), second * SECOND) == []
    assert rules.receive(status(d=dedup(last_id=3), r=recorder(last=3)), 13 * SECOND) == []


def test_notices_are_bounded() -> None:
    rules = AlertRules(AlertSettings(hold_ns=0, notices_per_minute_max=2))
    notices = rules.receive(status(a=LOST, b=LOST, c=LOST, d=LOST), SECOND)
    assert (len(notices), rules.suppressed) == (2, 2)
    later = rules.receive(status(), 62 * SECOND)
    assert (len(later), later[0].suppressed) == (2, 2)
