"""``raytrade demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from raytrade.cli.output import wide_console
from raytrade.errors import ConfigError
from raytrade.pipeline import environment

UPDATES = 24_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    capture: Annotated[Path | None, typer.Option(help="Serve this recording instead of a synthetic market.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the recording; else a new temporary one.")] = None,
    updates: Annotated[int, typer.Option(hidden=True, min=1000, help="Book updates in all.")] = UPDATES,
    speed: Annotated[float, typer.Option(hidden=True, min=0.1, help="Pace of the recording.")] = 1.0,
    fault: Annotated[str, typer.Option(hidden=True, help="A fault of the exchanges, as of `raytrade emulate`.")] = "",
) -> None:
    """Run the whole pipeline on this machine, kill a collector, cut a socket, and check that nothing was missed.

    With --capture the measure is an import of the same recording: every id that it finds must have reached the strategy
    and the files, once. Venues whose ids count per connection are only shown.

    Example: raytrade demo
    """
    if capture is not None and not capture.is_file():
        raise ConfigError("demo", "--capture", f"{capture}: no such file")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    environment.prepare()
    from raytrade.demo import DemoSettings, run_demo

    settings = DemoSettings(
        capture=str(capture) if capture else "",
        directory=str(out) if out else "",
        speed=speed,
        updates=updates,
        updates_min=updates * 5 // 6,
        fault=fault,
    )
    raise typer.Exit(run_demo(settings, wide_console()))
