"""Charts as plain data for ECharts, from overviews, incidents and ladders. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.observation.overview import Overview
from raytrade.observation.status import Actors, histogram_of, hops

GREEN, RED, AMBER, BLUE, GREY = "#2e9e5b", "#d64545", "#d9a22b", "#3b78c2", "#8a8f98"
COLUMNS_KEPT = 90
ROWS = 60
ROLES = ("venue", "collector", "regional", "dedup", "strategy", "gateway", "recorder")
_TITLE = {"fontSize": 14, "fontWeight": "normal"}


def topology(actors: Actors, overview: Overview) -> dict[str, Any]:
    """Show who is linked with whom: venues, collectors, dedups, consumers from left to right, with their rates."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    columns: dict[str, list[tuple[str, str]]] = {role: [] for role in ROLES}
    for line in overview.lines:
        if (line.venue, BLUE) not in columns["venue"]:
            columns["venue"].append((line.venue, BLUE))
        collector = line.line.partition("/")[0]
        edges.append(_edge(line.venue, collector, line.rate, line.is_up))
    for name, actor in sorted(actors.items()):
        role = actor.get("role") or next((role for role in ROLES if f"-{role}-" in name), "strategy")
        columns[role].append((name, GREEN if actor["state"] == "alive" else RED))
    stages = [columns[role] for role in ROLES[:4] if columns[role] or role != "regional"]
    for x, stage in enumerate([*stages, columns["strategy"] + columns["gateway"] + columns["recorder"]]):
        nodes += _column(x, stage)
    edges += [_edge(link.writer, link.reader, link.rate, True) for link in overview.links]
    there = {node["name"] for node in nodes}
    return {
        "title": {"text": "Topology, messages a second", "textStyle": _TITLE},
        "tooltip": {},
        "animation": False,
        "series": [
            {
                "type": "graph",
                "layout": "none",
                "roam": False,
                "symbolSize": 22,
                "label": {"show": True, "position": "bottom", "fontSize": 10},
                "edgeSymbol": ["none", "arrow"],
                "data": nodes,
                "links": [edge for edge in edges if edge["source"] in there and edge["target"] in there],
            }
        ],
    }


def _column(x: int, names: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    step = 100 / (len(names) + 1)
    return [
        {"name": name, "x": 100 * x, "y": step * (at + 1), "itemStyle": {"color": color}}
        for at, (name, color) in enumerate(names)
    ]


def _edge(source: str, target: str, rate: float, is_up: bool) -> dict[str, Any]:
    color = GREY if is_up else RED
    label = {"show": rate > 0, "formatter": f"{rate:.0f}", "fontSize": 9}
    return {"source": source, "target": target, "label": label, "lineStyle": {"color": color, "curveness": 0.05}}


def latencies(actors: Actors) -> dict[str, Any]:
    """Show the distribution of each hop: share of the updates by latency, since the actors began."""
    series = []
    for hop, histogram in hops(actors).items():
        total = histogram.total or 1
        shares = [(quantile, histogram_of(histogram).quantile_ns(quantile)) for quantile in _QUANTILES]
        points = [[max(ns, 1) / MILLISECOND, 100 * quantile] for quantile, ns in shares] if total > 1 else []
        series.append({"name": hop, "type": "line", "showSymbol": False, "data": points})
    return {
        "title": {"text": "Latency: % of updates within ms", "textStyle": _TITLE},
        "tooltip": {"trigger": "axis"},
        "legend": {"bottom": 0, "textStyle": {"fontSize": 10}},
        "grid": {"bottom": 80},
        "animation": False,
        "xAxis": {"type": "log", "name": "ms", "min": 0.01},
        "yAxis": {"type": "value", "min": 0, "max": 100},
        "series": series,
    }


_QUANTILES = (*(at / 50 for at in range(1, 50)), 0.99, 0.995, 0.999)
_TIMELINE = {"gap": RED, "stalled": AMBER, "resynced": GREEN, "line_down": GREY, "actor_restarted": BLUE}


def timeline(incidents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Show gaps, resyncs, lost lines and restarts over time, a row for each stream, line or actor."""
    shown = [record for record in incidents if record["incident"] in _TIMELINE]
    rows = sorted({_subject(record) for record in shown})
    series = [
        {
            "name": kind,
            "type": "scatter",
            "symbolSize": 11,
            "itemStyle": {"color": color},
            "data": [
                [record["ts_ns"] // MILLISECOND, rows.index(_subject(record))]
                for record in shown
                if record["incident"] == kind
            ],
        }
        for kind, color in _TIMELINE.items()
    ]
    return {
        "title": {"text": "Gaps and losses", "textStyle": _TITLE},
        "tooltip": {},
        "legend": {"bottom": 0},
        "grid": {"left": 230, "bottom": 60},
        "animation": False,
        "xAxis": {"type": "time"},
        "yAxis": {"type": "category", "data": rows},
        "series": series,
    }


def _subject(record: Mapping[str, Any]) -> str:
    fields = record["fields"]
    return str(fields.get("instrument") or fields.get("line") or record["actor"])


class DepthHistory:
    """The last `COLUMNS_KEPT` looks at one instrument's ladder, and its trades; made into a heat map."""

    def __init__(self) -> None:
        self._columns: deque[tuple[Nanos, dict[str, Any]]] = deque(maxlen=COLUMNS_KEPT)

    def add(self, ladder: dict[str, Any], now_ns: Nanos) -> None:
        """Take one look."""
        self._columns.append((now_ns, ladder))

    def chart(self) -> dict[str, Any]:
        """Show resting size by price and time (logarithmic), trades on top; nothing where the book was not whole."""
        live = [ladder for _, ladder in self._columns if ladder["is_live"] and ladder["bids"] and ladder["asks"]]
        if not live:
            return {"title": {"text": "Depth: no whole book yet", "textStyle": _TITLE}, "series": []}
        low, high = _range(live)
        step = (high - low) / ROWS or 1.0
        cells: list[list[float]] = []
        for x, (_, ladder) in enumerate(self._columns):
            cells += _cells(x, ladder, low, step) if ladder["is_live"] else []
        times = [at_ns // MILLISECOND for at_ns, _ in self._columns]
        digits = max(0, math.ceil(-math.log10(step)))
        return {
            "title": {"text": "Depth by time and price, trades as dots", "textStyle": _TITLE},
            "tooltip": {},
            "animation": False,
            "grid": {"left": 80, "right": 20, "bottom": 40},
            "xAxis": {"type": "category", "data": times, "axisLabel": {"show": False}},
            "yAxis": {"type": "category", "data": [f"{low + step * (row + 0.5):.{digits}f}" for row in range(ROWS)]},
            "visualMap": {
                "show": False,
                "min": 0,
                "max": max((cell[2] for cell in cells), default=1) or 1,
                "seriesIndex": 0,
                "inRange": {"color": ["#ffffff00", "#3b78c2", "#f2c14e", "#d64545"]},
            },
            "series": [
                {"type": "heatmap", "data": cells, "progressive": 0},
                {"type": "scatter", "symbolSize": 6, "data": self._trades(low, step)},
            ],
        }

    def _trades(self, low: float, step: float) -> list[dict[str, Any]]:
        points: dict[str, dict[str, Any]] = {}
        times = [at_ns for at_ns, _ in self._columns]
        for trade in self._columns[-1][1]["trades"]:
            row = int((float(trade["price"]) - low) / step)
            x = next((at for at, at_ns in enumerate(times) if at_ns >= trade["ts_recv_ns"]), len(times) - 1)
            if 0 <= row < ROWS and trade["ts_recv_ns"] >= times[0]:
                color = GREEN if trade["aggressor"] == "buy" else RED
                points[trade["trade_id"]] = {"value": [x, row], "itemStyle": {"color": color}}
        return list(points.values())


def _range(ladders: Sequence[dict[str, Any]]) -> tuple[float, float]:
    prices = [float(side[-1][0]) for ladder in ladders for side in (ladder["bids"], ladder["asks"])]
    return min(prices), max(prices) + 1e-9


def _cells(x: int, ladder: dict[str, Any], low: float, step: float) -> list[list[float]]:
    sums: dict[int, float] = {}
    for price, size in (*ladder["bids"], *ladder["asks"]):
        row = min(ROWS - 1, max(0, int((float(price) - low) / step)))
        sums[row] = sums.get(row, 0.0) + float(size)
    return [[x, row, round(math.log1p(total), 4)] for row, total in sums.items()]


def ladder_chart(ladder: dict[str, Any]) -> dict[str, Any]:
    """Show the best levels as bars, bids below asks; a book that is not whole says so."""
    levels = [(price, float(size), GREEN) for price, size in reversed(ladder["bids"])]
    levels += [(price, float(size), RED) for price, size in ladder["asks"]]
    state = "" if ladder["is_live"] else f": the book is {ladder['state']}, not usable"
    return {
        "title": {"text": f"{ladder['instrument']}{state}", "textStyle": _TITLE},
        "tooltip": {},
        "animation": False,
        "grid": {"left": 90, "right": 20, "bottom": 30},
        "xAxis": {"type": "value"},
        "yAxis": {"type": "category", "data": [price for price, _, _ in levels]},
        "series": [{"type": "bar", "data": [{"value": size, "itemStyle": {"color": c}} for _, size, c in levels]}],
    }
