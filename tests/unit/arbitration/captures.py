"""Recordings as messages: what each connection delivered, in the order of arrival."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from raytrade.core.clock import MILLISECOND
from raytrade.core.events import Channel
from raytrade.core.message import encode, parse
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Subscription
from tests.property.lines import Arrival

FOLDER = Path(
    os.environ.get("RAYTRADE_CAPTURES", Path(__file__).resolve().parents[4] / "shared" / "captures"),
)


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


def lossy_lines(capture: str, seed: int, share: float) -> list[Arrival]:
    """Give three delayed copies of a recorded connection; each loses that share of its updates, never all of them."""
    rng = random.Random(seed)
    with gzip.open(need(capture), "rt", encoding="utf-8") as file:
        header, *records = [json.loads(text) for text in file]
    frames = [(record["ts_ns"], record["data"]) for record in records if record["kind"] == "recv"]
    venue = find_venue(header["venue"])
    endpoint = Endpoint(url="", subscriptions=tuple(Subscription(symbol) for symbol in header["symbols"]))
    out: list[Arrival] = []
    losses = [0] * len(frames)
    for number, line in enumerate("abc"):
        machine, now_ns = venue.machine(venue.name, endpoint), frames[0][0] + number
        machine.receive_open(now_ns)
        for at, (ts_ns, frame) in enumerate(frames):
            if '"type":"update"' in frame and rng.random() < share and losses[at] < 2:
                losses[at] += 1
                continue
            now_ns = max(now_ns + 1, ts_ns + rng.randint(0, 30 * MILLISECOND))
            machine.receive_frame(frame, now_ns)
            messages = [parse(encode(event, line)) for event in machine.events()]
            out += [Arrival(now_ns, line, each) for each in messages if each.channel is Channel.BOOK]
    return out


@lru_cache(maxsize=4)
def arrivals(capture: str) -> tuple[Arrival, ...]:
    """Run the books of the recording through one machine per connection."""
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
            messages = [parse(encode(event, conn)) for event in machine.events()]
            out += [Arrival(ts_ns, conn, each) for each in messages if each.channel is Channel.BOOK]
    return tuple(out)
