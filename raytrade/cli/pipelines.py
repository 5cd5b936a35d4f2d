"""``raytrade run``, ``attach``, ``detach`` and ``stop``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from raytrade.cli.serving import check_page, page_of
from raytrade.config import Config, StrategyConfig, load_config
from raytrade.errors import ConfigError, PipelineError

Pipeline = Annotated[str, typer.Option("--pipeline", help="Name of the pipeline, if more than one runs.")]
Address = Annotated[str, typer.Option("--address", help="Ray cluster to join.")]
AllowDegraded = Annotated[
    bool, typer.Option("--allow-degraded", help="Accept too few failure domains for the redundancy asked.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("attach")(attach)
    app.command("detach")(detach)
    app.command("stop")(stop)


def run(
    config_path: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml")],
    address: Annotated[str, typer.Option("--address", help="Ray cluster to join; 'local' starts one here.")] = "",
    seconds: Annotated[float, typer.Option(help="Where it stays: end after this time; 0: at Ctrl-C.")] = 0.0,
    allow_degraded: AllowDegraded = False,
) -> None:
    """Run a pipeline: join the Ray cluster that runs here, or start a local Ray.

    On a joined cluster the pipeline is started and this command ends; where it runs already, what is different in
    the file is changed, and nothing else is touched. On a Ray of its own it stays, and at Ctrl-C drains and stops the
    pipeline and leaves complete files. With `ui` in the file it stays in either case and serves the page.

    Example: raytrade run examples/pipeline.yaml
    """
    from raytrade.selftest import default_store, refuse_bold

    config = load_config(config_path)
    try:
        refuse_bold(config, default_store())
    except ConfigError as error:
        raise ConfigError(str(config_path), error.key, error.problem) from None
    site = config.page()
    if site is not None:
        check_page(site.host, site.port)
    driver = load_driver()
    is_ours = _connect(config, address, driver)
    try:
        started = driver.start(config, allow_degraded, lambda text: print(text, flush=True))
    except ConfigError as error:
        raise ConfigError(error.path or str(config_path), error.key, error.problem) from None
    how = " (changed)" if started.changes else " (as before)" if started.was_running else ""
    print(f"pipeline {config.name}: {len(started.names)} actors up{how}: {', '.join(started.names)}", flush=True)
    if site is not None:
        with page_of(driver.cluster_address(), config.name, site.host, site.port) as page:
            print(f"page at {page}", flush=True)
            _wait(seconds)
    elif is_ours:
        _wait(seconds)
    if is_ours:
        print("draining", flush=True)
        _report(driver.stop(config.name))


def load_driver() -> Any:
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
    driver = load_driver()
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
    driver = load_driver()
    driver.join(address)
    print(f"detached {driver.detach(pipeline, name)}")


def stop(pipeline: Pipeline = "", address: Address = "auto") -> None:
    """Drain and stop a running pipeline; the recorders' files are complete.

    Example: raytrade stop
    """
    driver = load_driver()
    driver.join(address)
    _report(driver.stop(pipeline))
