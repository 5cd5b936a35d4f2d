"""The exchange's market: where the books begin, what every update sets, and what the books then truly are.

Symbols take turns: of `symbols`, update `n` is of the symbol `n % symbols`. Its levels are those of `n` modulo `POOL`,
and an update sets sizes, so a symbol's true book follows from its last `POOL` updates.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
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


def symbol_names(symbols: int) -> list[str]:
    """Give the symbols' names, all of one length."""
    return [SYMBOL] if symbols == 1 else [f"S{at:05d}USDT" for at in range(symbols)]


def updates_of(at: int, symbols: int, count: int) -> int:
    """Give how many of the first `count` updates are of symbol `at`."""
    return (count - at + symbols - 1) // symbols


def price_text(ticks: int) -> str:
    return f"{ticks // TICKS_PER_UNIT}.{ticks % TICKS_PER_UNIT:02d}"


def size_text(lots: int) -> str:
    return f"{lots // LOTS_PER_UNIT}.{lots % LOTS_PER_UNIT:05d}"


def texts(levels: Levels) -> list[tuple[str, str]]:
    return [(price_text(price), size_text(size)) for price, size in levels]


def digest(books: Iterable[tuple[Half, Half]]) -> str:
    """Give what the books of two sides are compared by; they come in the order of the symbols."""
    hashed = sha256()
    for bids, asks in books:
        hashed.update(repr((sorted(bids.items()), sorted(asks.items()))).encode())
    return hashed.hexdigest()


class Market:
    """The updates and the books; every book begins the same."""

    def __init__(self, seed: int = 7) -> None:
        random_ = random.Random(seed)
        self._first: tuple[Half, Half] = tuple(  # type: ignore[assignment]
            {_MID + sign * (10 + at): random_.randrange(1, 5 * LOTS_PER_UNIT) for at in range(BOOK_LEVELS)}
            for sign in (-1, 1)
        )
        self.pool = [(_levels(random_, -1), _levels(random_, 1)) for _ in range(POOL)]

    def books(self, count: int, symbols: int = 1) -> Iterable[tuple[Half, Half]]:
        """Give the true book of every symbol after `count` updates of all of them."""
        return (self.book(count, at, symbols) for at in range(symbols))

    def book(self, count: int, at: int = 0, symbols: int = 1) -> tuple[Half, Half]:
        """Give the true book of symbol `at` after `count` updates of all of them."""
        bids, asks = dict(self._first[0]), dict(self._first[1])
        for number in range(at, count, symbols)[-POOL:]:
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
