"""Whether every role has its spare, from the status of a pipeline. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

ROLES = ("collector", "dedup", "strategy", "recorder")
LAG_IDS = 20_000
"""A replica this many ids behind its peer is not yet a spare; two statuses are never of the same moment."""

Actors = Mapping[str, Mapping[str, Any]]


def lacking(actors: Actors, wanted: Mapping[str, int], gone: Collection[int] = ()) -> str:
    """Say what is lacking for full redundancy, "" if nothing is.

    `wanted`: how many actors of each role; `gone`: pids that were killed, whose word does not count.
    """
    for name, actor in sorted(actors.items()):
        if actor["state"] != "alive" or actor.get("pid") in gone:
            return f"{name} is {actor['state'] if actor['state'] != 'alive' else 'still the old one'}"
    by_role = {role: {n: a for n, a in actors.items() if a.get("role") == role} for role in ROLES}
    for role in ROLES:
        if len(by_role[role]) != wanted[role]:
            return f"{len(by_role[role])} of {wanted[role]} {role}s"
    return (
        _lines_lacking(by_role["collector"])
        or _links_lacking(by_role["dedup"], by_role["collector"])
        or _links_lacking({**by_role["strategy"], **by_role["recorder"]}, by_role["dedup"])
        or _streams_lacking(by_role["dedup"])
    )


def _lines_lacking(collectors: Actors) -> str:
    lines = {name: line for actor in collectors.values() for name, line in actor["lines"].items()}
    down = sorted(name for name, line in lines.items() if not line["status"]["is_up"])
    return f"line {down[0]} is down" if down else ""


def _links_lacking(readers: Actors, writers: Actors) -> str:
    for name, reader in sorted(readers.items()):
        missing = sorted(set(writers) - set(reader["up"]))
        if missing:
            return f"{name} has no link to {missing[0]}"
    return ""


def _streams_lacking(dedups: Actors) -> str:
    """A replica is a spare once it gives out every book that its peers give out."""
    books: dict[str, dict[str, int]] = {}
    for name, dedup in dedups.items():
        for stream, counts in dedup["streams"].items():
            if stream.endswith("/book"):
                books.setdefault(stream, {})[name] = counts["last_id"] or 0 if counts["snapshots"] else 0
    for stream, ids in sorted(books.items()):
        ahead = max(ids.values())
        for name in sorted(dedups):
            at = ids.get(name, 0)
            if ahead and (not at or ahead - at > LAG_IDS):
                return f"{name} does not yet give out {stream}"
    return ""
