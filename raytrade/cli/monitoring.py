"""``raytrade monitoring`` and ``raytrade config schema``: files for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from raytrade.errors import StorageError
from raytrade.observation.dashboard import alert_rules, dashboard, prometheus_settings

DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"
RULES, DASHBOARD, SETTINGS = "raytrade_alerts.yml", "raytrade_grafana_dashboard.json", "prometheus.yml"

config_app = typer.Typer(help="About the configuration file.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("monitoring")(write_monitoring)
    config_app.command("schema")(print_schema)
    config_app.command("check")(check)
    app.add_typer(config_app, name="config")


def write_monitoring(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files are written.")],
    discovery: Annotated[str, typer.Option(help="Where Ray lists its nodes for Prometheus.")] = DISCOVERY,
) -> None:
    """Write the Grafana dashboard, the Prometheus alert rules, and a Prometheus configuration for a Ray cluster.

    The dashboard may be copied into the folder that Ray provisions Grafana from
    (/tmp/ray/session_latest/metrics/grafana/dashboards).

    Example: raytrade monitoring --out monitoring
    """
    settings = prometheus_settings(discovery, RULES)
    texts = {
        DASHBOARD: json.dumps(dashboard(), indent=2) + "\n",
        RULES: yaml.safe_dump(alert_rules(), sort_keys=False, width=1000),
        SETTINGS: yaml.safe_dump(settings, sort_keys=False),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(str(out), f"cannot be written: {error.strerror or error}") from None
    print("\n".join(str(out / name) for name in texts))


def print_schema() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    In the file's first line: # yaml-language-server: $schema=raytrade.schema.json

    Example: raytrade config schema > raytrade.schema.json
    """
    from raytrade.config import config_schema

    print(json.dumps(config_schema(), indent=2))


def check(config_path: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml")]) -> None:
    """Check a configuration file, starting nothing.

    Example: raytrade config check examples/pipeline.yaml
    """
    from raytrade.config import load_config

    config = load_config(config_path)
    print(f"{config_path}: pipeline {config.name} is well-formed")
