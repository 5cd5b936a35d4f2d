"""Metrics: conventional names, every family filled, counters and quantiles right."""

from __future__ import annotations

import pytest

from raytrade.core.clock import MILLISECOND
from raytrade.core.metrics import Histogram
from raytrade.observation.metrics import METRICS, Metric, MetricKind, Sampler
from raytrade.observation.status import since
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy

UNITS = ("_seconds", "_bytes", "_ratio", "_total")
STATES = ("_up", "_running", "_failing")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert metric.name.startswith("raytrade_")
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert metric.name.endswith(UNITS + STATES)
    assert not any(word in metric.name for word in ("_ns", "_ms", "_mb", "_count"))
    assert metric.help
    assert metric.help[0].isupper() or metric.help[0].isdigit()


def test_every_sample_belongs_to_a_family() -> None:
    lead = Histogram()
    lead.record(3 * MILLISECOND)
    labels = {metric.name: len(metric.labels) for metric in METRICS}
    samples = Sampler().samples(status(c=collector(), d=dedup(lead=lead), r=recorder(), s=strategy()))
    assert all(len(sample.labels) == labels[sample.metric] for sample in samples)
    silent = {"raytrade_hop_latency_seconds", "raytrade_book_quality_ratio"}
    assert {sample.metric for sample in samples} == set(labels) - silent


def test_values() -> None:
    samples = Sampler().samples(status(c=collector(), d=dedup(), r=recorder(), s=strategy()))
    values = {(sample.metric, *sample.labels): sample.value for sample in samples}
    assert values["raytrade_line_received_bytes_total", "c/kraken-v2", "kraken-v2"] == 700
    assert values["raytrade_recorder_written_bytes_total", "r"] == 100
    assert values["raytrade_strategy_fills_total", "s"] == 3
    assert values["raytrade_link_up", "c", "d"] == 1


def test_quantiles_are_those_since_the_last_sample() -> None:
    sampler, lead = Sampler(), Histogram()
    lead.record(1 * MILLISECOND)
    sampler.samples(status(d=dedup(lead=Histogram(dict(lead.counts), lead.total, lead.max_ns))))
    for _ in range(5):
        lead.record(64 * MILLISECOND)
    samples = sampler.samples(status(d=dedup(lead=lead)))
    leads = [sample.value for sample in samples if sample.metric == "raytrade_line_lead_seconds"]
    assert leads == [pytest.approx(0.064, rel=0.13)] * 2


def test_records_that_began_anew_count_as_they_are() -> None:
    old, new = Histogram(), Histogram()
    for duration in (5, 6, 7):
        old.record(duration)
    new.record(5)
    assert since(new, old) == new
    assert since(old, new).total == 2
