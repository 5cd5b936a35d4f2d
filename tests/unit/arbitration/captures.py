"""Recordings as messages: what each connection delivered, in the order of arrival."""

from __future__ import annotations

import base64
import gzip
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raytrade.core.message import Message, encode, parse
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Subscription

FOLDER = Path(
    os.environ.get("RAYTRADE_CAPTURES", Path(__file__).resolve().parents[4] / "shared" / "captures"),
)


class Arrival(NamedTuple):
    """A message, the line that delivered it and when."""

    line: str
    message: Message
    now_ns: int


def need(capture: str) -> Path:
    """Give the recording's path, or skip the test."""
    path = FOLDER / f"{capture}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no recording {path}")
    return path


def expected(capture: str) -> dict[str, Any]:
    """Give what an independent rebuild found, per symbol."""
    need(capture)
    with gzip.open(FOLDER / "expected" / f"{capture}.json.gz", "rt", encoding="utf-8") as file:
        symbols: dict[str, Any] = json.load(file)["symbols"]
        return symbols


@lru_cache(maxsize=4)
def arrivals(capture: str) -> tuple[Arrival, ...]:
    """Run the recording through one machine per connection."""
    with gzip.open(need(capture), "rt", encoding="utf-8") as file:
        header = json.loads(file.readline())
        venue = find_venue(header["venue"])
        subscriptions = tuple(Subscription(symbol) for symbol in header["symbols"])
        endpoint = Endpoint(url="", subscriptions=subscriptions)
        machines = {conn: venue.machine(venue.name, endpoint) for conn in header["connections"]}
        opened: set[str] = set()
        out: list[Arrival] = []
        for text in file:
            record = json.loads(text)
            if record["kind"] != "recv":
                continue
            conn, ts_ns = record["conn"], record["ts_ns"]
            machine = machines[conn]
            if conn not in opened:
                opened.add(conn)
                machine.receive_open(ts_ns)
            frame = record["data"] if "data" in record else base64.b64decode(record["b64"])
            machine.receive_frame(frame, ts_ns)
            out += [Arrival(conn, parse(encode(event, conn)), ts_ns) for event in machine.events()]
    return tuple(out)
