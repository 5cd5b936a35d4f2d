"""``raytrade ui``."""

from __future__ import annotations

from typing import Annotated

import typer

from raytrade.cli.pipelines import Address, Pipeline, load_driver
from raytrade.cli.serving import check_page, serve_page
from raytrade.config import UI_PORT


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ui")(serve_ui)


def serve_ui(
    pipeline: Pipeline = "",
    address: Address = "auto",
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this host's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = UI_PORT,
    token: Annotated[str, typer.Option(help="What a browser must show; made up where one is needed.")] = "",
) -> None:
    """Show a running pipeline in the browser: topology, league of lines, books, latency, gaps, strategies, recorders.

    It looks at the pipeline as a consumer of its own; browsers are shown what it saw last and delay nothing.

    Example: raytrade ui --port 8420
    """
    check_page(host, port)
    driver = load_driver()
    driver.join(address)
    serve_page(driver, pipeline, host, port, token)
