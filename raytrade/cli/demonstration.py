"""``raytrade demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from raytrade.cli.output import wide_console
from raytrade.cli.serving import check_page, demo_page
from raytrade.config import UI_PORT
from raytrade.errors import ConfigError
from raytrade.pipeline import environment

UPDATES = 24_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    capture: Annotated[Path | None, typer.Option(help="Serve this recording instead of a synthetic market.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the recording; else a new temporary one.")] = None,
    ui: Annotated[bool, typer.Option("--ui", help="Show it in the browser, and go on until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the page.")] = UI_PORT,
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
    if capture is not None and ui:
        raise ConfigError("demo", "--ui", "not together with --capture: a recording ends by itself")
    if ui:
        check_page("127.0.0.1", port)
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
        stays=ui,
    )
    page = (lambda address, spared: demo_page(address, port, spared)) if ui else None
    raise typer.Exit(run_demo(settings, wide_console(), page))
