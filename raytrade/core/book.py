"""`L2Book`: the market by price of one instrument, exact, with the best level at the end of a sorted list.

The book is usable only while its state is LIVE: `top()` is None in every other state. It keeps its own
scales and follows an event that is written finer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import Enum
from typing import Final
from zlib import crc32

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Levels, Side
from raytrade.core.message import Kind, Message
from raytrade.core.native import NATIVE
from raytrade.core.prices import FRACTION_DIGITS_MAX, POWERS, format_decimal, rescale
from raytrade.errors import InvariantError

GUARD_LEVELS = 25
"""Levels a side that the production guard compares (design: top-25 hash)."""
MANY_VALUES = 64
"""From so many values on (two a level) the levels of one side are first reduced to the last size of each price."""


class BookState(Enum):
    """SYNCING: no snapshot yet. LIVE: equal to the venue's at `id_last`. STALE: was live, is not now."""

    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"


LIVE: Final = BookState.LIVE
_UNAPPLIED, _DELTA = int(Flag.UNAPPLIED), Kind.DELTA


class Top(msgspec.Struct, frozen=True, gc=False):
    """The best level of each side, exact in integers and as floats for arithmetic in strategies."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    price_scale: int
    size_scale: int

    @property
    def bid(self) -> float:
        """Best bid price."""
        return self.bid_ticks / POWERS[self.price_scale]

    @property
    def ask(self) -> float:
        """Best ask price."""
        return self.ask_ticks / POWERS[self.price_scale]

    @property
    def bid_size(self) -> float:
        """Size at the best bid."""
        return self.bid_lots / POWERS[self.size_scale]

    @property
    def ask_size(self) -> float:
        """Size at the best ask."""
        return self.ask_lots / POWERS[self.size_scale]

    @property
    def mid(self) -> float:
        """Half-way between best bid and best ask."""
        return (self.bid_ticks + self.ask_ticks) / (2 * POWERS[self.price_scale])

    @property
    def spread(self) -> float:
        """Best ask less best bid."""
        return (self.ask_ticks - self.bid_ticks) / POWERS[self.price_scale]


class _HalfBook:
    """One side: sizes by price, and the prices as sorted keys whose last element is the best one."""

    __slots__ = ("keys", "sign", "sizes")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.sizes: dict[int, int] = {}
        self.keys: list[int] = []

    def replace(self, levels: Levels) -> None:
        pairs = iter(levels)
        last = dict(zip(pairs, pairs, strict=True))
        self.sizes = {price: size for price, size in last.items() if size}
        self.keys = sorted(self.sign * price for price in self.sizes)

    def apply(self, levels: Sequence[int]) -> None:
        sizes, keys, sign = self.sizes, self.keys, self.sign
        is_short = len(levels) <= MANY_VALUES
        if is_short and NATIVE is not None and NATIVE.move_side(sizes, keys, sign, levels):
            return
        pairs = iter(levels)
        changes: Iterable[tuple[int, int]] = zip(pairs, pairs, strict=True)
        if not is_short:
            changes = dict(changes).items()
        for price, size in changes:
            if size:
                if price not in sizes:
                    insort(keys, sign * price)
                sizes[price] = size
            elif sizes.pop(price, 0):
                del keys[bisect_left(keys, sign * price)]

    def cut(self, depth: int) -> Levels:
        """Drop the levels beyond the best `depth`; give the deletions that do the same elsewhere."""
        surplus = len(self.keys) - depth
        if surplus <= 0:
            return ()
        prices = [self.sign * key for key in self.keys[:surplus]]
        del self.keys[:surplus]
        for price in prices:
            del self.sizes[price]
        return tuple(value for price in prices for value in (price, 0))

    def best(self, count: int) -> list[tuple[int, int]]:
        sign, sizes = self.sign, self.sizes
        keys = self.keys[-count:] if count else self.keys
        return [(sign * key, sizes[sign * key]) for key in reversed(keys)]

    def scale(self, price_factor: int, size_factor: int) -> None:
        self.sizes = {price * price_factor: size * size_factor for price, size in self.sizes.items()}
        self.keys = [key * price_factor for key in self.keys]


class L2Book:
    """The book of `instrument`, moved by snapshots and deltas; continuity is checked by the arbiter before it."""

    __slots__ = (
        "_asks",
        "_bids",
        "depth",
        "epoch",
        "id_last",
        "instrument",
        "price_scale",
        "size_scale",
        "state",
        "ts_recv_ns",
        "ts_venue_ns",
    )

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self.state = BookState.SYNCING
        self.id_last = 0
        self.epoch = 0
        self.depth = 0
        self.price_scale = 0
        self.size_scale = 0
        self.ts_venue_ns: Nanos = 0
        self.ts_recv_ns: Nanos = 0
        self._bids = _HalfBook(1)
        self._asks = _HalfBook(-1)

    def apply(self, event: BookSnapshot | BookDelta) -> None:
        """Take the event in; a snapshot makes the book LIVE, a delta moves it (a delta flagged UNAPPLIED does not)."""
        if event.flags & _UNAPPLIED:
            return
        self._move(event, type(event) is BookDelta, event.bids, event.asks)

    def take(self, message: Message) -> None:
        """Take the event of a book's message in, as `apply` does, without building it."""
        if message.flags & _UNAPPLIED:
            return
        bids, asks = message.levels()
        self._move(message, message.kind is _DELTA, bids, asks)

    def _move(self, head: BookSnapshot | BookDelta | Message, is_delta: bool, bids: Levels, asks: Levels) -> None:
        if head.price_scale != self.price_scale or head.size_scale != self.size_scale:
            bids, asks = self._align(head, bids, asks)
        if is_delta:
            self._bids.apply(bids)
            self._asks.apply(asks)
        else:
            self._bids.replace(bids)
            self._asks.replace(asks)
            self.depth = head.depth  # type: ignore[union-attr]
            self.state = BookState.LIVE
        self.id_last = head.id_last
        self.epoch = head.epoch
        self.ts_venue_ns = head.ts_venue_ns
        self.ts_recv_ns = head.ts_recv_ns

    def _align(self, head: BookSnapshot | BookDelta | Message, bids: Levels, asks: Levels) -> tuple[Levels, Levels]:
        """Bring the book to the finer scale of the two, and the levels with it."""
        price_scale = max(self.price_scale, head.price_scale)
        size_scale = max(self.size_scale, head.size_scale)
        price_factor, size_factor = 10 ** (price_scale - self.price_scale), 10 ** (size_scale - self.size_scale)
        if price_factor != 1 or size_factor != 1:
            self._bids.scale(price_factor, size_factor)
            self._asks.scale(price_factor, size_factor)
            self.price_scale, self.size_scale = price_scale, size_scale
        factors = 10 ** (price_scale - head.price_scale), 10 ** (size_scale - head.size_scale)
        return rescale(bids, *factors), rescale(asks, *factors)

    def invalidate(self) -> None:
        """The stream has a hole: not usable until the next snapshot."""
        if self.state is LIVE:
            self.state = BookState.STALE

    def revalidate(self) -> None:
        """What was doubted turned out to be whole: usable again as it is."""
        if self.state is BookState.STALE:
            self.state = BookState.LIVE

    def cut(self, depth: int) -> tuple[Levels, Levels]:
        """Keep only the best `depth` levels a side, for venues that send no delete for levels that fall out.

        Gives the deletions (bids, asks) that make the same cut in another book.
        """
        return self._bids.cut(depth), self._asks.cut(depth)

    def top(self) -> Top | None:
        """Give the best level of both sides; None unless LIVE with both sides present."""
        bids, asks = self._bids, self._asks
        if self.state is not LIVE or not bids.keys or not asks.keys:
            return None
        bid, ask = bids.keys[-1], -asks.keys[-1]
        return Top(bid, bids.sizes[bid], ask, asks.sizes[ask], self.price_scale, self.size_scale)

    def levels(self, side: Side, count: int = 0) -> list[tuple[int, int]]:
        """Give (price, size) integers, best first; `count` 0 gives all, whatever the state."""
        return (self._bids if side is Side.BUY else self._asks).best(count)

    def decimals(self, side: Side, count: int = 0) -> list[tuple[Decimal, Decimal]]:
        """Give exact (price, size), best first."""
        return [(Decimal(price), Decimal(size)) for price, size in self.texts(side, count)]

    def texts(self, side: Side, count: int = 0) -> list[tuple[str, str]]:
        """Give (price, size) as canonical decimal text, best first."""
        price_scale, size_scale = self.price_scale, self.size_scale
        return [
            (format_decimal(price, price_scale), format_decimal(size, size_scale))
            for price, size in self.levels(side, count)
        ]

    def size_at(self, side: Side, price: int) -> int:
        """Give the size at a price, 0 where there is none."""
        return (self._bids if side is Side.BUY else self._asks).sizes.get(price, 0)

    def __len__(self) -> int:
        return len(self._bids.keys) + len(self._asks.keys)

    def state_hash(self, count: int = GUARD_LEVELS) -> int:
        """Give the CRC32 of the best `count` levels a side (0: all), the same in every scale."""
        price_factor = 10 ** (FRACTION_DIGITS_MAX - self.price_scale)
        size_factor = 10 ** (FRACTION_DIGITS_MAX - self.size_scale)
        rows = [
            [(price * price_factor, size * size_factor) for price, size in half.best(count)]
            for half in (self._bids, self._asks)
        ]
        return crc32(repr(rows).encode())

    def snapshot(self, flags: int = Flag.IMAGE) -> BookSnapshot:
        """Give the whole book as one event (an image, unless told otherwise)."""
        return BookSnapshot(
            instrument=self.instrument,
            id_last=self.id_last,
            bids=tuple(value for row in self._bids.best(0) for value in row),
            asks=tuple(value for row in self._asks.best(0) for value in row),
            price_scale=self.price_scale,
            size_scale=self.size_scale,
            ts_venue_ns=self.ts_venue_ns,
            ts_recv_ns=self.ts_recv_ns,
            epoch=self.epoch,
            depth=self.depth,
            flags=flags,
        )

    def difference(self, other: L2Book) -> tuple[Levels, Levels]:
        """Give the bids and asks that turn this book into `other`, both in `other`'s scale.

        Raises:
            InvariantError: the other book is coarser; align them first.
        """
        price_factor = _factor(self.price_scale, other.price_scale)
        size_factor = _factor(self.size_scale, other.size_scale)
        sides = ((self._bids, other._bids), (self._asks, other._asks))
        bids, asks = (_half_difference(mine, theirs, price_factor, size_factor) for mine, theirs in sides)
        return bids, asks

    def is_crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask."""
        return bool(self._bids.keys and self._asks.keys) and self._bids.keys[-1] >= -self._asks.keys[-1]

    def validate(self) -> None:
        """Check the inner structure.

        Raises:
            InvariantError: keys and sizes disagree, or keys are not sorted.
        """
        for half in (self._bids, self._asks):
            if half.keys != sorted(half.sign * price for price in half.sizes):
                raise InvariantError(f"{self.instrument}: prices and sizes disagree at {self.id_last}")
            if any(size <= 0 for size in half.sizes.values()):
                raise InvariantError(f"{self.instrument}: a level without size at {self.id_last}")


def _factor(scale: int, finer: int) -> int:
    if finer < scale:
        raise InvariantError(f"scale {finer} is coarser than {scale}")
    return int(10 ** (finer - scale))


def _half_difference(mine: _HalfBook, theirs: _HalfBook, price_factor: int, size_factor: int) -> Levels:
    held = {price * price_factor: size * size_factor for price, size in mine.sizes.items()}
    changes: list[int] = []
    for price in held:
        if price not in theirs.sizes:
            changes += (price, 0)
    for price, size in theirs.sizes.items():
        if held.get(price) != size:
            changes += (price, size)
    return tuple(changes)
