"""The Grafana dashboard and the Prometheus alert rules over `raytrade.observation.metrics`, as plain data.

The dashboard has the form of Ray's own ones (a ``datasource`` variable of type ``prometheus``, one file a dashboard):
it can lie in the folder that Ray provisions Grafana from. A value whose subject is gone is NaN, which no rule fits.
"""

from __future__ import annotations

from typing import Any

import msgspec

UID = "raytradePipeline"
_DATASOURCE = "${datasource}"
_ALL = 'pipeline=~"$pipeline"'


class Panel(msgspec.Struct, frozen=True):
    """One graph: queries as (expression, legend)."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


class AlertRule(msgspec.Struct, frozen=True):
    """One Prometheus rule; `lasts` is how long the expression must hold."""

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    remedy: str


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate(ray_raytrade_{metric}{{{_ALL}}}[1m]))"


def _value(metric: str, more: str = "") -> str:
    return f"ray_raytrade_{metric}{{{_ALL}{more}}}"


PANELS: tuple[Panel, ...] = (
    Panel(
        "Updates given out",
        "ops",
        ((_rate("stream_updates_total", "instrument, channel"), "{{instrument}} {{channel}}"),),
    ),
    Panel(
        "Gaps that no line filled",
        "short",
        ((_rate("stream_gaps_total", "instrument, channel"), "{{instrument}} {{channel}}"),),
    ),
    Panel("Lines up", "short", ((f"sum by (venue) ({_value('line_up')} == 1)", "{{venue}}"),)),
    Panel("First copies by line", "ops", ((_rate("line_wins_total", "line"), "{{line}}"),)),
    Panel(
        "Lead over the runner-up, median",
        "s",
        ((_value("line_lead_seconds", ',quantile="0.5"'), "{{line}} {{dedup}}"),),
    ),
    Panel(
        "Holes by line, healed by others",
        "ops",
        (
            (_rate("line_gaps_total", "line"), "{{line}} seen"),
            (_rate("line_gaps_healed_total", "line"), "{{line}} healed"),
        ),
    ),
    Panel("Latency by hop, median", "s", ((_value("hop_latency_seconds", ',quantile="0.5"'), "{{hop}}"),)),
    Panel("Latency by hop, p99", "s", ((_value("hop_latency_seconds", ',quantile="0.99"'), "{{hop}}"),)),
    Panel("Book quality", "percentunit", ((_value("book_quality_ratio"), "{{instrument}} {{strategy}}"),)),
    Panel("Received from venues", "Bps", ((_rate("line_received_bytes_total", "venue"), "{{venue}}"),)),
    Panel("Sent over links", "Bps", ((_rate("link_sent_bytes_total", "writer"), "{{writer}}"),)),
    Panel("Held in rings", "bytes", ((_value("ring_bytes"), "{{actor}}"),)),
    Panel("Recorded", "Bps", ((_rate("recorder_written_bytes_total", "recorder"), "{{recorder}}"),)),
    Panel("Free under recordings", "bytes", ((_value("recorder_disk_free_bytes"), "{{recorder}}"),)),
    Panel("Reconnects", "ops", ((_rate("line_reconnects_total", "line"), "{{line}}"),)),
    Panel("Strategies: fills", "ops", ((_rate("strategy_fills_total", "strategy"), "{{strategy}}"),)),
)

ALERT_RULES: tuple[AlertRule, ...] = (
    AlertRule(
        "RaytradeGapOnAllLines",
        "sum by (pipeline, instrument, channel) (increase(ray_raytrade_stream_gaps_total[5m])) > 0",
        "0s",
        "critical",
        "{{ $labels.instrument }} {{ $labels.channel }}: no line delivered a part of the stream",
        "raytrade events --name gap; add a collector in another network",
    ),
    AlertRule(
        "RaytradeRedundancyLow",
        "sum by (pipeline, venue) (ray_raytrade_line_up >= 0) < 2",
        "30s",
        "warning",
        "{{ $labels.venue }}: fewer than two lines are up",
        "raytrade status; raytrade doctor",
    ),
    AlertRule(
        "RaytradeRecorderFailing",
        "ray_raytrade_recorder_failing == 1",
        "10s",
        "critical",
        "{{ $labels.recorder }} cannot write",
        "raytrade status says why; make room or correct the directory",
    ),
    AlertRule(
        "RaytradeRecorderStill",
        "rate(ray_raytrade_recorder_messages_total[5m]) == 0 and on (pipeline) "
        "sum by (pipeline) (rate(ray_raytrade_stream_updates_total[5m])) > 0",
        "5m",
        "critical",
        "{{ $labels.recorder }} closes no segments although updates flow",
        "raytrade events; see the recorder's log",
    ),
    AlertRule(
        "RaytradeDiskLow",
        "ray_raytrade_recorder_disk_free_bytes < 5e9",
        "1m",
        "warning",
        "{{ $labels.recorder }}: less than 5 GB are free",
        "move older days away or record on a larger disk",
    ),
    AlertRule(
        "RaytradeStrategyStopped",
        "ray_raytrade_strategy_running == 0",
        "0s",
        "critical",
        "{{ $labels.strategy }} has stopped",
        "raytrade status shows the error; detach, correct and attach it",
    ),
    AlertRule(
        "RaytradeActorLost",
        "ray_raytrade_actor_up == 0",
        "30s",
        "critical",
        "{{ $labels.actor }} does not answer",
        "raytrade events; see whether its node is alive",
    ),
    AlertRule(
        "RaytradeSlow",
        'ray_raytrade_hop_latency_seconds{hop="socket to strategy called",quantile="0.99"} > 0.1',
        "5m",
        "warning",
        "updates reach strategies more than 100 ms after the socket",
        "raytrade status --latency shows the hop",
    ),
    AlertRule(
        "RaytradeUnwatched",
        "absent(ray_raytrade_actor_up)",
        "2m",
        "critical",
        "no pipeline reports metrics",
        "see whether the supervisor runs: raytrade status",
    ),
)


def dashboard() -> dict[str, Any]:
    """Give the dashboard as Grafana imports it."""
    return {
        "uid": UID,
        "title": "raytrade",
        "tags": ["raytrade", "ray"],
        "schemaVersion": 27,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _pipelines()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 2, "refresh": 1, "options": []}


def _pipelines() -> dict[str, Any]:
    query = "label_values(ray_raytrade_actor_up, pipeline)"
    return {
        "name": "pipeline",
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 2)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _DATASOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * column, "y": 8 * row},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["last", "max"]}},
        "targets": [
            {"expr": expr, "legendFormat": legend, "refId": chr(ord("A") + at), "interval": ""}
            for at, (expr, legend) in enumerate(panel.queries)
        ],
    }


def alert_rules() -> dict[str, Any]:
    """Give the rules file that Prometheus reads."""
    rules = [
        {
            "alert": rule.name,
            "expr": rule.expr,
            "for": rule.lasts,
            "labels": {"severity": rule.severity},
            "annotations": {"summary": rule.summary, "remedy": rule.remedy},
        }
        for rule in ALERT_RULES
    ]
    return {"groups": [{"name": "raytrade", "interval": "10s", "rules": rules}]}


def prometheus_settings(discovery: str, rules: str) -> dict[str, Any]:
    """Give a Prometheus configuration: the nodes that Ray lists in `discovery`, and the file `rules`."""
    return {
        "global": {"scrape_interval": "10s", "evaluation_interval": "10s"},
        "rule_files": [rules],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [discovery]}]}],
    }
