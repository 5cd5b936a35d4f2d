"""The exchange's market: where the books begin, what every update sets, and what the book then truly is.

The levels of update `n` are those of `n` modulo `POOL`, and an update sets sizes, so the true book after `n` updates
follows from the last `POOL` of them.
"""

from __future__ import annotations

import random
from hashlib import sha256

FIRST_ID = 1_000_000_001
SYMBOL = "BTCUSDT"
POOL = 4096
LEVELS = 8
BOOK_LEVELS = 100
TICKS_PER_UNIT = 100
LOTS_PER_UNIT = 100_000
_MID = 3_000_000
_SIZES = (0, 0, 1, 1, 1, 1, 1, 1)
"""A quarter of the levels are deletions."""

Half = dict[int, int]
"""Lots by price in ticks; no level without size."""
Levels = list[tuple[int, int]]


def price_text(ticks: int) -> str:
    return f"{ticks // TICKS_PER_UNIT}.{ticks % TICKS_PER_UNIT:02d}"


def size_text(lots: int) -> str:
    return f"{lots // LOTS_PER_UNIT}.{lots % LOTS_PER_UNIT:05d}"


def texts(levels: Levels) -> list[tuple[str, str]]:
    return [(price_text(price), size_text(size)) for price, size in levels]


def digest(bids: Half, asks: Half) -> str:
    """Give what two books are compared by."""
    return sha256(repr((sorted(bids.items()), sorted(asks.items()))).encode()).hexdigest()


class Market:
    """The updates and the books of one symbol."""

    def __init__(self, seed: int = 7) -> None:
        random_ = random.Random(seed)
        self._first: tuple[Half, Half] = tuple(  # type: ignore[assignment]
            {_MID + sign * (10 + at): random_.randrange(1, 5 * LOTS_PER_UNIT) for at in range(BOOK_LEVELS)}
            for sign in (-1, 1)
        )
        self.pool = [(_levels(random_, -1), _levels(random_, 1)) for _ in range(POOL)]

    def book(self, count: int) -> tuple[Half, Half]:
        """Give the true book after `count` updates."""
        bids, asks = dict(self._first[0]), dict(self._first[1])
        for number in range(max(0, count - POOL), count):
            for half, levels in zip((bids, asks), self.pool[number % POOL], strict=True):
                _apply(half, levels)
        return bids, asks


def _levels(random_: random.Random, sign: int) -> Levels:
    prices = random_.sample(range(10, 10 + BOOK_LEVELS), LEVELS // 2)
    return [(_MID + sign * at, random_.choice(_SIZES) * random_.randrange(1, 5 * LOTS_PER_UNIT)) for at in prices]


def _apply(half: Half, levels: Levels) -> None:
    for price, size in levels:
        if size:
            half[price] = size
        else:
            half.pop(price, None)
