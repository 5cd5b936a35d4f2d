"""``raytrade ui``."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Annotated

import typer

from raytrade.cli.pipelines import Address, Pipeline, load_driver
from raytrade.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ui")(serve_ui)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve_ui(
    pipeline: Pipeline = "",
    address: Address = "auto",
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this host's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8420,
    token: Annotated[str, typer.Option(help="What a browser must show; made up where one is needed.")] = "",
) -> None:
    """Show a running pipeline in the browser: topology, league of lines, books, latency, gaps, strategies, recorders.

    It looks at the pipeline as a consumer of its own; browsers are shown what it saw last and delay nothing.

    Example: raytrade ui --port 8420
    """
    try:
        from raytrade.web.page import serve
    except ImportError as error:
        raise ConfigError("ui", "", f"needs another package ({error.name}): pip install 'raytrade[ui]'") from None
    from raytrade.terminal.running import RunningPipeline
    from raytrade.transport.clock import SystemClock
    from raytrade.web.feed import Feed
    from raytrade.web.guard import GuardCounts

    if not _is_loopback(host) and not token:
        token = secrets.token_urlsafe(24)
    driver = load_driver()
    driver.join(address)
    source = RunningPipeline(driver, pipeline)
    source.status()
    feed = Feed(source, SystemClock())
    feed.start()
    query = f"/?token={token}" if token else "/"
    serve(feed, host, port, token, GuardCounts(), lambda: print(f"http://{host}:{port}{query}", flush=True))
