"""Rendezvous hashing: which of the nodes there are carry a key, without any memory of earlier choices.

Every node has a weight for every key, the same in every process, and the heaviest win. So a node that leaves moves
what it carried and nothing else, and a node that joins takes its share and moves nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec


class Choice(msgspec.Struct, frozen=True):
    """Who carries a key, heaviest first, and in how many different failure domains they are."""

    names: tuple[str, ...]
    domains: int


def weight(key: str, name: str) -> int:
    """Give the weight of `name` for `key`."""
    return int.from_bytes(blake2b(f"{key}\0{name}".encode(), digest_size=8).digest())


def ranked(key: str, names: Iterable[str]) -> list[str]:
    """Give the names by weight, heaviest first."""
    return sorted(names, key=lambda name: (weight(key, name), name), reverse=True)


def choose(key: str, domains: Mapping[str, str], copies: int) -> Choice:
    """Choose `copies` of the names that `domains` maps to their failure domains, each in another domain.

    Where there are fewer domains than copies, the rest goes to further names in domains that are taken already.
    """
    order = ranked(key, domains)
    heaviest: dict[str, str] = {}
    for name in order:
        heaviest.setdefault(domains[name], name)
    apart = list(heaviest.values())[:copies]
    others = [name for name in order if name not in apart]
    return Choice((*apart, *others[: copies - len(apart)]), len(apart))
