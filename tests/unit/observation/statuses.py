"""Small statuses, in the shape that a supervisor gives."""

from __future__ import annotations

from typing import Any

import msgspec

from raytrade.arbitration.stream import LineCounts, StreamCounts
from raytrade.core.metrics import Histogram
from raytrade.links.reader import ReaderCounts
from raytrade.links.writer import LinkCounts
from raytrade.storage.sink import SinkCounts
from raytrade.strategy.statistics import EngineStatistics
from raytrade.venues.protocol import LineStatistics


def status(**actors: dict[str, Any]) -> dict[str, Any]:
    """Give a pipeline's status."""
    return {"name": "p", "problems": [], "actors": {name.replace("_", "-"): actor for name, actor in actors.items()}}


def _actor(role: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "state": "alive", "pid": 1, "node": "n1", "incidents": [], **more}


def collector(name: str = "c", is_up: bool = True, **more: Any) -> dict[str, Any]:
    """Give a collector with one line."""
    line = {
        "venue": "kraken-v2",
        "status": {"is_up": is_up, "reconnects": 0, "last_reason": "", "refused": {}},
        "counts": msgspec.to_builtins(LineStatistics(frames=7, frames_bytes=700)),
    }
    links = {"d": msgspec.to_builtins(LinkCounts(bytes_sent=10, messages=2))}
    return _actor("collector", lines={f"{name}/kraken-v2": line}, links=links, lanes={"d": "shm"}, **more)


def dedup(last_id: int = 10, gaps: int = 0, lead: Histogram | None = None) -> dict[str, Any]:
    """Give a dedup with one stream."""
    return _actor(
        "dedup",
        streams={"kraken-v2:BTC/USD/book": msgspec.to_builtins(StreamCounts(updates=5, gaps=gaps, last_id=last_id))},
        lines={"c/kraken-v2": msgspec.to_builtins(LineCounts(wins=5, lead=lead or Histogram()))},
        links={},
        upstreams={"c": msgspec.to_builtins(ReaderCounts())},
        up=["c"],
        ring_bytes=4096,
    )


def recorder(last: int = 10, problem: str = "", free: int = 10**12) -> dict[str, Any]:
    """Give a recorder."""
    return _actor(
        "recorder",
        directory="/data",
        problem=problem,
        disk_free_bytes=free,
        sink=msgspec.to_builtins(SinkCounts(bytes_written=100)),
        coverage={"kraken-v2:BTC/USD/book": {"first": 1, "last": last, "count": 1, "repeats": 0, "holes": []}},
        upstreams={},
        up=[],
    )


def strategy(failure: str = "") -> dict[str, Any]:
    """Give a strategy."""
    engine = EngineStatistics(
        name="s",
        running=not failure,
        failure=failure,
        strategy_errors=int(bool(failure)),
        fills=3,
        rejections=0,
        orders=0,
        notes_dropped=0,
        gauges={},
        instruments={},
        replicas={},
        latency=Histogram(),
    )
    return _actor("strategy", engine=msgspec.to_builtins(engine, str_keys=True), upstreams={}, up=[])
