"""What exchanges and networks do: damage on one line has no effect, damage on all lines is told exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

from raytrade.core.coverage import Coverage
from raytrade.demo.nodes import Nodes
from tests.ray.running import BINANCE, MARKETS, Running, gap_rows, ids_in_files, running, until

DIARY = f"{Path(__file__).with_name('strategies.py')}:Diary"


def test_damage_on_one_line_has_no_effect(nodes: Nodes, tmp_path: Path) -> None:
    faults = ("conn=1:drop=0.01", "conn=2:duplicate=0.02", "conn=2:reorder=0.02", "conn=3:corrupt=0.02")
    with running("damage", tmp_path, faults=faults) as pipeline:
        pipeline.begin()
        pipeline.let_flow(300)
        for exchange in pipeline.exchanges.values():
            exchange.cut(max(exchange.connections))
        pipeline.let_flow(300)
        until(pipeline.is_redundant, "the cut lines are back")
        truths = pipeline.finish()
        assert all(truth.fault_counts.get("drop", 0) for truth in truths.values())
        pipeline.check_strategy("watch", truths)
        pipeline.stop()
        pipeline.check_files(truths)
        assert gap_rows(tmp_path) == []


def test_what_all_lines_lose_is_a_gap(nodes: Nodes, tmp_path: Path) -> None:
    """Exactly the lost ids are missing, in the strategy and in the files; the book is not shown in between."""
    with running("lost", tmp_path, BINANCE, keep_a_diary, rate=50.0) as pipeline:
        exchange = pipeline.exchanges["binance-spot"]
        pipeline.begin()
        pipeline.let_flow()
        exchange.set_fault("drop@0s:300ms")
        pipeline.let_flow()
        diary = until(lambda: entries(pipeline, "gap"), "the gap is told")
        until(lambda: entries(pipeline, "live"), "the book is back")
        truth = pipeline.finish()["binance-spot"]
        lost = undelivered(truth)
        assert lost
        until(lambda: pipeline.has_all("watch", {"binance-spot": truth}), "everything after the gap")
        assert until(lambda: pipeline.books_differ("watch", {"binance-spot": truth}) == [], "the book")
        for _, id_prev, id_last in diary:
            assert id_prev < lost[0] <= lost[-1] <= id_last
        assert "shown in doubt" not in str(notes(pipeline))
        pipeline.stop()
        (row,) = [row for row in gap_rows(tmp_path) if row["channel"] == "book"]
        assert row["id_prev"] < lost[0] <= lost[-1] <= row["id_last"]
        assert ids_in_files(tmp_path) == sorted(set(truth.ids["BTCUSDT"]) - set(lost))


def test_all_lines_cut_at_once_is_told(nodes: Nodes, tmp_path: Path) -> None:
    with running("cut", tmp_path, BINANCE, keep_a_diary) as pipeline:
        exchange = pipeline.exchanges["binance-spot"]
        pipeline.begin()
        pipeline.let_flow()
        assert exchange.cut() == 3
        until(lambda: entries(pipeline, "stalled"), "the strategy is told that it is blind")
        until(pipeline.is_redundant, "all lines are back")
        pipeline.let_flow(50)
        truth = pipeline.finish()["binance-spot"]
        until(lambda: pipeline.books_differ("watch", {"binance-spot": truth}) == [], "the book is true again")
        coverage = Coverage(**pipeline.one("strategy")["coverage"]["binance-spot:BTCUSDT/book"])
        ids = truth.ids["BTCUSDT"]
        missed = [number for number in ids if number > coverage.first and not coverage.covers(number)]
        assert set(undelivered(truth)) <= set(missed)
        assert missed == ids[ids.index(missed[0]) :][: len(missed)], "one hole, from the cut to the snapshot after it"


def test_a_subscription_that_is_not_served_is_reported(nodes: Nodes, tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["collectors"]["service_timeout_s"] = 1.0

    faults = ("ack_only=ETHUSDT", "refuse=ETHBTC")
    markets = {**MARKETS, "hitbtc-v2": ("ETHBTC", "LTCBTC")}
    with running("refused", tmp_path, markets, change, faults=faults) as pipeline:
        pipeline.begin()
        refused = until(lambda: refusals(pipeline), "both are reported by every collector")
        assert refused["ETHUSDT"] == "subscribed but not served"
        assert "not found" in refused["ETHBTC"].lower() or refused["ETHBTC"]


def refusals(pipeline: Running) -> dict[str, str]:
    """Give the reasons by symbol, once all collectors have reported both symbols."""
    collectors = pipeline.actors("collector").values()
    each = [
        {symbol: why for line in actor["lines"].values() for symbol, why in line["status"]["refused"].items()}
        for actor in collectors
    ]
    return each[0] if all(set(reasons) == {"ETHUSDT", "ETHBTC"} for reasons in each) else {}


def keep_a_diary(data: dict[str, Any]) -> None:
    data["strategies"][0]["strategy"] = DIARY


def notes(pipeline: Running) -> list[str]:
    return list(ray.get(pipeline.handle(f"{pipeline.name}-strategy-watch").status.remote(), timeout=30)["notes"])


def entries(pipeline: Running, what: str) -> list[tuple[str, int, int]]:
    """Give what the diary says: (what, id_prev, id_last); `live` only where it follows on something else."""
    found = []
    for note in notes(pipeline):
        if f"text='{what}'" in note:
            fields = note.partition("fields={")[2].partition("}")[0]
            values = dict(part.split(": ") for part in fields.replace("'", "").split(", ") if part)
            found.append((what, int(values.get("id_prev", 0)), int(values.get("id_last", 0))))
    return found


def undelivered(truth: Any) -> list[int]:
    """Give the ids of updates that no connection was sent."""
    delivered = {number for sent in truth.delivered.values() for number in sent.get("BTCUSDT", [])}
    return [number for number in truth.ids["BTCUSDT"] if number not in delivered]
