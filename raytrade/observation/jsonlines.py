"""One event of the stream as plain data for a line of JSON: names as in `raytrade.core.events`, exact decimal text."""

from __future__ import annotations

from typing import Any

from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Digest,
    Event,
    Flag,
    Gap,
    Held,
    Levels,
    LineDown,
    LineUp,
    Resynced,
    Stalled,
    Trade,
)
from raytrade.core.prices import format_decimal


def fields_of(event: Event, line: str) -> dict[str, Any]:
    """Give an event as JSON shows it; `line` is where the copy came from."""
    match event:
        case BookSnapshot() | BookDelta():
            return _book(event, line)
        case Trade():
            return {
                "event": "trade",
                "instrument": event.instrument,
                "trade_id": event.trade_id,
                "price": format_decimal(event.price, event.price_scale),
                "size": format_decimal(event.size, event.size_scale),
                "aggressor": event.aggressor.name.lower(),
                **_times(event, line),
            }
        case Gap():
            return {
                "event": "gap",
                "instrument": event.instrument,
                "channel": event.channel.name.lower(),
                "kind": event.kind.name.lower(),
                "id_prev": event.id_prev,
                "id_last": event.id_last,
                "cause": event.cause,
                "lines_up": list(event.lines),
                "ts_recv_ns": event.ts_recv_ns,
            }
        case _:
            return _note(event, line)


def _note(event: Resynced | Stalled | Held | Digest | LineUp | LineDown, line: str) -> dict[str, Any]:
    match event:
        case Resynced():
            head = {"event": "resynced", "instrument": event.instrument, "channel": event.channel.name.lower()}
            return {**head, "id_last": event.id_last, "ts_recv_ns": event.ts_recv_ns}
        case Stalled():
            head = {"event": "stalled", "instrument": event.instrument, "channel": event.channel.name.lower()}
            return {**head, "cause": event.cause, "ts_recv_ns": event.ts_recv_ns}
        case Held():
            head = {"event": "held", "instrument": event.instrument, "channel": event.channel.name.lower()}
            return {**head, "id_last": event.id_last, "ts_recv_ns": event.ts_recv_ns}
        case Digest():
            head = {"event": "digest", "instrument": event.instrument, "channel": event.channel.name.lower()}
            return {**head, "id_prev": event.id_prev, "id_last": event.id_last, "ts_recv_ns": event.ts_recv_ns}
        case LineUp():
            return {"event": "line_up", "venue": event.venue, "line": line, "ts_recv_ns": event.ts_recv_ns}
        case LineDown():
            head = {"event": "line_down", "venue": event.venue, "line": line}
            return {**head, "cause": event.cause, "ts_recv_ns": event.ts_recv_ns}


def _book(event: BookSnapshot | BookDelta, line: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"event": "snapshot", "instrument": event.instrument}
    if isinstance(event, BookDelta):
        fields |= {"event": "delta", "id_prev": event.id_prev}
    scales = (event.price_scale, event.size_scale)
    fields |= {"id_last": event.id_last, "bids": _levels(event.bids, *scales), "asks": _levels(event.asks, *scales)}
    return fields | _times(event, line)


def _levels(levels: Levels, price_scale: int, size_scale: int) -> list[tuple[str, str]]:
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return [(format_decimal(price, price_scale), format_decimal(size, size_scale)) for price, size in pairs]


def _times(event: BookSnapshot | BookDelta | Trade, line: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"line": line, "ts_venue_ns": event.ts_venue_ns, "ts_recv_ns": event.ts_recv_ns}
    flags = [flag.name.lower() for flag in Flag if flag and event.flags & flag]
    return fields | ({"flags": flags} if flags else {})
