"""Events as JSON: exact text, every kind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Flag,
    Gap,
    GapKind,
    LineDown,
    LineUp,
    Resynced,
    Side,
    Stalled,
    Trade,
)
from raytrade.observation.jsonlines import fields_of

NAME: dict[str, Any] = {"instrument": "kraken-v2:BTC/USD"}
SCALES: dict[str, Any] = {"price_scale": 1, "size_scale": 8}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            BookDelta(**NAME, **SCALES, id_prev=4, id_last=5, bids=(1000001, 10), asks=(), ts_venue_ns=1, ts_recv_ns=2),
            '{"event":"delta","instrument":"kraken-v2:BTC/USD","id_prev":4,"id_last":5,'
            '"bids":[["100000.1","0.0000001"]],"asks":[],"line":"l","ts_venue_ns":1,"ts_recv_ns":2}',
        ),
        (
            BookSnapshot(**NAME, **SCALES, id_last=5, bids=(), asks=(7, 0), flags=Flag.IMAGE | Flag.CHECKED),
            '{"event":"snapshot","instrument":"kraken-v2:BTC/USD","id_last":5,"bids":[],"asks":[["0.7","0"]],'
            '"line":"l","ts_venue_ns":0,"ts_recv_ns":0,"flags":["checked","image"]}',
        ),
        (
            Trade(**NAME, **SCALES, trade_id="x", price=7, size=8, aggressor=Side.SELL),
            '{"event":"trade","instrument":"kraken-v2:BTC/USD","trade_id":"x","price":"0.7","size":"0.00000008",'
            '"aggressor":"sell","line":"l","ts_venue_ns":0,"ts_recv_ns":0}',
        ),
        (
            Gap(**NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=1, id_last=3, cause="lost", lines=("a",)),
            '{"event":"gap","instrument":"kraken-v2:BTC/USD","channel":"book","kind":"venue","id_prev":1,"id_last":3,'
            '"cause":"lost","lines_up":["a"],"ts_recv_ns":0}',
        ),
        (
            Resynced(**NAME, channel=Channel.BOOK, id_last=3),
            '{"event":"resynced","instrument":"kraken-v2:BTC/USD","channel":"book","id_last":3,"ts_recv_ns":0}',
        ),
        (
            Stalled(**NAME, channel=Channel.TRADES, cause="silent"),
            '{"event":"stalled","instrument":"kraken-v2:BTC/USD","channel":"trades","cause":"silent","ts_recv_ns":0}',
        ),
        (LineUp(venue="kraken-v2"), '{"event":"line_up","venue":"kraken-v2","line":"l","ts_recv_ns":0}'),
        (
            LineDown(venue="kraken-v2", cause="cut"),
            '{"event":"line_down","venue":"kraken-v2","line":"l","cause":"cut","ts_recv_ns":0}',
        ),
    ],
)
def test_every_event(event: Event, expected: str) -> None:
    assert msgspec.json.encode(fields_of(event, "l")).decode() == expected
