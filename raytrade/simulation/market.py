"""`Market`: the true book and trades of one instrument, and every state it ever had.

State n of a book is the book after change number n; nothing else in the simulation knows better.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from raytrade.core.clock import Nanos
from raytrade.core.prices import format_decimal

PRICE_SCALE = 2
SIZE_SCALE = 3
MID_TICKS = 10_000
REACH_TICKS = 24
"""Prices lie at most this far from the middle."""
LEVELS_AT_START = 12
TRADES_RESENT = 10
"""How many past trades a venue sends on a new subscription."""

Row = tuple[int, int]
State = tuple[list[Row], list[Row]]
"""Bids and asks as (price, size), the best first."""


class Print(NamedTuple):
    """One trade of the venue."""

    number: int
    price: int
    size: int
    is_buy: bool
    ts_venue_ns: Nanos


class Market:
    """The venue's own book: changes one after the other, each of one to three levels."""

    def __init__(self, rng: random.Random, *, dense: bool, start_ns: Nanos) -> None:
        self._random = rng
        self._dense = dense
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for side in (0, 1):
            for offset in rng.sample(range(1, REACH_TICKS), LEVELS_AT_START):
                self._sides[side][self._price(side, offset)] = rng.randint(1, 9_999)
        self.id_first = self.id_last = rng.randint(1_000, 2_000_000)
        self._states: list[State] = [self._state_now()]
        self._times: list[Nanos] = [start_ns]
        self._touched: list[tuple[tuple[int, int], ...]] = [()]
        self.prints: list[Print] = []
        self._trade_number = rng.randint(1, 500_000)

    @staticmethod
    def _price(side: int, offset: int) -> int:
        return MID_TICKS + (offset if side else -offset)

    def _state_now(self) -> State:
        bids, asks = self._sides
        return sorted(bids.items(), reverse=True), sorted(asks.items())

    # What the market does.

    def advance(self, now_ns: Nanos) -> None:
        """Make one change."""
        rng = self._random
        touched = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            side = rng.randrange(2)
            price = self._price(side, min(rng.randint(1, REACH_TICKS), rng.randint(1, REACH_TICKS)))
            rows = self._sides[side]
            if price in rows and len(rows) > LEVELS_AT_START // 2 and rng.random() < 0.45:
                del rows[price]
            else:
                rows[price] = rng.randint(1, 9_999)
            touched.append((side, price))
        self.id_last += 1
        self._touched.append(tuple(touched))
        self._states.append(self._state_now())
        self._times.append(now_ns)

    def trade(self, now_ns: Nanos) -> Print:
        """Make one trade."""
        rng = self._random
        self._trade_number += 1 if self._dense else rng.randint(1, 40)
        print_ = Print(self._trade_number, MID_TICKS, rng.randint(1, 9_999), rng.random() < 0.5, now_ns)
        self.prints.append(print_)
        return print_

    # What it was.

    def state(self, number: int) -> State:
        """Give the book after change `number`."""
        return self._states[number - self.id_first]

    def knows(self, number: int) -> bool:
        """Tell whether there was such a state."""
        return self.id_first <= number <= self.id_last

    def at_ns(self, number: int) -> Nanos:
        """Give the time of change `number`."""
        return self._times[number - self.id_first]

    def window(self, after: int, last: int) -> tuple[list[Row], list[Row]]:
        """Give every level touched in ``(after, last]`` with its size at `last`, 0 where it is gone."""
        state = self.state(last)
        sizes = (dict(state[0]), dict(state[1]))
        sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for touched in self._touched[after - self.id_first + 1 : last - self.id_first + 1]:
            for side, price in touched:
                sides[side][price] = sizes[side].get(price, 0)
        return list(sides[0].items()), list(sides[1].items())

    def cut_window(self, number: int, depth: int) -> tuple[list[Row], list[Row]]:
        """Give change `number` as a venue sends it that shows `depth` levels: what falls out is not deleted."""
        before, after, full = self.state(number - 1), self.state(number), self.state(number)
        changed: list[list[Row]] = []
        for side in (0, 1):
            old, new, all_now = dict(before[side][:depth]), dict(after[side][:depth]), dict(full[side])
            rows = [(price, 0) for price in old if price not in all_now]
            changed.append(rows + [(price, size) for price, size in new.items() if old.get(price) != size])
        return changed[0], changed[1]


def price_text(value: int, *, trimmed: bool = False) -> str:
    """Write a price with all digits of the market's precision, or without trailing zeros."""
    return format_decimal(value, PRICE_SCALE) if trimmed else f"{value // 100}.{value % 100:02d}"


def size_text(value: int, *, trimmed: bool = False) -> str:
    """Write a size with all digits of the market's precision, or without trailing zeros."""
    return format_decimal(value, SIZE_SCALE) if trimmed else f"{value // 1000}.{value % 1000:03d}"
