"""A made-up market of one instrument with trades, from a seed: a touch that walks, a queue that moves."""

from __future__ import annotations

import random
from pathlib import Path

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Event, Levels, Side, Trade
from tests.unit.storage.recordings import BTC, NOON_NS, record

DEPTH = 12
STEP_NS: Nanos = 20 * MILLISECOND


def market(seed: int, steps: int, *, name: str = BTC, start_ns: Nanos = NOON_NS) -> list[Event]:
    """Give a snapshot, then a delta each step and a trade now and then, ids dense; prices have 2 digits, sizes 3."""
    rng = random.Random(seed)
    mid, trades, events = 10_000, 0, list[Event]()
    book: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    for step in range(steps):
        now_ns = start_ns + step * STEP_NS
        aggressor = rng.choice((Side.BUY, Side.SELL))
        if step and rng.random() < 0.4:
            price = mid + 1 if aggressor is Side.BUY else mid - 1
            trades += 1
            events.append(_trade(trades, now_ns, name, aggressor, price, rng.randrange(1, 400)))
        mid += rng.choice((-1, 0, 0, 0, 1))
        changes = _levels(rng, mid, book)
        common = {"instrument": name, "price_scale": 2, "size_scale": 3, "ts_recv_ns": now_ns, "ts_venue_ns": now_ns}
        if step == 0:
            bids, asks = (_flat(book[side]) for side in (Side.BUY, Side.SELL))
            events.append(BookSnapshot(id_last=1, bids=bids, asks=asks, depth=1000, **common))  # type: ignore[arg-type]
        else:
            events.append(
                BookDelta(id_prev=step, id_last=step + 1, bids=changes[0], asks=changes[1], **common)  # type: ignore[arg-type]
            )
    return events


def _trade(sequence: int, now_ns: Nanos, name: str, aggressor: Side, price: int, size: int) -> Trade:
    return Trade(
        instrument=name,
        trade_id=f"t{sequence}",
        price=price,
        size=size,
        price_scale=2,
        size_scale=3,
        aggressor=aggressor,
        sequence=sequence,
        ts_venue_ns=now_ns,
        ts_recv_ns=now_ns,
    )


def _flat(side: dict[int, int]) -> Levels:
    return tuple(value for price, size in side.items() for value in (price, size))


def _levels(rng: random.Random, mid: int, book: dict[Side, dict[int, int]]) -> tuple[Levels, Levels]:
    """Move both sides to the mid and change some sizes; gives the changes."""
    found = []
    for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
        held = book[side]
        wanted = {mid + sign * (1 + at) for at in range(DEPTH)}
        changes = {price: 0 for price in sorted(held.keys() - wanted)}
        changes |= {price: rng.randrange(50, 900) for price in sorted(wanted - held.keys())}
        changes[mid + sign] = rng.randrange(50, 900)
        for price, size in changes.items():
            if size:
                held[price] = size
            else:
                del held[price]
        found.append(_flat(changes))
    return found[0], found[1]


def recorded_market(directory: Path, steps: int = 400, seed: int = 1, names: tuple[str, ...] = (BTC,)) -> Path:
    """Record the market of each instrument."""
    events = [event for at, name in enumerate(names) for event in market(seed + at, steps, name=name)]
    record(directory, sorted(events, key=lambda event: event.ts_recv_ns))
    return directory
