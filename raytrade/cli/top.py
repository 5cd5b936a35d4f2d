"""``raytrade top``."""

from __future__ import annotations

import sys

import typer

from raytrade.cli.pipelines import Address, Pipeline, load_driver
from raytrade.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


def top(pipeline: Pipeline = "", address: Address = "auto") -> None:
    """Watch a running pipeline on one screen: streams, lines, links, latency, recorders, events.

    Keys: s sorts by the next column, r turns the order round, / filters by a part of the name, Enter opens an
    instrument's ladder, q ends. Into a pipe use `raytrade status --json --watch`.

    Example: raytrade top
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top", "", "needs a terminal; into a pipe use: raytrade status --json --watch")
    driver = load_driver()
    driver.join(address)
    from raytrade.terminal.running import RunningPipeline

    source = RunningPipeline(driver, pipeline)
    source.status()
    from raytrade.terminal.screen import TopApp
    from raytrade.transport.clock import SystemClock

    TopApp(source, SystemClock()).run()
