"""What the benchmarks work on: a recording of Binance spot where there is one, else a seeded synthetic feed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from raytrade.core.events import BookDelta, BookSnapshot, Event
from raytrade.errors import CaptureError
from raytrade.storage.captures import Capture
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Subscription, VenueMachine

VENUE, SYMBOL = "binance-spot", "BTCUSDT"
CAPTURE = f"{VENUE}/20240808-btcusdt"
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "captures"
SEED = 7


class Feed(NamedTuple):
    """Depth frames of one symbol and the REST book they go on from; `source` says where they are from."""

    frames: list[str]
    rest_body: bytes
    source: str


def captures_folder() -> Path:
    """Give the folder of recordings, whether it is there or not."""
    return Path(os.environ.get("RAYTRADE_CAPTURES", BESIDE))


def load_feed(count: int, folder: Path) -> Feed:
    """Give the first `count` depth frames."""
    try:
        return _recorded(count, Capture(folder / f"{CAPTURE}.jsonl.gz"))
    except CaptureError:
        return _synthetic(count)


def _recorded(count: int, capture: Capture) -> Feed:
    frames: list[str] = []
    rest_body = b""
    for record in capture.records():
        if record.kind == "rest":
            rest_body = (record.data or "").encode()
        elif record.kind == "recv" and record.data is not None and '"depthUpdate"' in record.data:
            frames.append(record.data)
            if len(frames) == count:
                break
    return Feed(
        frames, rest_body, f"recording {CAPTURE}, {len(frames)} depth frames, {_levels(frames):.0f} levels each"
    )


def _levels(frames: list[str]) -> float:
    return sum(frame.count('","') for frame in frames) / len(frames)


def _synthetic(count: int) -> Feed:
    random = Random(SEED)
    frames: list[str] = []
    mid, number = 6_000_000, 1_000
    for at in range(count):
        mid += random.randint(-50, 50)
        width = random.randint(1, 40)
        body = {
            "e": "depthUpdate",
            "E": 1_723_000_000_000 + 100 * at,
            "s": SYMBOL,
            "U": number + 1,
            "u": number + width,
            "b": [_level(random, mid, -1) for _ in range(width)],
            "a": [_level(random, mid, 1) for _ in range(width)],
        }
        number += width
        frames.append(json.dumps({"stream": "btcusdt@depth@100ms", "data": body}, separators=(",", ":")))
    book = {"lastUpdateId": 1_000, "bids": [], "asks": []}
    source = f"synthetic feed, seed {SEED}, {count} depth frames, {_levels(frames):.0f} levels each"
    return Feed(frames, json.dumps(book).encode(), source)


def _level(random: Random, mid: int, sign: int) -> tuple[str, str]:
    price = mid + sign * int(random.expovariate(0.002))
    size = 0 if random.random() < 0.3 else random.randint(1, 10**7)
    return f"{price // 100}.{price % 100:02d}000000", f"{size // 10**5}.{size % 10**5:05d}000"


def machine() -> VenueMachine:
    """Give a line that is open."""
    endpoint = Endpoint(url="", subscriptions=(Subscription(SYMBOL),))
    line = find_venue(VENUE).machine(VENUE, endpoint)
    line.receive_open(1)
    line.commands()
    return line


def snapshot_of(feed: Feed) -> BookSnapshot:
    """Read the REST book, in the scales of the whole feed."""
    line = machine()
    for frame in feed.frames:
        line.receive_frame(frame, 1)
    line.events()
    line.receive_snapshot(SYMBOL, feed.rest_body, 1)
    (event,) = line.events()
    assert isinstance(event, BookSnapshot)
    return event


def deltas_of(feed: Feed) -> list[BookDelta]:
    """Read the frames; the ids are joined up, so that the first follows the snapshot and none is missing."""
    line = machine()
    for frame in feed.frames:
        line.receive_frame(frame, 1)
    events: list[Event] = line.events()
    number = snapshot_of(feed).id_last
    deltas: list[BookDelta] = []
    for event in events:
        assert isinstance(event, BookDelta)
        deltas.append(msgspec.structs.replace(event, id_prev=number, id_last=number + 1))
        number += 1
    return deltas
