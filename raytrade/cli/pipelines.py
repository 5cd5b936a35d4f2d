"""``raytrade run``, ``status``, ``attach``, ``detach`` and ``stop``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml
from pydantic import ValidationError
from rich.table import Table

from raytrade.cli.latency import latency_table
from raytrade.cli.output import wide_console
from raytrade.config import Config, StrategyConfig, load_config
from raytrade.errors import ConfigError, PipelineError

Pipeline = Annotated[str, typer.Option("--pipeline", help="Name of the pipeline, if more than one runs.")]
Address = Annotated[str, typer.Option("--address", help="Ray cluster to join.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("status")(show_status)
    app.command("attach")(attach)
    app.command("detach")(detach)
    app.command("stop")(stop)


def run(
    config_path: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml")],
    address: Annotated[str, typer.Option("--address", help="Ray cluster to join; 'local' starts one here.")] = "",
    seconds: Annotated[float, typer.Option(help="On a local Ray: stop after this time; 0: at Ctrl-C.")] = 0.0,
) -> None:
    """Run a pipeline: join the Ray cluster that runs here, or start a local Ray.

    On a joined cluster the pipeline is started and this command ends. On a Ray of its own it stays, and at Ctrl-C
    drains and stops the pipeline and leaves complete files.

    Example: raytrade run examples/pipeline.yaml
    """
    driver = _driver()
    config = load_config(config_path)
    is_ours = _connect(config, address, driver)
    try:
        names = driver.start(config)
    except ConfigError as error:
        raise ConfigError(error.path or str(config_path), error.key, error.problem) from None
    print(f"pipeline {config.name}: {len(names)} actors up: {', '.join(names)}", flush=True)
    if is_ours:
        _wait(seconds)
        print("draining", flush=True)
        _report(driver.stop(config.name))


def _driver() -> Any:
    """Import the driver, and Ray with it, once the environment is as Ray must find it."""
    from raytrade.pipeline import environment

    environment.prepare()
    from raytrade.pipeline import driver

    return driver


def _connect(config: Config, address: str, driver: Any) -> bool:
    """Join a cluster or start one; tells whether it is ours."""
    if address != "local":
        try:
            driver.join(address or "auto")
            return False
        except PipelineError:
            if address:
                raise
    driver.start_local(config)
    return True


def _wait(seconds: float) -> None:
    """Wait for Ctrl-C, SIGTERM or the given time."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait(seconds or None)


def _report(problems: list[str]) -> None:
    for problem in problems:
        print(f"raytrade: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print("stopped, files are complete", flush=True)


def show_status(
    pipeline: Pipeline = "",
    address: Address = "auto",
    as_json: AsJson = False,
    latency: Annotated[bool, typer.Option("--latency", help="Show where an update's time goes.")] = False,
) -> None:
    """Show every actor of a running pipeline: lines, streams, links, files.

    Example: raytrade status --json
    """
    driver = _driver()
    driver.join(address)
    found = driver.status(pipeline)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    console = wide_console()
    if latency:
        console.print(latency_table(found["actors"]))
        return
    console.print(f"pipeline {found['name']}")
    console.print(actor_table(found["actors"]))
    console.print(line_table(found["actors"]))
    for problem in found["problems"]:
        console.print(f"problem: {problem}", style="red")


def actor_table(actors: dict[str, dict[str, Any]]) -> Table:
    """Show one row per actor."""
    table = Table("actor", "node", "state", "pid", "links up", "lane", "remarks")
    for name, actor in sorted(actors.items()):
        remarks = [*actor.get("problems", {}).values(), *filter(None, [actor.get("problem")])]
        remarks += [f"{reader}: too slow, {count} times" for reader, count in actor.get("slow", {}).items()]
        if actor.get("spill", {}).get("disk_bytes"):
            remarks.append(f"{actor['spill']['disk_bytes'] // 1_000_000} MB wait on disk")
        for line in actor.get("lines", {}).values():
            remarks += [f"{symbol}: {reason}" for symbol, reason in line["status"]["refused"].items()]
        lanes = sorted(set(actor.get("lanes", {}).values()))
        up = actor.get("up", actor.get("links", {}))
        row = [name, actor["node"][:8], actor["state"], str(actor.get("pid", "")), str(len(up)), " ".join(lanes)]
        table.add_row(*row, "\n".join(remarks))
    return table


def line_table(actors: dict[str, dict[str, Any]]) -> Table:
    """Show one row per line, with what it gave to the first dedup that answers."""
    table = Table("line", "up", "frames", "undecodable", "reconnects", "wins", "duplicates", "gaps seen", "healed")
    dedups = [a for a in actors.values() if a.get("role") == "dedup"]
    for actor in actors.values():
        for name, line in actor.get("lines", {}).items() if actor.get("role") == "collector" else ():
            given: dict[str, Any] = next((d["lines"][name] for d in dedups if name in d["lines"]), {})
            row = [name, "yes" if line["status"]["is_up"] else line["status"]["last_reason"] or "no"]
            row += [str(line["counts"][key]) for key in ("frames", "undecodable")] + [str(line["status"]["reconnects"])]
            row += [str(given.get(key, "")) for key in ("wins", "duplicates", "gaps_seen", "gaps_healed")]
            table.add_row(*row)
    return table


def attach(
    strategy: Annotated[str, typer.Argument(metavar="STRATEGY", help="strategy.py:Class or module:Class")],
    name: Annotated[str, typer.Option(help="Its name; by default the class's.")] = "",
    subscribe: Annotated[list[str] | None, typer.Option(help="Globs of the streams it gets.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value, repeatedly.")] = None,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Add a strategy to a running pipeline; nothing that runs is touched.

    Example: raytrade attach mine.py:Momentum --subscribe "binance-*:BTC*" --param window=20
    """
    driver = _driver()
    path, _, class_name = strategy.rpartition(":")
    if path.endswith(".py"):
        strategy = f"{Path(path).resolve()}:{class_name}"
    try:
        part = StrategyConfig(
            name=name or class_name.lower(),
            strategy=strategy,
            params=dict(_parameter(text) for text in param or ()),
            subscribe=subscribe or ["*"],
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError("attach", str(first["loc"][0]), first["msg"]) from None
    driver.join(address)
    print(f"attached {driver.attach(pipeline, part)}")


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("attach", "--param", f"{text!r} is not name=value")
    return name, yaml.safe_load(value)


def detach(
    name: Annotated[str, typer.Argument(help="The strategy's name.")],
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Stop and remove a strategy of a running pipeline; nothing else is touched.

    Example: raytrade detach momentum
    """
    driver = _driver()
    driver.join(address)
    print(f"detached {driver.detach(pipeline, name)}")


def stop(pipeline: Pipeline = "", address: Address = "auto") -> None:
    """Drain and stop a running pipeline; the recorders' files are complete.

    Example: raytrade stop
    """
    driver = _driver()
    driver.join(address)
    _report(driver.stop(pipeline))
