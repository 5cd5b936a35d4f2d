"""Lines and actors move, and the configuration changes, while the stream flows: nobody misses an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raytrade.config import check_config
from raytrade.demo.checker import covered
from raytrade.demo.nodes import Nodes
from raytrade.emulator import Truth
from raytrade.errors import ConfigError
from raytrade.pipeline import driver
from raytrade.pipeline.subscription import View
from tests.ray.running import Running, data_of, running, until

SYMBOLS = ("BTCUSDT", "ETHUSDT")
BOTH = {"binance-spot": SYMBOLS}


def apart(data: dict[str, Any]) -> None:
    """Two copies of the line in different regions, and one symbol for the beginning."""
    data["failure_domain"] = "region"
    data["venues"]["binance-spot"] |= {"redundancy": 2, "symbols": ["BTCUSDT"]}


def homes(pipeline: Running, role: str) -> set[str]:
    return {actor["node"] for actor in pipeline.actors(role).values()}


def lines(pipeline: Running) -> set[str]:
    return {name for actor in pipeline.actors("collector").values() for name in actor["lines"]}


def quality(pipeline: Running) -> tuple[float, int]:
    counts = pipeline.one("strategy", "watch")["engine"]["instruments"]["binance-spot:BTCUSDT"]
    return counts["quality"], counts["copies_left"]


def test_moves_lose_nothing(nodes: Nodes, tmp_path: Path) -> None:
    with running("moves", tmp_path, BOTH, apart) as pipeline:
        pipeline.begin()
        pipeline.let_flow()
        assert len(homes(pipeline, "collector")) == 2, "two copies on three nodes"
        with pytest.raises(ConfigError, match="there is none: "):
            driver.drain("moves", "no-such-node", lambda _: None)
        view = View("moves")
        crowded = next(iter(homes(pipeline, "dedup") & homes(pipeline, "collector")))
        before, told = lines(pipeline), list[str]()
        driver.drain("moves", crowded[:12], told.append)
        assert any(text.endswith(": done") for text in told)
        assert crowded not in homes(pipeline, "collector") | homes(pipeline, "dedup") | homes(pipeline, "strategy")
        assert len(lines(pipeline)) == 2 and lines(pipeline) != before
        until(pipeline.is_redundant, "all linked again")
        until(lambda: view.status()["up"] == sorted(pipeline.actors("dedup")), "who only looks follows the new dedups")
        until(lambda: view.ladder("binance-spot:BTCUSDT", 1)["is_live"], "and has a book")
        view.close()
        until(lambda: quality(pipeline) == (1.0, 2), "what was moved is not missed")
        pipeline.let_flow()
        data = data_of("moves", pipeline.exchanges, tmp_path, BOTH)
        apart(data)
        data["venues"]["binance-spot"]["symbols"] = list(SYMBOLS)
        changes = driver.start(check_config(data, "moves.yaml")).changes
        assert changes == ["binance-spot: + ETHUSDT"]
        assert all(name.endswith("~2") for name in lines(pipeline)), "the lines were opened anew beside the old ones"
        pipeline.let_flow()
        assert driver.undrain("moves", crowded[:12])[1]
        until(lambda: lines(pipeline) == {f"{name}~2" for name in before}, "the node has its share again")
        pipeline.let_flow()
        check(pipeline)


def check(pipeline: Running) -> None:
    """The first symbol is whole since the stream began, the second one since it was added."""
    truths = pipeline.finish()
    until(lambda: pipeline.has_all("watch", truths), "everything has come")
    until(lambda: pipeline.books_differ("watch", truths) == [], "the books are the true ones")
    coverage = pipeline.one("strategy", "watch")["coverage"]
    for symbol, ids in truths["binance-spot"].ids.items():
        mine = coverage[f"binance-spot:{symbol}/book"]
        assert (mine["holes"], mine["repeats"]) == ([], 0)
        assert covered(mine).missed([number for number in ids if number > mine["first"]]) == []
    pipeline.stop()
    pipeline.check_files({"binance-spot": first_only(truths["binance-spot"])})


def first_only(truth: Truth) -> Truth:
    """Give the truth of the symbol that was there from the start."""
    ids, trades = {"BTCUSDT": truth.ids["BTCUSDT"]}, {"BTCUSDT": truth.trades["BTCUSDT"]}
    return msgspec.structs.replace(truth, ids=ids, trades=trades)
