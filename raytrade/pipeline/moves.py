"""Make before break: what must stay until what takes its place is there. Pure; the supervisor asks and acts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Literal

import msgspec

from raytrade.actors.collector import LinePlan
from raytrade.core.events import Channel

Lines = Mapping[str, list[LinePlan]]
"""The lines by collector."""
Stream = tuple[str, str, Channel]
Role = Literal["collector", "regional", "dedup", "strategy", "recorder", "gateway"]


def streams_of(line: LinePlan) -> frozenset[Stream]:
    """Give what a line carries: venue, symbol and channel."""
    subscriptions = line.endpoint.subscriptions
    return frozenset((line.venue, one.symbol, channel) for one in subscriptions for channel in one.channels)


def lines_to_run(wanted: Lines, running: Lines, served: Set[str]) -> dict[str, list[LinePlan]]:
    """Give what each collector runs now: what is wanted, and what must stay until that is there.

    A line that is not wanted stays as long as a wanted one that carries some of its streams is not among the lines
    `served`: those that deliver all their books and that every dedup knows to be up.
    """
    awaited: set[Stream] = set()
    for lines in wanted.values():
        for line in lines:
            if line.name not in served:
                awaited |= streams_of(line)
    given: dict[str, list[LinePlan]] = {}
    for collector in wanted.keys() | running.keys():
        mine = wanted.get(collector, [])
        names = {line.name for line in mine}
        staying = [one for one in running.get(collector, []) if one.name not in names and streams_of(one) & awaited]
        given[collector] = [*mine, *staying]
    return given


def left_behind(recorder: str, directory: str, before: str, address: str) -> str:
    """Say that a recorder that ran at the address `before` begins anew at another; empty if it does not."""
    if before in ("", address):
        return ""
    return (
        f"{recorder}: runs on {address} now and begins anew there; its files up to here are in {directory} on {before}"
    )


class Standby(msgspec.Struct, frozen=True):
    """What an actor says of itself: the writers that it hears, and the books (or streams) it can give."""

    up: list[str]
    live: list[str]
    lines: list[str] = []


def can_replace(
    names: Collection[str], old: str, role: Role, standbys: Mapping[str, Standby], writers: Set[str], readers: Set[str]
) -> bool:
    """Tell whether the actors `names` together do all that `old` does, so that `old` may end.

    Each hears every one of `writers`, and between them they have every book of the old one; dedups are heard by each
    of `readers` too. One that does not answer hears and has nothing.
    """
    new = [standbys[name] for name in names if name in standbys]
    if len(new) < len(names) or any(not writers <= set(one.up) for one in new):
        return False
    had = standbys.get(old)
    if had is not None and not set(had.live) <= {book for one in new for book in one.live}:
        return False
    heard = [set(standbys[reader].up) if reader in standbys else set() for reader in readers]
    return role not in ("regional", "dedup") or all(set(names) <= up for up in heard)
