"""``raytrade top``."""

from __future__ import annotations

import sys
from typing import Any

import typer

from raytrade.cli.pipelines import Address, Pipeline, load_driver
from raytrade.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


class _Running:
    """A running pipeline as the screen sees it; the viewer is started when a ladder is first opened."""

    def __init__(self, driver: Any, pipeline: str) -> None:
        self._driver = driver
        self._pipeline = pipeline
        self._view: Any = None

    def status(self) -> dict[str, Any]:
        return dict(self._driver.status(self._pipeline))

    def incidents(self, since: int) -> list[dict[str, Any]]:
        return list(self._driver.incidents(self._pipeline, since))

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        from raytrade.pipeline.subscription import View

        if self._view is None:
            self._view = View(self._pipeline)
        return dict(self._view.ladder(instrument, depth))

    def close(self) -> None:
        if self._view is not None:
            self._view.close()


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
    source = _Running(driver, pipeline)
    source.status()
    from raytrade.terminal.screen import TopApp
    from raytrade.transport.clock import SystemClock

    TopApp(source, SystemClock()).run()
