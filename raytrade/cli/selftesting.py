"""``raytrade selftest``: how may the copies of a venue's books be merged?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from raytrade.cli.output import wide_console
from raytrade.cli.progress import waiting
from raytrade.core.instrument import check_symbol
from raytrade.errors import ConfigError
from raytrade.venues import find_venue


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("selftest")(selftest)


def selftest(  # noqa: PLR0913 - options of a command
    venue: Annotated[str, typer.Argument(help="A name of `raytrade venues`.")],
    symbols: Annotated[str, typer.Option("--symbols", help="As the venue writes them, with commas; busy ones.")],
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to listen.")] = 60.0,
    sockets: Annotated[int, typer.Option(min=2, max=8, help="How many connections side by side.")] = 2,
    ws_url: Annotated[str, typer.Option("--ws-url", help="Instead of the venue's own address.")] = "",
    rest_url: Annotated[str, typer.Option("--rest-url", help="Instead of the venue's own address.")] = "",
    store: Annotated[Path | None, typer.Option("--store", help="File of verdicts; by default the user's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Listen to a venue on several sockets at once and judge how copies of its books may be merged.

    The verdicts are kept with their date. Exit status 1 where a book must be merged more carefully than this version
    does, or where too little was seen for a verdict.

    Example: raytrade selftest binance-spot --symbols BTCUSDT,ETHUSDT
    """
    from raytrade.selftest import SelfTestSettings, default_store, keep, load, run_selftest

    find_venue(venue)
    wanted = tuple(symbol for symbol in symbols.split(",") if symbol)
    if not wanted:
        raise ConfigError("selftest", "--symbols", "none given")
    for symbol in wanted:
        check_symbol(symbol)
    path = store or default_store()
    load(path)
    settings = SelfTestSettings(
        venue=venue, symbols=wanted, sockets=sockets, seconds=seconds, ws_url=ws_url, rest_url=rest_url
    )
    with waiting(f"listening for {seconds:g} s"):
        verdicts = asyncio.run(run_selftest(settings, lambda text: None if as_json else print(text, flush=True)))
    silent = [symbol for symbol in wanted if not any(one.instrument == f"{venue}:{symbol}" for one in verdicts)]
    if verdicts:
        keep(path, venue, verdicts)
    if as_json:
        print(msgspec.json.encode({"venue": venue, "verdicts": verdicts, "silent": silent}).decode())
    else:
        console = wide_console()
        table = Table("instrument", "this version", "found", "why", "messages", "same ids", "no-ops", "books equal")
        for one in verdicts:
            seen = one.evidence
            equal = f"{seen.states_equal} of {seen.states_compared}"
            row = [one.instrument, one.declared, one.found or "no verdict", one.reason, str(seen.messages)]
            table.add_row(*row, f"{seen.pairs_shared:.1%}", str(seen.no_ops), equal)
        console.print(table)
        for symbol in silent:
            print(f"{symbol}: no book came")
        print(f"kept in {path}" if verdicts else "nothing to keep")
    if silent or any(one.is_bold or not one.found for one in verdicts):
        raise typer.Exit(1)
