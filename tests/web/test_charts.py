"""Charts as data: what is known stands in them, and what is not whole is not drawn."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.core.clock import SECOND
from raytrade.observation.overview import Overviews
from raytrade.web.charts import COLUMNS_KEPT, ROWS, DepthHistory, ladder_chart, latencies, timeline, topology
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy
from tests.web.fake import MadeUp


def test_the_topology_links_what_is_there() -> None:
    found = {**status(c=collector(), d=dedup(), r=recorder(), s=strategy()), "alerts": {"firing": []}}
    found["actors"]["p-recorder-x"] = {"state": "dead", "node": "n"}
    chart = topology(found["actors"], Overviews().receive(found, SECOND))
    series = chart["series"][0]
    names = {node["name"] for node in series["data"]}
    assert names == {"kraken-v2", "c", "d", "r", "s", "p-recorder-x"}
    assert len(series["data"]) == len(names)
    assert {(edge["source"], edge["target"]) for edge in series["links"]} == {("kraken-v2", "c"), ("c", "d")}
    colors = {node["name"]: node["itemStyle"]["color"] for node in series["data"]}
    assert colors["p-recorder-x"] != colors["r"]


def test_dedups_of_regions_stand_between_collectors_and_dedups() -> None:
    found = {**status(c=collector(), d=dedup(), e={**dedup(), "role": "regional"}), "alerts": {"firing": []}}
    chart = topology(found["actors"], Overviews().receive(found, SECOND))
    places = {node["name"]: node["x"] for node in chart["series"][0]["data"]}
    assert places["c"] < places["e"] < places["d"]


def test_latencies_are_shares_that_rise() -> None:
    found = collector()
    found["links"]["d"]["age"] = {"counts": {"40": 90, "90": 10}, "total": 100, "max_ns": 2_000_000}
    chart = latencies(status(c=found)["actors"])
    points = next(one["data"] for one in chart["series"] if one["name"] == "socket to collector out")
    assert [share for _, share in points] == sorted(share for _, share in points)
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    assert sum(bool(one["data"]) for one in chart["series"]) == 1


def test_the_timeline_has_a_row_for_each_subject() -> None:
    records = [
        {"ts_ns": 1_000_000, "incident": "gap", "actor": "d", "fields": {"instrument": "i"}},
        {"ts_ns": 2_000_000, "incident": "line_down", "actor": "c", "fields": {"line": "l"}},
        {"ts_ns": 3_000_000, "incident": "link_up", "actor": "s", "fields": {}},
    ]
    chart = timeline(records)
    assert chart["yAxis"]["data"] == ["i", "l"]
    points = {one["name"]: one["data"] for one in chart["series"] if one["data"]}
    assert points == {"gap": [[1, 0]], "line_down": [[2, 1]]}


def ladder(**more: Any) -> dict[str, Any]:
    return {**MadeUp().ladder("i", 5), **more}


def test_the_heat_map_leaves_out_what_was_not_whole() -> None:
    history = DepthHistory()
    assert history.chart()["series"] == []
    for at in range(COLUMNS_KEPT + 5):
        history.add(ladder(is_live=at % 2 == 0), at * SECOND)
    chart = history.chart()
    heat, trades = chart["series"]
    assert len(chart["xAxis"]["data"]) == COLUMNS_KEPT
    assert len({cell[0] for cell in heat["data"]}) == COLUMNS_KEPT // 2
    assert all(0 <= cell[1] < ROWS and cell[2] > 0 for cell in heat["data"])
    assert len(trades["data"]) == 1
    prices = chart["yAxis"]["data"]
    assert len(set(prices)) == len(prices) == ROWS


@pytest.mark.parametrize(("is_live", "told"), [(True, "i"), (False, "i: the book is stale, not usable")])
def test_the_ladder_says_whether_it_can_be_used(is_live: bool, told: str) -> None:
    chart = ladder_chart(ladder(is_live=is_live, state="live" if is_live else "stale"))
    assert chart["title"]["text"] == told
    prices = [float(price) for price in chart["yAxis"]["data"]]
    assert prices == sorted(prices)
    assert len(prices) == len(chart["series"][0]["data"]) == 10
