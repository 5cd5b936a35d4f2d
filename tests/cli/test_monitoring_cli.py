"""``raytrade monitoring`` and ``raytrade config``: what other programs are given."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raytrade.observation.dashboard import ALERT_RULES, PANELS
from raytrade.observation.metrics import METRICS
from tests.cli.commands import Commands

ROOT = Path(__file__).resolve().parents[2]
NAMES = {f"ray_{metric.name}" for metric in METRICS}
LABELS = {label for metric in METRICS for label in metric.labels} | {"pipeline"}


@pytest.fixture
def written(run: Commands, tmp_path: Path) -> dict[str, Any]:
    outcome = run("monitoring", "--out", tmp_path / "out")
    assert outcome.status == 0
    paths = [Path(line) for line in outcome.out.splitlines()]
    return {path.name: yaml.safe_load(path.read_text()) for path in paths}


def test_the_dashboard_is_of_the_form_that_ray_provisions(written: dict[str, Any]) -> None:
    from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard

    mine, rays = written["raytrade_grafana_dashboard.json"], json.loads(generate_default_grafana_dashboard()[0])
    for key in ("uid", "title", "schemaVersion", "templating", "panels", "time", "annotations"):
        assert type(mine[key]) is type(rays[key]), key
    sources = [next(v for v in board["templating"]["list"] if v["name"] == "datasource") for board in (mine, rays)]
    assert sources[0]["type"] == sources[1]["type"] == "datasource"
    assert sources[0]["query"] == sources[1]["query"] == "prometheus"
    assert {panel["datasource"] for panel in mine["panels"]} == {"${datasource}"}
    assert len({panel["id"] for panel in mine["panels"]}) == len(mine["panels"]) == len(PANELS)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in mine["panels"]]
    assert len(set(places)) == len(places)


def test_only_what_is_exported_is_asked_for(written: dict[str, Any]) -> None:
    queries = [query for panel in PANELS for query, _ in panel.queries] + [rule.expr for rule in ALERT_RULES]
    legends = [legend for panel in PANELS for _, legend in panel.queries] + [rule.summary for rule in ALERT_RULES]
    for query in queries:
        asked = set(re.findall(r"ray_raytrade_\w+", query))
        assert asked
        assert asked <= NAMES
    for legend in legends:
        assert set(re.findall(r"{{ ?(?:\$labels\.)?(\w+) ?}}", legend)) <= LABELS
    rules = written["raytrade_alerts.yml"]["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [rule.name for rule in ALERT_RULES]
    assert written["prometheus.yml"]["rule_files"] == ["raytrade_alerts.yml"]


def test_a_directory_that_cannot_be_written(run: Commands) -> None:
    outcome = run("monitoring", "--out", "/proc/nothing")
    assert outcome.status == 1
    assert outcome.problem.startswith("raytrade: /proc/nothing: cannot be written: ")


def test_the_schema_takes_the_example_and_refuses_what_is_wrong(run: Commands) -> None:
    schema = json.loads(run("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    example = yaml.safe_load((ROOT / "examples" / "pipeline.yaml").read_text())
    jsonschema.validate(example, schema)
    wrong: list[dict[str, Any]] = [
        {"venues": {}},
        {"venues": {"krakn": {"symbols": ["A"]}}},
        {"venues": {"kraken-v2": {"symbols": "A"}}},
        {**example, "colectors": {}},
        {**example, "alerts": {"webhook": "mailto:me"}},
        {**example, "dedup": {"replicas": 9}},
    ]
    for data in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, schema)


def test_a_configuration_is_checked(run: Commands, tmp_path: Path) -> None:
    good = run("config", "check", ROOT / "examples" / "pipeline.yaml")
    assert (good.status, good.out.endswith("pipeline majors is well-formed\n")) == (0, True)
    bad = tmp_path / "bad.yaml"
    bad.write_text("venues: {kraken-v2: {symbols: [BTC/USD]}}\nalerts: {webhok: x}\n")
    refused = run("config", "check", bad)
    assert (refused.status, refused.problem) == (
        2,
        f"raytrade: {bad}: alerts.webhok: unknown key; did you mean webhook?",
    )
