"""`Overview`: rows for people out of two statuses: rates, leads, latencies since the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.metrics import Histogram
from raytrade.observation.status import Actors, Status, histogram_of, hops, lines_of, of_role, since, streams_of


class StreamRow(msgspec.Struct, frozen=True):
    """One stream: what goes out, and how far it can be relied upon (None where no strategy follows it)."""

    instrument: str
    channel: str
    rate: float
    gaps: int
    resyncs: int
    quality: float | None
    lines_up: int
    lines: int


class LineRow(msgspec.Struct, frozen=True):
    """One line: `share` of the first copies since the last look, lead in milliseconds over the runner-up."""

    line: str
    venue: str
    is_up: bool
    rate: float
    share: float
    lead_ms: float
    gaps: int
    healed: int
    reconnects: int
    reason: str


class LinkRow(msgspec.Struct, frozen=True):
    """One link: messages and bytes a second; `behind`: messages that wait for its reader now, and at most ever."""

    writer: str
    reader: str
    lane: str
    rate: float
    bytes_rate: float
    behind: int
    behind_max: int
    overruns: int


class HopRow(msgspec.Struct, frozen=True):
    """One hop's latency since the last look, in milliseconds."""

    hop: str
    p50_ms: float
    p99_ms: float


class RecorderRow(msgspec.Struct, frozen=True):
    """One recorder: bytes a second into complete segments."""

    recorder: str
    bytes_rate: float
    pending_bytes: int
    free_bytes: int
    problem: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on one screen."""

    pipeline: str
    alerts: list[str]
    streams: list[StreamRow]
    lines: list[LineRow]
    links: list[LinkRow]
    hops: list[HopRow]
    recorders: list[RecorderRow]
    lost: list[str]


class Overviews:
    """Makes an overview of each status; figures a second are those since the status before."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], float] = {}
        self._histograms: dict[str, Histogram] = {}
        self._at_ns: Nanos = 0
        self._elapsed_s = 0.0

    def receive(self, status: Status, now_ns: Nanos) -> Overview:
        """Take a status in."""
        self._elapsed_s = (now_ns - self._at_ns) / SECOND if self._at_ns else 0.0
        self._at_ns = now_ns
        actors: Actors = status["actors"]
        return Overview(
            pipeline=status["name"],
            alerts=[f"{one['alert']}: {one['subject']}" for one in status["alerts"]["firing"]],
            streams=list(self._streams(actors)),
            lines=list(self._lines(actors)),
            links=list(self._links(actors)),
            hops=list(self._hops(actors)),
            recorders=list(self._recorders(actors)),
            lost=[f"{name}: {actor['state']}" for name, actor in actors.items() if actor["state"] != "alive"],
        )

    def _grown(self, value: float, *key: str) -> float:
        """Give by how much a counter has grown; a counter that fell was started anew."""
        before = self._counts.get(key, value)
        self._counts[key] = value
        return value - before if value >= before else value

    def _rate(self, value: float, *key: str) -> float:
        grown = self._grown(value, *key)
        return grown / self._elapsed_s if self._elapsed_s > 0 else 0.0

    def _recent(self, histogram: Histogram, key: str) -> Histogram:
        before = self._histograms.get(key, Histogram())
        self._histograms[key] = histogram
        return since(histogram, before)

    def _streams(self, actors: Actors) -> Iterator[StreamRow]:
        qualities = _qualities(actors)
        lines = lines_of(actors)
        for stream, by_dedup in sorted(streams_of(actors).items()):
            instrument, _, channel = stream.rpartition("/")
            venue = instrument.partition(":")[0]
            mine = [line for line in lines.values() if line["venue"] == venue]
            updates = max(counts["updates"] for counts in by_dedup.values())
            yield StreamRow(
                instrument=instrument,
                channel=channel,
                rate=self._rate(updates, "stream", stream),
                gaps=max(counts["gaps"] for counts in by_dedup.values()),
                resyncs=max(counts["resyncs"] for counts in by_dedup.values()),
                quality=qualities.get(instrument),
                lines_up=sum(line["status"]["is_up"] for line in mine),
                lines=len(mine),
            )

    def _lines(self, actors: Actors) -> Iterator[LineRow]:
        league: Mapping[str, Any] = next((a["lines"] for a in of_role(actors, "dedup").values()), {})
        wins = {name: self._grown(counts["wins"], "wins", name) for name, counts in league.items()}
        venues = {name: line["venue"] for name, line in lines_of(actors).items()}
        for name, line in sorted(lines_of(actors).items()):
            given = league.get(name, {})
            total = sum(won for other, won in wins.items() if venues.get(other) == line["venue"])
            lead = self._recent(histogram_of(given.get("lead", Histogram())), f"lead {name}")
            yield LineRow(
                line=name,
                venue=line["venue"],
                is_up=line["status"]["is_up"],
                rate=self._rate(line["counts"]["frames"], "frames", name),
                share=wins.get(name, 0.0) / total if total else 0.0,
                lead_ms=lead.quantile_ns(0.5) / MILLISECOND,
                gaps=given.get("gaps_seen", 0),
                healed=given.get("gaps_healed", 0),
                reconnects=line["status"]["reconnects"],
                reason="" if line["status"]["is_up"] else line["status"]["last_reason"],
            )

    def _links(self, actors: Actors) -> Iterator[LinkRow]:
        for name, actor in sorted(actors.items()):
            for reader, counts in sorted(actor.get("links", {}).items()):
                yield LinkRow(
                    writer=name,
                    reader=reader,
                    lane=actor.get("lanes", {}).get(reader, ""),
                    rate=self._rate(counts["messages"], "messages", name, reader),
                    bytes_rate=self._rate(counts["bytes_sent"], "bytes", name, reader),
                    behind=counts["behind"],
                    behind_max=counts["behind_max"],
                    overruns=counts["overruns"],
                )

    def _hops(self, actors: Actors) -> Iterator[HopRow]:
        for hop, histogram in hops(actors).items():
            recent = self._recent(histogram, f"hop {hop}")
            yield HopRow(hop, recent.quantile_ns(0.5) / MILLISECOND, recent.quantile_ns(0.99) / MILLISECOND)

    def _recorders(self, actors: Actors) -> Iterator[RecorderRow]:
        for name, actor in sorted(of_role(actors, "recorder").items()):
            sink = actor["sink"]
            rate = self._rate(sink["bytes_written"], "written", name)
            yield RecorderRow(name, rate, sink["bytes_pending"], actor["disk_free_bytes"], actor["problem"])


def _qualities(actors: Actors) -> dict[str, float]:
    """Give the least quality that any strategy sees of each instrument."""
    qualities: dict[str, float] = {}
    for actor in of_role(actors, "strategy").values():
        for instrument, part in actor["engine"]["instruments"].items():
            qualities[instrument] = min(part["quality"], qualities.get(instrument, 1.0))
    return qualities
