"""Metrics of a pipeline by Prometheus' conventions, from its status: names, units, help, labels, values.

Ray puts ``ray_`` before every name. Counters end in ``_total``; times are in seconds, sizes in bytes. Counters start
anew with an actor's process, as Prometheus expects; what has not changed is exported all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from raytrade.core.clock import SECOND
from raytrade.core.metrics import Histogram
from raytrade.observation.status import ALIVE, Actors, Status, histogram_of, hops, lines_of, of_role, since, streams_of

QUANTILES = (0.5, 0.99)


class MetricKind(StrEnum):
    """How a value moves."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Metric(msgspec.Struct, frozen=True):
    """One family; `labels` stand beside ``pipeline``, which all have."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()


class Sample(msgspec.Struct, frozen=True):
    """One value of a family, `labels` in the family's order."""

    metric: str
    labels: tuple[str, ...]
    value: float


_COUNTER, _GAUGE = MetricKind.COUNTER, MetricKind.GAUGE
_LINE, _STREAM, _LINK = ("line", "venue"), ("dedup", "instrument", "channel"), ("writer", "reader")

METRICS: tuple[Metric, ...] = (
    Metric("raytrade_actor_up", _GAUGE, "1 if the actor answers", ("actor",)),
    Metric("raytrade_line_up", _GAUGE, "1 if the line's connection is open", _LINE),
    Metric("raytrade_line_frames_total", _COUNTER, "Frames read off the socket", _LINE),
    Metric("raytrade_line_received_bytes_total", _COUNTER, "Bytes of the frames read", _LINE),
    Metric("raytrade_line_undecodable_total", _COUNTER, "Frames that the venue's documents do not allow", _LINE),
    Metric("raytrade_line_reconnects_total", _COUNTER, "Connections lost", _LINE),
    Metric("raytrade_line_wins_total", _COUNTER, "First copies that the line gave", ("dedup", "line")),
    Metric("raytrade_line_duplicates_total", _COUNTER, "Later copies", ("dedup", "line")),
    Metric("raytrade_line_gaps_total", _COUNTER, "Holes in the line's own numbering", ("dedup", "line")),
    Metric("raytrade_line_gaps_healed_total", _COUNTER, "Such holes that other lines filled", ("dedup", "line")),
    Metric(
        "raytrade_line_lead_seconds",
        _GAUGE,
        "Lead over the runner-up since the last sample",
        ("dedup", "line", "quantile"),
    ),
    Metric("raytrade_stream_updates_total", _COUNTER, "Updates given to consumers", _STREAM),
    Metric("raytrade_stream_gaps_total", _COUNTER, "Gaps that no line filled", _STREAM),
    Metric("raytrade_stream_resyncs_total", _COUNTER, "Returns to a whole book", _STREAM),
    Metric("raytrade_stream_checksum_failures_total", _COUNTER, "Checksums that did not fit", _STREAM),
    Metric("raytrade_book_quality_ratio", _GAUGE, "0 unusable to 1 fully redundant", ("strategy", "instrument")),
    Metric("raytrade_link_up", _GAUGE, "1 if the reader hears the writer", _LINK),
    Metric("raytrade_link_sent_bytes_total", _COUNTER, "Bytes sent over the link", _LINK),
    Metric("raytrade_link_messages_total", _COUNTER, "Messages sent over the link", _LINK),
    Metric("raytrade_link_overruns_total", _COUNTER, "Times that the ring has passed the reader", _LINK),
    Metric("raytrade_ring_bytes", _GAUGE, "Bytes held for readers", ("actor",)),
    Metric("raytrade_hop_latency_seconds", _GAUGE, "Latency by hop since the last sample", ("hop", "quantile")),
    Metric("raytrade_recorder_written_bytes_total", _COUNTER, "Bytes in complete segments", ("recorder",)),
    Metric("raytrade_recorder_messages_total", _COUNTER, "Messages in complete segments", ("recorder",)),
    Metric("raytrade_recorder_pending_bytes", _GAUGE, "Bytes not yet in a segment", ("recorder",)),
    Metric("raytrade_recorder_failing", _GAUGE, "1 if the last write failed", ("recorder",)),
    Metric("raytrade_recorder_disk_free_bytes", _GAUGE, "Free space under the recording", ("recorder",)),
    Metric("raytrade_strategy_running", _GAUGE, "1 until the strategy fails or ends", ("strategy",)),
    Metric("raytrade_strategy_fills_total", _COUNTER, "Fills of the strategy's orders", ("strategy",)),
    Metric("raytrade_strategy_rejections_total", _COUNTER, "Orders refused", ("strategy",)),
    Metric("raytrade_strategy_errors_total", _COUNTER, "Exceptions out of the strategy", ("strategy",)),
)


class Sampler:
    """Turns one status after the other into samples; latencies and leads are those since the one before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], Histogram] = {}

    def samples(self, status: Status) -> list[Sample]:
        """Give the values of all metrics."""
        actors: Actors = status["actors"]
        return [
            *(Sample("raytrade_actor_up", (name,), float(a["state"] == ALIVE)) for name, a in actors.items()),
            *_line_samples(actors),
            *self._league_samples(actors),
            *_stream_samples(actors),
            *_link_samples(actors),
            *self._hop_samples(actors),
            *_recorder_samples(actors),
            *_strategy_samples(actors),
        ]

    def _since(self, key: tuple[str, ...], histogram: Histogram) -> Histogram:
        before = self._before.get(key)
        self._before[key] = histogram
        return histogram if before is None else since(histogram, before)

    def _quantiles(self, metric: str, labels: tuple[str, ...], histogram: Histogram) -> Iterator[Sample]:
        recent = self._since((metric, *labels), histogram)
        for quantile in QUANTILES if recent.total else ():
            yield Sample(metric, (*labels, str(quantile)), recent.quantile_ns(quantile) / SECOND)

    def _hop_samples(self, actors: Actors) -> Iterator[Sample]:
        for hop, histogram in hops(actors).items():
            yield from self._quantiles("raytrade_hop_latency_seconds", (hop,), histogram)

    def _league_samples(self, actors: Actors) -> Iterator[Sample]:
        figures = {"wins": "wins", "duplicates": "duplicates", "gaps_seen": "gaps", "gaps_healed": "gaps_healed"}
        for dedup, actor in of_role(actors, "dedup").items():
            for line, counts in actor["lines"].items():
                for figure, name in figures.items():
                    yield Sample(f"raytrade_line_{name}_total", (dedup, line), counts[figure])
                yield from self._quantiles("raytrade_line_lead_seconds", (dedup, line), histogram_of(counts["lead"]))


def _line_samples(actors: Actors) -> Iterator[Sample]:
    for name, line in lines_of(actors).items():
        labels, counts = (name, line["venue"]), line["counts"]
        yield Sample("raytrade_line_up", labels, float(line["status"]["is_up"]))
        yield Sample("raytrade_line_frames_total", labels, counts["frames"])
        yield Sample("raytrade_line_received_bytes_total", labels, counts["frames_bytes"])
        yield Sample("raytrade_line_undecodable_total", labels, counts["undecodable"])
        yield Sample("raytrade_line_reconnects_total", labels, line["status"]["reconnects"])


def _stream_samples(actors: Actors) -> Iterator[Sample]:
    for stream, by_dedup in streams_of(actors).items():
        instrument, _, channel = stream.rpartition("/")
        for dedup, counts in by_dedup.items():
            labels = (dedup, instrument, channel)
            yield Sample("raytrade_stream_updates_total", labels, counts["updates"])
            yield Sample("raytrade_stream_gaps_total", labels, counts["gaps"])
            yield Sample("raytrade_stream_resyncs_total", labels, counts["resyncs"])
            yield Sample("raytrade_stream_checksum_failures_total", labels, counts["checksums_failed"])


def _link_samples(actors: Actors) -> Iterator[Sample]:
    for name, actor in actors.items():
        for reader, counts in actor.get("links", {}).items():
            yield Sample("raytrade_link_sent_bytes_total", (name, reader), counts["bytes_sent"])
            yield Sample("raytrade_link_messages_total", (name, reader), counts["messages"])
            yield Sample("raytrade_link_overruns_total", (name, reader), counts["overruns"])
        for writer in actor.get("upstreams", {}):
            yield Sample("raytrade_link_up", (writer, name), float(writer in actor["up"]))
        if "ring_bytes" in actor:
            yield Sample("raytrade_ring_bytes", (name,), actor["ring_bytes"])


def _recorder_samples(actors: Actors) -> Iterator[Sample]:
    for name, actor in of_role(actors, "recorder").items():
        sink = actor["sink"]
        yield Sample("raytrade_recorder_written_bytes_total", (name,), sink["bytes_written"])
        yield Sample("raytrade_recorder_messages_total", (name,), sink["messages"])
        yield Sample("raytrade_recorder_pending_bytes", (name,), sink["bytes_pending"])
        yield Sample("raytrade_recorder_failing", (name,), float(bool(actor["problem"])))
        yield Sample("raytrade_recorder_disk_free_bytes", (name,), actor["disk_free_bytes"])


def _strategy_samples(actors: Actors) -> Iterator[Sample]:
    for name, actor in of_role(actors, "strategy").items():
        engine: dict[str, Any] = actor["engine"]
        yield Sample("raytrade_strategy_running", (name,), float(engine["running"]))
        yield Sample("raytrade_strategy_fills_total", (name,), engine["fills"])
        yield Sample("raytrade_strategy_rejections_total", (name,), engine["rejections"])
        yield Sample("raytrade_strategy_errors_total", (name,), engine["strategy_errors"])
        for instrument, part in engine["instruments"].items():
            yield Sample("raytrade_book_quality_ratio", (name, instrument), part["quality"])
