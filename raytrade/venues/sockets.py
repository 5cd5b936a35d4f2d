"""Which sockets a set of subscriptions needs at a venue, inside its limits."""

from __future__ import annotations

from raytrade.venues.protocol import Endpoint, Subscription, VenueSpec


def sockets_of(
    spec: VenueSpec, ws_url: str, rest_url: str, subscriptions: tuple[Subscription, ...]
) -> list[tuple[str, Endpoint]]:
    """Give (suffix of the line's name, endpoint) of each socket; empty addresses are the venue's own."""
    ws_url, rest_url = ws_url or spec.ws_url, rest_url or spec.rest_url
    sockets = []
    for number, share in enumerate(fitting(subscriptions, spec.limits.streams_per_connection_max)):
        for endpoint in spec.machine.endpoints(ws_url, rest_url, share):
            suffix = (f"/{number + 1}" if number else "") + (f"/{endpoint.part}" if endpoint.part else "")
            sockets.append((suffix, endpoint))
    return sockets


def fitting(subscriptions: tuple[Subscription, ...], streams_max: int) -> list[tuple[Subscription, ...]]:
    """Divide the subscriptions over connections, so that none has more streams than the venue allows."""
    shares: list[list[Subscription]] = [[]]
    streams = 0
    for subscription in subscriptions:
        streams += len(subscription.channels)
        if streams_max and streams > streams_max:
            shares.append([])
            streams = len(subscription.channels)
        shares[-1].append(subscription)
    return [tuple(share) for share in shares]
