"""``raytrade plan``, ``drain``, ``undrain`` and ``upgrade``: who runs where, and moving it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
import yaml
from rich.table import Table

from raytrade.cli.output import wide_console
from raytrade.cli.pipelines import Address, AllowDegraded, AsJson, Pipeline, load_driver
from raytrade.config import Config, load_config
from raytrade.errors import ConfigError

if TYPE_CHECKING:
    from raytrade.pipeline.planning import Node, Plan

NODES_MAX = 1000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("plan")(show_plan)
    app.command("drain")(drain)
    app.command("undrain")(undrain)
    app.command("upgrade")(upgrade)


def show_plan(
    config_path: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml")],
    nodes: Annotated[
        str, typer.Option("--nodes", help="Nodes to suppose: a number, a YAML list of them, or a cluster.yaml.")
    ] = "",
    address: Address = "auto",
    as_json: AsJson = False,
    allow_degraded: AllowDegraded = False,
) -> None:
    """Show who would run where and why, before anything starts: on the nodes of the cluster here, or on supposed ones.

    A YAML list names nodes by their labels: [{name: a, labels: {collector: "yes", zone: eu-1}}, ...].

    Example: raytrade plan examples/pipeline.yaml --nodes cluster.yaml
    """
    config = load_config(config_path)
    driver = load_driver()
    from raytrade.pipeline.planning import plan_what_fits

    if nodes:
        there = supposed_nodes(nodes, config, driver)
    else:
        driver.join(address)
        there = driver.live_nodes()
    plan = plan_what_fits(config, there)
    if as_json:
        print(msgspec.json.encode(_description(config, plan)).decode())
    else:
        _print_plan(config, plan)
    problems = [*plan.problems, *([] if allow_degraded else plan.degraded)]
    if allow_degraded and not as_json:
        for problem in plan.degraded:
            print(f"degraded: {problem}")
    for problem in problems:
        print(f"raytrade: {config_path}: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(2)


def supposed_nodes(text: str, config: Config, driver: Any) -> list[Node]:
    """Give so many nodes with every label that the configuration asks for, or those of a file.

    Raises:
        ConfigError: neither a number nor a readable file of nodes.
    """
    from raytrade.pipeline.planning import Node

    if text.isdigit():
        if not 1 <= int(text) <= NODES_MAX:
            raise ConfigError("plan", "--nodes", f"must be 1 to {NODES_MAX}")
        labels = driver.all_labels(config)
        apart = [
            {config.failure_domain: f"domain-{at + 1}"} if config.failure_domain else {} for at in range(int(text))
        ]
        return [Node(f"{at + 1:012d}", labels | own, f"node-{at + 1}") for at, own in enumerate(apart)]
    try:
        found = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "not YAML"
        raise ConfigError("plan", f"--nodes {text}", problem) from None
    if isinstance(found, dict) and isinstance(found.get("available_node_types"), dict):
        found = [
            {"name": f"{kind}-{number + 1}", "labels": part.get("labels") or {}}
            for kind, part in found["available_node_types"].items()
            for number in range(1 if kind == found.get("head_node_type") else part.get("min_workers", 0))
        ]
    try:
        parts = msgspec.convert(found, list[_SupposedNode])
    except msgspec.ValidationError as error:
        raise ConfigError("plan", f"--nodes {text}", f"no list of nodes: {error}") from None
    return [Node(f"{at + 1:012d}", part.labels, part.name or f"node-{at + 1}") for at, part in enumerate(parts)]


class _SupposedNode(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    labels: dict[str, str] = {}


def _description(config: Config, plan: Plan) -> dict[str, Any]:
    return {
        "name": config.name,
        "actors": [
            {
                "name": placement.plan.name,
                "node": placement.node.node_id,
                "node_name": placement.node.name,
                "labels": placement.node.labels,
                "why": placement.why,
                "lines": [
                    {"name": line.name, "symbols": [one.symbol for one in line.endpoint.subscriptions]}
                    for line in getattr(placement.plan, "lines", [])
                ],
            }
            for placement in plan.placements
        ],
        "problems": [str(problem) for problem in plan.problems],
        "degraded": [str(problem) for problem in plan.degraded],
    }


def _print_plan(config: Config, plan: Plan) -> None:
    console = wide_console()
    table = Table("actor", "node", "failure domain", "lines", "why", title=f"pipeline {config.name}", show_lines=True)
    for placement in plan.placements:
        node = placement.node
        lines = [
            f"{line.name.partition('/')[2]}: {', '.join(one.symbol for one in line.endpoint.subscriptions)}"
            for line in getattr(placement.plan, "lines", [])
        ]
        domain = node.domain(config.failure_domain) if config.failure_domain else "each node"
        table.add_row(placement.plan.name, node.name or node.node_id[:12], domain, "\n".join(lines), placement.why)
    console.print(table)


def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Beginning of its id, its name or its address.")],
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Move everything off a node before it goes: what takes its place is up before anything stops. No line is lost.

    Nothing is placed there again until `raytrade undrain`. A recorder's files stay on its host.

    Example: raytrade drain 10.0.0.7
    """
    driver = load_driver()
    driver.join(address)
    found = driver.drain(pipeline, node, lambda text: print(text, flush=True))
    print(f"node {found.node_id[:12]} is drained: nothing runs there")


def undrain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Beginning of its id, its name or its address.")],
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Let a drained node have its share again.

    Example: raytrade undrain 10.0.0.7
    """
    driver = load_driver()
    driver.join(address)
    found, was_drained = driver.undrain(pipeline, node)
    print(f"node {found.node_id[:12]} {'gets its share again' if was_drained else 'was not drained'}")


def upgrade(
    code: Annotated[
        Path | None, typer.Option("--code", metavar="DIR", help="Where the new version lies, on every node.")
    ] = None,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Have a running pipeline take new code, one failure domain at a time; no update is missed.

    First install it on every node: in place of the old (`ray up --no-restart`, then no option), or beside it with
    `pip install --target DIR`. Its messages must have the schema of those that run. Strategies keep their accounts.

    Example: raytrade upgrade --code /opt/raytrade/next
    """
    folder = code.resolve() if code else None
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(
                "upgrade", f"--code {code}", "no such folder here: the new version must lie on every node"
            )
        os.chdir(folder)  # Ray puts a driver's own folder before all others in the actors that it starts
    driver = load_driver()
    driver.join(address)
    from raytrade.pipeline.upgrading import upgrade as roll

    found = roll(pipeline, str(folder or ""), lambda text: print(text, flush=True))
    print(f"every actor runs raytrade {found.version} of {found.folder}")
