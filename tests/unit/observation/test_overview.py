"""Rows for people: rates and shares since the last look."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.metrics import Histogram
from raytrade.observation.overview import Overview, Overviews
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy


def look(overviews: Overviews, at_s: float, **actors: dict[str, Any]) -> Overview:
    found = {**status(**actors), "alerts": {"firing": [{"alert": "disk_low", "subject": "r"}]}}
    return overviews.receive(found, int(at_s * SECOND))


def test_rates_are_those_since_the_last_look() -> None:
    overviews = Overviews()
    first = look(overviews, 10, c=collector(), d=dedup(), r=recorder(), s=strategy())
    assert [row.rate for row in first.streams] == [0.0]
    later = dedup(gaps=2)
    later["streams"]["kraken-v2:BTC/USD/book"]["updates"] = 105
    lead = Histogram()
    lead.record(4 * MILLISECOND)
    later["lines"]["c/kraken-v2"] |= {"wins": 105, "lead": {"counts": lead.counts, "total": 1, "max_ns": lead.max_ns}}
    second = look(overviews, 12, c=collector(), d=later, r=recorder(), s=strategy())
    row = second.streams[0]
    assert (row.instrument, row.channel, row.rate, row.gaps) == ("kraken-v2:BTC/USD", "book", 50.0, 2)
    assert (row.lines_up, row.lines, row.quality) == (1, 1, None)
    line = second.lines[0]
    assert (line.share, line.is_up) == (1.0, True)
    assert line.lead_ms == pytest.approx(4, rel=0.13)
    assert second.alerts == ["disk_low: r"]
    third = look(overviews, 13, c=collector(), d=dedup(), r=recorder(), s=strategy())
    assert third.streams[0].rate == 5.0, "a replica that was started anew counts from zero"


def test_what_is_lost_is_named() -> None:
    overview = look(Overviews(), 1, c=collector(is_up=False), d={"state": "restarting", "node": "n"})
    assert overview.lost == ["d: restarting"]
    assert [(row.is_up, row.share) for row in overview.lines] == [(False, 0.0)]
    assert [(row.reader, row.bytes_rate) for row in overview.links] == [("d", 0.0)]
