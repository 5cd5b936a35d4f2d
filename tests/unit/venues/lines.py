"""What the tests of the machines share: a line that is open, frames as objects, the events they make."""

from __future__ import annotations

import json
from typing import TypeVar

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Event
from raytrade.venues import find_venue
from raytrade.venues.protocol import Command, SendFrame, Subscription, VenueMachine

OPENED_NS: Nanos = 1_700_000_000 * SECOND
Kind = TypeVar("Kind", bound=Event)


def line(venue: str, *symbols: str, is_open: bool = True) -> VenueMachine:
    """Give the machine of the first socket for these symbols, opened, its first commands drained."""
    spec = find_venue(venue)
    subscriptions = tuple(Subscription(symbol) for symbol in symbols)
    endpoint = spec.machine.endpoints(spec.ws_url, spec.rest_url, subscriptions)[0]
    machine = spec.machine(venue, endpoint)
    if is_open:
        machine.receive_open(OPENED_NS)
        machine.commands()
    return machine


def feed(machine: VenueMachine, *frames: object, ts_recv_ns: Nanos = OPENED_NS + 1) -> list[Event]:
    """Hand over frames (objects are written as JSON) and give the events."""
    for frame in frames:
        raw = frame if isinstance(frame, bytes | str) else json.dumps(frame)
        machine.receive_frame(raw, ts_recv_ns)
    return machine.events()


def only(kind: type[Kind], events: list[Event]) -> list[Kind]:
    """Give the events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def sent(commands: list[Command]) -> list[str]:
    """Give the texts to be sent."""
    return [command.data for command in commands if isinstance(command, SendFrame)]


def ids(events: list[Event]) -> list[tuple[int, int]]:
    """Give the ids of the book events; a snapshot starts from -1."""
    books = [event for event in events if isinstance(event, BookSnapshot | BookDelta)]
    return [(event.id_prev if isinstance(event, BookDelta) else -1, event.id_last) for event in books]
