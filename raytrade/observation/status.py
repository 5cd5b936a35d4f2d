"""Reading a pipeline's status: the plain data that `Supervisor.status` gives, by role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from raytrade.core.metrics import Histogram

Status = Mapping[str, Any]
"""As `raytrade status --json` prints it."""
Actors = Mapping[str, Mapping[str, Any]]
ALIVE = "alive"


def of_role(actors: Actors, role: str) -> dict[str, Mapping[str, Any]]:
    """Give the actors of a role that answer, by name."""
    return {name: actor for name, actor in actors.items() if actor.get("role") == role}


def lines_of(actors: Actors) -> dict[str, Mapping[str, Any]]:
    """Give every collector's lines by name."""
    return {
        name: line for actor in of_role(actors, "collector").values() for name, line in actor.get("lines", {}).items()
    }


def streams_of(actors: Actors) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Give the counts of each ``instrument/channel`` stream, by dedup."""
    streams: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, actor in of_role(actors, "dedup").items():
        for stream, counts in actor.get("streams", {}).items():
            streams.setdefault(stream, {})[name] = counts
    return streams


def histogram_of(data: Any) -> Histogram:
    """Read a histogram; the keys may be texts, as JSON has them."""
    return data if isinstance(data, Histogram) else msgspec.convert(data, Histogram, strict=False)


def merged(parts: Iterable[Any]) -> Histogram:
    """Add histograms up."""
    total = Histogram()
    for part in parts:
        total.merge(histogram_of(part))
    return total


def since(now: Histogram, before: Histogram) -> Histogram:
    """Give what was recorded between two readings; all of `now` if the records were started anew in between."""
    if before.total > now.total or any(now.counts.get(key, 0) < count for key, count in before.counts.items()):
        return now
    counts = {key: count - before.counts.get(key, 0) for key, count in now.counts.items()}
    return Histogram({key: count for key, count in counts.items() if count}, now.total - before.total, now.max_ns)


def hops(actors: Actors) -> dict[str, Histogram]:
    """Give the histograms of every place on an update's way, in the order of the way."""

    def links(role: str, key: str, figure: str) -> Histogram:
        group = of_role(actors, role).values()
        return merged(counts[figure] for actor in group for counts in actor.get(key, {}).values())

    strategies = of_role(actors, "strategy").values()
    return {
        "socket to collector out": links("collector", "links", "age"),
        "collector out to dedup in": links("dedup", "upstreams", "transit"),
        "socket to dedup out": links("dedup", "links", "age"),
        "dedup out to strategy in": links("strategy", "upstreams", "transit"),
        "dedup out to recorder in": links("recorder", "upstreams", "transit"),
        "socket to strategy called": merged(actor["engine"]["latency"] for actor in strategies),
    }
