"""``raytrade venues``: the table of venues."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from raytrade.cli.output import wide_console
from raytrade.venues import VENUES
from raytrade.venues.protocol import Limits, VenueSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("venues")(show_venues)


def show_venues(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Print every venue: channels, merge class, integrity test, limits.

    Example: raytrade venues --json
    """
    if as_json:
        print(msgspec.json.encode({name: _description(spec) for name, spec in VENUES.items()}).decode())
        return
    console = wide_console()
    table = Table(title="Venues", show_lines=True)
    for heading in ("venue", "channel", "merge class", "integrity test", "book from", "limits"):
        table.add_column(heading, overflow="fold")
    for name, spec in VENUES.items():
        for place, (channel, part) in enumerate(spec.channels.items()):
            first = place == 0
            table.add_row(
                f"{name}\n{spec.title}" if first else "",
                f"{channel.name.lower()}\n{part.name}",
                part.merge.value,
                part.integrity,
                part.snapshot,
                "\n".join([*limit_texts(spec.limits), *([spec.note] if spec.note else [])]) if first else "",
            )
    console.print(table)


def _description(spec: VenueSpec) -> dict[str, object]:
    return {
        "title": spec.title,
        "ws_url": spec.ws_url,
        "rest_url": spec.rest_url,
        "channels": {channel.name.lower(): part for channel, part in spec.channels.items()},
        "limits": spec.limits,
        "note": spec.note,
    }


def limit_texts(limits: Limits) -> list[str]:
    """Give the stated limits in words."""
    texts = []
    if limits.streams_per_connection_max:
        texts.append(f"{limits.streams_per_connection_max} streams a connection")
    if limits.connections_per_window_max:
        texts.append(f"{limits.connections_per_window_max} connections in {limits.connection_window_s} s")
    if limits.connection_life_s:
        texts.append(f"cut after {limits.connection_life_s // 3600} h")
    if limits.weight_per_minute_max:
        texts.append(f"book costs {limits.snapshot_weight} of {limits.weight_per_minute_max} weight a minute")
    return texts
