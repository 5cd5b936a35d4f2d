"""`LineLevels`: what each line says of each level over which ids, where lines cut a stream into different windows.

A window lists every level touched in it with its size at its end. So a line that listed a level at e and not again up
to its position says the same size for every id between; another line that listed it at one of these ids must have said
the same. No window need end where another does, no book is needed, and a lie stands out until it is overwritten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from raytrade.core.message import Message
from raytrade.core.prices import FRACTION_DIGITS_MAX, rescale

POINTS_MAX = 256
LEVELS_MAX = 8192
"""So many levels of one line are remembered; a line with more begins anew."""

Level = tuple[int, int]
"""Side (0: bids) and price, in the finest scale there is."""
Claim = dict[Level, int]
_Claim = dict[int, int]
"""Sizes by price and side in one number: this is done for every message."""


class Comparison(NamedTuple):
    """Two lines on the size of a level at an id."""

    id_last: int
    level: Level
    line: str
    size: int
    other: str
    other_size: int


class _Line:
    __slots__ = ("name", "points", "position", "sizes")

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0
        self.sizes: dict[int, tuple[int, int]] = {}
        self.points: deque[tuple[int, _Claim]] = deque(maxlen=POINTS_MAX)

    def begin(self) -> None:
        self.sizes.clear()
        self.points.clear()


class LineLevels:
    """The lines of one stream of windows that list every level touched."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._price_scale = 0
        self._size_scale = 0

    def forget(self) -> None:
        """What lines said does not go on."""
        self._lines.clear()

    def follow(self, line: str, message: Message, open_ids: Collection[int]) -> tuple[list[Comparison], list[str]]:
        """Take a window of a line; give in what it differs from others, and with whom it was compared.

        At `open_ids` every comparison is given, whether they differ or not.
        """
        own = self._lines.get(line)
        if own is None:
            own = self._lines[line] = _Line(line)
        id_last = message.id_last
        if id_last <= own.position:
            return [], []
        claim = self._read(message)
        if message.id_prev > own.position or len(own.sizes) > LEVELS_MAX:
            own.begin()
        found: list[Comparison] = []
        compared = [
            other.name
            for other in self._lines.values()
            if other is not own
            and self._compare_passed(own, other, id_last, claim, open_ids, found)
            + self._compare_listed(own, other, id_last, claim, open_ids, found)
        ]
        own.position = id_last
        for level, size in claim.items():
            own.sizes[level] = id_last, size
        own.points.append((id_last, claim))
        return found, compared

    def _read(self, message: Message) -> _Claim:
        bids, asks = message.levels()
        if message.price_scale != self._price_scale or message.size_scale != self._size_scale:
            if message.price_scale > self._price_scale or message.size_scale > self._size_scale:
                self._price_scale = max(message.price_scale, self._price_scale)
                self._size_scale = max(message.size_scale, self._size_scale)
                for line in self._lines.values():
                    line.begin()
            factors = 10 ** (self._price_scale - message.price_scale), 10 ** (self._size_scale - message.size_scale)
            bids, asks = rescale(bids, *factors), rescale(asks, *factors)
        claim = {2 * price: size for price, size in zip(bids[::2], bids[1::2], strict=True)}
        for price, size in zip(asks[::2], asks[1::2], strict=True):
            claim[2 * price + 1] = size
        return claim

    def _compare_passed(
        self, own: _Line, other: _Line, id_last: int, claim: _Claim, open_ids: Collection[int], found: list[Comparison]
    ) -> int:
        """Hold what the line goes on saying against what another listed at ids that this window passes."""
        compared, sizes, position = 0, own.sizes, own.position
        for number, listed in reversed(other.points):
            if number <= position:
                break
            if number <= id_last:
                for level, size in listed.items():
                    if level not in claim and (said := sizes.get(level)) is not None:
                        compared += 1
                        if said[1] != size or number in open_ids:
                            found.append(self._comparison(number, level, own, said[1], other, size))
        return compared

    def _compare_listed(
        self, own: _Line, other: _Line, id_last: int, claim: _Claim, open_ids: Collection[int], found: list[Comparison]
    ) -> int:
        """Hold what the line lists now against what another, which has come as far, has said since before."""
        if other.position < id_last:
            return 0
        compared, sizes = 0, other.sizes
        for level, size in claim.items():
            said = sizes.get(level)
            if said is not None and said[0] <= id_last:
                compared += 1
                if said[1] != size or id_last in open_ids:
                    found.append(self._comparison(id_last, level, own, size, other, said[1]))
        return compared

    def _comparison(self, number: int, level: int, own: _Line, size: int, other: _Line, other_size: int) -> Comparison:
        price_factor = 10 ** (FRACTION_DIGITS_MAX - self._price_scale)
        size_factor = 10 ** (FRACTION_DIGITS_MAX - self._size_scale)
        where = level & 1, (level >> 1) * price_factor
        return Comparison(number, where, own.name, size * size_factor, other.name, other_size * size_factor)
