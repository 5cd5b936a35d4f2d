"""A seeded synthetic market: the true books, their updates and the public trades.

Invariant: a book is never crossed, ids of a symbol strictly rise, and the same seed gives the
same steps whatever the speed at which they are asked for. Pure: no clock, no socket. Called by
the synthetic feed, which renders the steps for its clients.
"""

from __future__ import annotations

import enum
import random
from bisect import bisect_left, insort
from collections.abc import Sequence

import msgspec

BASE_PRICE = 5_000_000
"""Middle price at the start, in units of the price scale."""
PRICE_BAND = 400
"""Furthest walk of the middle price from its start, in ticks: it bounds the size of a book."""
SIZE_POOL = 4_000
"""Number of distinct sizes the market uses, so that their texts are worth caching."""
NOOP_SHARE = 0.03
"""Share of listed levels that repeat an unchanged size, where the venue does so."""
LEVELS_MIN = 3
"""A side never has fewer levels than this."""


class IdRule(enum.Enum):
    """How a venue numbers the states of a book."""

    SINGLE = "single"
    """Each message is one higher than the one before."""
    RANGE = "range"
    """Each message covers a range that starts right after the one before."""
    SPARSE = "sparse"
    """Ids jump, as one counter serves every symbol of the venue."""


class Level(msgspec.Struct, frozen=True, gc=False):
    """An absolute size at a price, both as integers in the scales of the market; 0 removes."""

    is_bid: bool
    price: int
    size: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One public print; `aggressor_buys` says which side took."""

    symbol: str
    trade_id: int
    price: int
    size: int
    aggressor_buys: bool


class Step(msgspec.Struct, frozen=True, gc=False):
    """One update of one book: from the state `id_prev` to the state `id_last`.

    `id_first` is the first id inside the update, where a venue prints it. `is_merged` marks a
    step that was merged from several.
    """

    symbol: str
    id_prev: int
    id_first: int
    id_last: int
    levels: tuple[Level, ...]
    trade: Trade | None = None
    is_merged: bool = False


class MarketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What shapes a market; counts, not units.

    `levels` is the number of levels drawn per update (crossing levels that have to go come on
    top), `depth` the number of price ticks per side that the book is drawn from.
    """

    symbols: tuple[str, ...]
    seed: int = 1
    levels: int = 8
    depth: int = 100
    trades_share: float = 0.1
    id_rule: IdRule = IdRule.RANGE
    is_touched: bool = True


class SideBook:
    """One side of a true book: sizes by price, and the prices in rising order."""

    __slots__ = ("prices", "sizes")

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.prices: list[int] = []

    def apply(self, price: int, size: int) -> None:
        """Set the absolute size at a price; 0 removes, and removing what is absent is allowed."""
        if size:
            if price not in self.sizes:
                insort(self.prices, price)
            self.sizes[price] = size
        elif price in self.sizes:
            del self.sizes[price]
            del self.prices[bisect_left(self.prices, price)]


class SymbolBook:
    """The true book of one symbol, with the id of its state."""

    __slots__ = ("asks", "bids", "id_last", "symbol")

    def __init__(self, symbol: str, id_last: int) -> None:
        self.symbol = symbol
        self.id_last = id_last
        self.bids = SideBook()
        self.asks = SideBook()

    def apply(self, levels: Sequence[Level], id_last: int) -> None:
        """Move the book to the state `id_last`."""
        for level in levels:
            (self.bids if level.is_bid else self.asks).apply(level.price, level.size)
        self.id_last = id_last

    def best_bids(self, depth: int | None = None) -> list[tuple[int, int]]:
        """List (price, size) of the best bids, best first."""
        prices = self.bids.prices if depth is None else self.bids.prices[-depth:]
        sizes = self.bids.sizes
        return [(price, sizes[price]) for price in reversed(prices)]

    def best_asks(self, depth: int | None = None) -> list[tuple[int, int]]:
        """List (price, size) of the best asks, best first."""
        sizes = self.asks.sizes
        return [(price, sizes[price]) for price in self.asks.prices[:depth]]

    @property
    def is_crossed(self) -> bool:
        """Tell whether the best bid reaches the best ask."""
        return bool(self.bids.prices and self.asks.prices and self.bids.prices[-1] >= self.asks.prices[0])


class SymbolMarket:
    """Draws the updates of one symbol from its own seeded source."""

    __slots__ = ("_middle", "_rng", "_settings", "_start", "_trade_id", "book")

    def __init__(self, symbol: str, index: int, settings: MarketSettings) -> None:
        self._settings = settings
        self._rng = random.Random(f"{settings.seed}:{symbol}")
        self._start = self._middle = BASE_PRICE + 1_000 * index
        self._trade_id = 1_000_000 * (index + 1)
        self.book = SymbolBook(symbol, 0)
        opening = [
            Level(is_bid, self._price(is_bid, offset), self._size())
            for is_bid in (True, False)
            for offset in range(settings.depth)
        ]
        self.book.apply(opening, 1_000_000 * (index + 1))

    def draw(self) -> tuple[tuple[Level, ...], Trade | None]:
        """Draw the next change and apply it to the true book; the caller sets the id after."""
        levels: dict[tuple[bool, int], int] = {}
        if self._rng.random() < 0.2:
            self._walk(levels)
        while len(levels) < self._settings.levels and self._rng.random() < 0.95:
            self._touch(levels)
        if not levels:
            self._touch(levels, force=True)
        listed = tuple(Level(is_bid, price, size) for (is_bid, price), size in levels.items())
        self.book.apply(listed, self.book.id_last)
        return listed, self._trade()

    def _price(self, is_bid: bool, offset: int) -> int:
        return self._middle - 1 - offset if is_bid else self._middle + offset

    def _size(self) -> int:
        return 1 + int(self._rng.random() * SIZE_POOL) * 2_503

    def _walk(self, levels: dict[tuple[bool, int], int]) -> None:
        up = self._rng.random() < 0.5
        moved = self._middle + (1 if up else -1)
        if abs(moved - self._start) > PRICE_BAND:
            return
        self._middle = moved
        is_bid = not up
        side = self.book.bids if is_bid else self.book.asks
        crossing = moved if is_bid else moved - 1
        if crossing in side.sizes:
            levels[is_bid, crossing] = 0
            behind = self._price(is_bid, 0)
            levels[is_bid, behind] = side.sizes.get(behind, 0) + self._size()

    def _touch(self, levels: dict[tuple[bool, int], int], force: bool = False) -> None:
        draw = self._rng.random
        is_bid = draw() < 0.5
        price = self._price(is_bid, int(draw() * draw() * self._settings.depth))
        side = self.book.bids if is_bid else self.book.asks
        present = side.sizes.get(price, 0)
        if self._settings.is_touched and not force and draw() < NOOP_SHARE:
            size = present
        elif present and draw() < 0.4 and self._may_remove(side, levels):
            size = 0
        else:
            size = self._size()
        if (is_bid, price) in levels:
            return
        if size == present and not self._settings.is_touched:
            size += 1
        levels[is_bid, price] = size

    @staticmethod
    def _may_remove(side: SideBook, levels: dict[tuple[bool, int], int]) -> bool:
        return len(side.sizes) - len(levels) > LEVELS_MIN

    def _trade(self) -> Trade | None:
        if self._rng.random() >= self._settings.trades_share:
            return None
        self._trade_id += 1
        buys = self._rng.random() < 0.5
        price = self._price(not buys, 0)
        return Trade(self.book.symbol, self._trade_id, price, self._size(), buys)


class Market:
    """All symbols of a venue; each call of `step` makes the next update, in turn by symbol."""

    def __init__(self, settings: MarketSettings) -> None:
        self.settings = settings
        self._rng = random.Random(f"{settings.seed}:ids")
        self._symbols = [SymbolMarket(symbol, index, settings) for index, symbol in enumerate(settings.symbols)]
        self.books = {market.book.symbol: market.book for market in self._symbols}
        self._shared_id = max(book.id_last for book in self.books.values())
        self.steps_made = 0

    def step(self) -> Step:
        """Make the next update and apply it to the true book."""
        market = self._symbols[self.steps_made % len(self._symbols)]
        self.steps_made += 1
        book = market.book
        id_prev = book.id_last
        levels, trade = market.draw()
        id_first, id_last = self._next_ids(id_prev, len(levels))
        book.id_last = id_last
        return Step(book.symbol, id_prev, id_first, id_last, levels, trade)

    def _next_ids(self, id_prev: int, levels: int) -> tuple[int, int]:
        if self.settings.id_rule is IdRule.SINGLE:
            return id_prev + 1, id_prev + 1
        if self.settings.id_rule is IdRule.RANGE:
            return id_prev + 1, id_prev + max(levels, 1)
        first = self._shared_id + 1 + int(self._rng.random() * 40)
        self._shared_id = first + levels
        return first, self._shared_id
