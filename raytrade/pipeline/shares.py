"""The lines of a pipeline before they are placed: the instruments of a venue divided into shares, one line each.

And what the copies of a share must agree on without talking: when each is opened anew, and how much of the venue's
request weight each collector may spend.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import msgspec

from raytrade.actors.collector import BudgetPlan
from raytrade.config import Config, VenueConfig
from raytrade.core.rendezvous import ranked
from raytrade.transport.rest import SHARE
from raytrade.transport.rotation import SLOTS
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Subscription
from raytrade.venues.sockets import fitting


class Share(msgspec.Struct, frozen=True):
    """What one line carries; `name` is the same as long as there is such a share, whatever its symbols are."""

    name: str
    venue: str
    endpoint: Endpoint


def shares_of(config: Config) -> list[Share]:
    """Give the shares of all venues."""
    return [share for venue, part in config.venues.items() for share in _venue_shares(venue, part)]


def _venue_shares(venue: str, part: VenueConfig) -> list[Share]:
    spec = find_venue(venue)
    ws_url, rest_url = part.ws_url or spec.ws_url, part.rest_url or spec.rest_url
    shares = []
    for number, subscriptions in enumerate(_divided(part.subscriptions(), part.shares)):
        pieces = fitting(subscriptions, spec.limits.streams_per_connection_max) if subscriptions else []
        for piece, together in enumerate(pieces):
            for endpoint in spec.machine.endpoints(ws_url, rest_url, together):
                numbers = [number, piece] if part.shares > 1 else [piece]
                text = ".".join(str(one + 1) for one in numbers)
                place = "" if text in ("1", "1.1") else f"/{text.removesuffix('.1')}"
                socket = f"/{endpoint.part}" if endpoint.part else ""
                shares.append(Share(f"{venue}{place}{socket}", venue, endpoint))
    return shares


def _divided(subscriptions: tuple[Subscription, ...], shares: int) -> list[tuple[Subscription, ...]]:
    """Divide the subscriptions by rendezvous over the shares: a symbol more changes one share alone."""
    names = [str(number) for number in range(shares)]
    divided: list[list[Subscription]] = [[] for _ in names]
    for subscription in subscriptions:
        divided[int(ranked(subscription.symbol, names)[0])].append(subscription)
    return [tuple(share) for share in divided]


def rotation_slots(names: Iterable[str], slots: int = SLOTS) -> dict[str, int]:
    """Give every copy of a line its own slot of the rotation, by its name; more copies than slots share them."""
    taken: dict[str, int] = {}
    for name in sorted(names):
        first = crc32(name.encode()) % slots
        free = [slot for slot in ((first + step) % slots for step in range(slots)) if slot not in taken.values()]
        taken[name] = free[0] if free else first
    return taken


def budgets(venue: str, part: VenueConfig, collectors: Iterable[str]) -> dict[str, BudgetPlan]:
    """Divide what a venue lets us request among the collectors with lines to it; together they never exceed it.

    Where there are more collectors than requests in a minute, they take turns of two minutes, and spend in the
    first minute of their own.
    """
    limits = find_venue(venue).limits
    total = part.weight_per_minute or int(limits.weight_per_minute_max * SHARE)
    weight = limits.snapshot_weight
    names = ranked(venue, collectors)
    if not total or not weight:
        return {name: BudgetPlan() for name in names}
    requests = max(1, total // weight)
    if len(names) > requests:
        turns = -(-len(names) // requests)
        return {name: BudgetPlan(weight, at % turns, turns) for at, name in enumerate(names)}
    each, rest = divmod(requests, len(names)) if names else (0, 0)
    return {name: BudgetPlan(weight * (each + (at < rest))) for at, name in enumerate(names)}
