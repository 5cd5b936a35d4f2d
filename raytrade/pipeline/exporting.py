"""Metrics through `ray.util.metrics`: every node's agent shows them to Prometheus, with ``ray_`` before the name."""

from __future__ import annotations

import math
from typing import Any

from ray.util.metrics import Counter, Gauge

from raytrade.observation.metrics import METRICS, Metric, MetricKind, Sample


class Exporter:
    """Sets gauges, and moves counters by what their value has grown."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._metrics: dict[str, tuple[Metric, Any]] = {metric.name: (metric, _made(metric)) for metric in METRICS}
        self._shown: set[tuple[str, tuple[str, ...]]] = set()
        self._before: dict[tuple[str, tuple[str, ...]], float] = {}

    def export(self, samples: list[Sample]) -> None:
        """Take one set of samples. A counter that fell was started anew: all of it counts."""
        self._forget_gone({(sample.metric, sample.labels) for sample in samples})
        for sample in samples:
            metric, made = self._metrics[sample.metric]
            tags = self._tags(metric, sample.labels)
            if metric.kind is MetricKind.GAUGE:
                self._shown.add((sample.metric, sample.labels))
                made.set(sample.value, tags=tags)
                continue
            key = (sample.metric, sample.labels)
            before = self._before.get(key, 0.0)
            self._before[key] = sample.value
            grown = sample.value - before if sample.value >= before else sample.value
            if grown > 0:
                made.inc(grown, tags=tags)

    def _tags(self, metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
        return {"pipeline": self._pipeline, **dict(zip(metric.labels, labels, strict=True))}

    def _forget_gone(self, there: set[tuple[str, tuple[str, ...]]]) -> None:
        """Ray shows a gauge's last value for as long as we live: one whose subject is gone becomes NaN."""
        for name, labels in self._shown - there:
            metric, made = self._metrics[name]
            made.set(math.nan, tags=self._tags(metric, labels))
        self._shown &= there


def _made(metric: Metric) -> Any:
    labels = ("pipeline", *metric.labels)
    if metric.kind is MetricKind.GAUGE:
        return Gauge(metric.name, description=metric.help, tag_keys=labels)
    return Counter(metric.name, description=metric.help, tag_keys=labels)
