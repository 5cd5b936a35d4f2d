"""What our orders have taken of the displayed sizes, so that no size is taken twice."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from raytrade.core.book import L2Book
from raytrade.core.events import Side

_LEVELS_AT_FIRST = 16


class Shown:
    """What our orders have taken of one side of a book: price -> (size shown then, quantity taken)."""

    __slots__ = ("price_scale", "side", "size_scale", "taken")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.price_scale = self.size_scale = 0
        self.taken: dict[int, tuple[int, Decimal]] = {}

    def refresh(self, book: L2Book) -> None:
        """Follow the book's scale, and forget the levels whose size has changed."""
        price_factor = 10 ** (book.price_scale - self.price_scale)
        size_factor = 10 ** (book.size_scale - self.size_scale)
        self.price_scale, self.size_scale = book.price_scale, book.size_scale
        self.taken = {
            price * price_factor: (size * size_factor, quantity)
            for price, (size, quantity) in self.taken.items()
            if book.size_at(self.side, price * price_factor) == size * size_factor
        }

    def left(self, price: int, size: int) -> Decimal:
        """Give what can still be had of a level."""
        shown = Decimal(size).scaleb(-self.size_scale)
        taken = self.taken.get(price)
        return shown if taken is None else shown - taken[1]

    def take(self, price: int, size: int, quantity: Decimal) -> None:
        """Note that `quantity` of the level is gone."""
        taken = self.taken.get(price)
        self.taken[price] = (size, quantity if taken is None else taken[1] + quantity)

    def is_overdrawn(self) -> bool:
        """Tell whether more was taken of a level than it showed."""
        return any(taken > Decimal(size).scaleb(-self.size_scale) for size, taken in self.taken.values())


def walk(book: L2Book, side: Side) -> Iterator[tuple[int, int]]:
    """Give a side's levels, best first, reading no more of them than are asked for."""
    given, count = 0, _LEVELS_AT_FIRST
    while True:
        levels = book.levels(side, count)
        yield from levels[given:]
        if len(levels) < count:
            return
        given, count = count, count * 8
