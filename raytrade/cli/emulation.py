"""``raytrade emulate``: a venue's websocket and REST protocol on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raytrade.emulator import GRAMMAR, EmulatorSettings, serve
from raytrade.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("emulate")(emulate)


def emulate(  # noqa: PLR0913 - one parameter per option
    venue: Annotated[str, typer.Option(help="Wire format of the synthetic market.")] = "binance-spot",
    symbols: Annotated[str, typer.Option(help="Symbols as the venue writes them, with commas between.")] = "BTCUSDT",
    capture: Annotated[Path | None, typer.Option(help="Serve this recording instead of a market.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other hosts reach it only if you say so.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 0,
    rate: Annotated[float, typer.Option(help="Updates per second and symbol; 0: as fast as taken.")] = 100.0,
    updates: Annotated[int, typer.Option(help="Updates in all; 0: without end.")] = 0,
    levels: Annotated[int, typer.Option(help="Levels per update.")] = 8,
    depth: Annotated[int, typer.Option(help="Levels a side at the start.")] = 100,
    burst: Annotated[str, typer.Option(help="N@Ts: N updates at once at T seconds.")] = "",
    skew_windows: Annotated[int, typer.Option(help="Steps joined at most, differently per connection.")] = 1,
    speed: Annotated[float, typer.Option(help="Pace of a capture; 0: as fast as taken.")] = 1.0,
    clients: Annotated[int, typer.Option(help="Start when this many clients are subscribed.")] = 1,
    fault: Annotated[list[str] | None, typer.Option(help=GRAMMAR)] = None,
    seed: Annotated[int, typer.Option(help="Seed of market and faults.")] = 1,
    seconds: Annotated[float, typer.Option(help="End after this time; 0: do not.")] = 0.0,
    journal: Annotated[Path | None, typer.Option(help="Write what was truly sent to this file.")] = None,
) -> None:
    """Serve a venue's own protocol, from a recording or from a seeded synthetic market, with faults on order.

    Example: raytrade emulate --venue hitbtc-v2 --symbols ETHBTC --rate 500 --fault "conn=1:drop=0.01"
    """
    try:
        settings = EmulatorSettings(
            venue="" if capture else venue,
            symbols=() if capture else tuple(symbol for symbol in symbols.split(",") if symbol),
            capture=str(capture) if capture else "",
            host=host,
            port=port,
            rate=rate,
            updates=updates,
            levels=levels,
            depth=depth,
            burst=burst,
            skew_windows=skew_windows,
            speed=speed,
            clients=clients,
            faults=tuple(fault or ()),
            seed=seed,
            seconds=seconds,
            journal=str(journal) if journal else "",
        )
    except ConfigError as error:
        option = f"--{error.key.replace('_', '-')}".replace("--faults", "--fault")
        raise ConfigError("emulate", option, error.problem) from None
    raise typer.Exit(serve(settings))
