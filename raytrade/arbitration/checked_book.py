"""`CheckedBook`: a book whose every step is proved by the checksum that the venue sends with it.

A checksum covers the best levels only, so a message that changed nothing but deep levels can be missing unseen.
Therefore the book remembers when each level last changed: a message that comes late is merged level by level.
"""

from __future__ import annotations

from collections.abc import Callable

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Levels, Side
from raytrade.core.message import Message, decode
from raytrade.core.prices import FRACTION_DIGITS_MAX, rescale

Checksum = Callable[[L2Book], int]
_Sides = tuple[Levels, Levels]

CHANGES_REMEMBERED_MAX = 65_536
"""Of how many levels the time of the last change is remembered."""


class CheckedBook:
    """The merged book of one instrument; `ts_venue_ns` is the newest venue time applied.

    `is_window`: the venue sends no deletion for levels that fall out of its depth. The book is cut to that depth;
    `fallen` are the levels that the last step cut and did not delete itself, with size 0.
    """

    def __init__(self, instrument: str, checksum: Checksum, is_window: bool) -> None:
        self.book = L2Book(instrument)
        self.sum = 0
        self.ts_venue_ns: Nanos = 0
        self.base_ns: Nanos = 0
        self.is_window = is_window
        self.fallen: _Sides = ((), ())
        self._checksum = checksum
        self._changes: dict[tuple[Side, int], Nanos] = {}

    def proves(self, snapshot: BookSnapshot, is_checked: bool) -> bool:
        """Start anew from the snapshot, unless its own checksum speaks against it."""
        book = L2Book(snapshot.instrument)
        book.apply(snapshot)
        found = self._checksum(book)
        if is_checked and found != snapshot.state_hash:
            return False
        self.book, self.sum = book, found
        self.ts_venue_ns = self.base_ns = snapshot.ts_venue_ns
        self._changes.clear()
        return True

    def forget_time(self) -> None:
        """The venue's clock was set: what was applied ranks nothing any more."""
        self.ts_venue_ns = self.base_ns = 0
        self._changes.clear()

    def equals(self, message: Message) -> bool:
        """Tell whether the snapshot is this book, in full depth."""
        book = L2Book(message.instrument)
        self._scaled(message)
        mine = self.book
        book.apply(
            BookSnapshot(
                instrument=message.instrument,
                id_last=message.id_last,
                bids=(),
                asks=(),
                price_scale=mine.price_scale,
                size_scale=mine.size_scale,
            )
        )
        snapshot = decode(message)
        assert isinstance(snapshot, BookSnapshot)
        book.apply(snapshot)
        return not any(mine.difference(book))

    def contains(self, message: Message) -> bool:
        """Tell whether the snapshot that the book began with already held the message."""
        if not message.ts_venue_ns or message.ts_venue_ns > self.base_ns:
            return False
        return message.ts_venue_ns < self.base_ns or not any(map(len, self._news(message)))

    def advance(self, message: Message) -> bool:
        """Apply the message if its checksum proves that it follows; else leave the book as it was."""
        sides = self._scaled(message)
        if self._try(message, sides, message.state_hash):
            self.ts_venue_ns = max(self.ts_venue_ns, message.ts_venue_ns)
            return True
        return False

    def merge(self, message: Message) -> _Sides | None:
        """Merge a message that later ones overtook; give the levels it still changes.

        None if that would contradict what was proved after it.
        """
        sides = self._unchanged_since(message)
        return sides if self._try(message, sides, self.sum) else None

    def _scaled(self, message: Message) -> _Sides:
        """Give the levels in the book's scale, after bringing the book to the finer one."""
        book = self.book
        if message.price_scale > book.price_scale or message.size_scale > book.size_scale:
            self._write(((), ()), message.price_scale, message.size_scale)
        bids, asks = message.levels()
        factors = 10 ** (book.price_scale - message.price_scale), 10 ** (book.size_scale - message.size_scale)
        if factors == (1, 1):
            return bids, asks
        return rescale(bids, *factors), rescale(asks, *factors)

    def _news(self, message: Message) -> _Sides:
        """Give the levels that are not in the book as the message has them."""
        book = self.book
        bids, asks = self._scaled(message)
        return (
            _filtered(bids, lambda price, size: book.size_at(Side.BUY, price) != size),
            _filtered(asks, lambda price, size: book.size_at(Side.SELL, price) != size),
        )

    def _unchanged_since(self, message: Message) -> _Sides:
        changes, at_ns = self._changes, message.ts_venue_ns
        bids, asks = self._scaled(message)
        factor = self._factor()
        return (
            _filtered(bids, lambda price, _: changes.get((Side.BUY, price * factor), -1) < at_ns),
            _filtered(asks, lambda price, _: changes.get((Side.SELL, price * factor), -1) < at_ns),
        )

    def _try(self, message: Message, sides: _Sides, wanted: int) -> bool:
        before = self._sizes_before(sides)
        if any(sides):
            self._write(sides)
        cut = self._cut()
        found = self._checksum(self.book) if any(sides) else self.sum
        if found != wanted:
            self._write(cut)
            self._write(before)
            return False
        self.sum = found
        self.fallen = _deletions(cut[0]), _deletions(cut[1])
        self._remember(sides, message.ts_venue_ns)
        book = self.book
        book.id_last, book.epoch = message.id_last, message.epoch
        book.ts_venue_ns, book.ts_recv_ns = message.ts_venue_ns, message.ts_recv_ns
        return True

    def _sizes_before(self, sides: _Sides) -> _Sides:
        size_at = self.book.size_at
        bids, asks = sides
        return (
            tuple(value for price in bids[::2] for value in (price, size_at(Side.BUY, price))),
            tuple(value for price in asks[::2] for value in (price, size_at(Side.SELL, price))),
        )

    def _write(self, sides: _Sides, price_scale: int | None = None, size_scale: int | None = None) -> None:
        book = self.book
        book.apply(
            BookDelta(
                instrument=book.instrument,
                id_prev=book.id_last,
                id_last=book.id_last,
                bids=sides[0],
                asks=sides[1],
                price_scale=book.price_scale if price_scale is None else price_scale,
                size_scale=book.size_scale if size_scale is None else size_scale,
                ts_venue_ns=book.ts_venue_ns,
                ts_recv_ns=book.ts_recv_ns,
                epoch=book.epoch,
            )
        )

    def _cut(self) -> _Sides:
        """Drop what fell out of the venue's window; gives what was dropped."""
        book, depth = self.book, self.book.depth
        if not self.is_window or not depth or len(book) <= depth:
            return (), ()
        sides = [book.levels(side)[depth:] for side in (Side.BUY, Side.SELL)]
        book.cut(depth)
        bids, asks = (tuple(value for level in levels for value in level) for levels in sides)
        return bids, asks

    def _factor(self) -> int:
        return int(10 ** (FRACTION_DIGITS_MAX - self.book.price_scale))

    def _remember(self, sides: _Sides, ts_venue_ns: Nanos) -> None:
        changes, factor = self._changes, self._factor()
        for side, levels in zip((Side.BUY, Side.SELL), sides, strict=True):
            for price in levels[::2]:
                key = (side, price * factor)
                changes.pop(key, None)
                changes[key] = ts_venue_ns
        while len(changes) > CHANGES_REMEMBERED_MAX:
            oldest = next(iter(changes))
            self.base_ns = max(self.base_ns, changes.pop(oldest))


def _filtered(levels: Levels, keep: Callable[[int, int], bool]) -> Levels:
    pairs = iter(levels)
    kept: list[int] = []
    for price, size in zip(pairs, pairs, strict=True):
        if keep(price, size):
            kept += (price, size)
    return tuple(kept)


def _deletions(levels: Levels) -> Levels:
    return tuple(value for price in levels[::2] for value in (price, 0))
