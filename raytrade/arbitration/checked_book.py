"""`CheckedBook`: a book whose every step is proved by the checksum that the venue sends with it.

A checksum covers the best levels only, so a message that changed nothing but deep levels can be missing
unseen. Therefore the book can be built again from a base some messages back: one that comes late takes its
place among them by its venue time.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable

from raytrade.arbitration.books import align, copied, difference_of, unmoved
from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Levels, Side
from raytrade.core.message import Message, decode
from raytrade.core.prices import rescale

Checksum = Callable[[L2Book], int]
Sides = tuple[Levels, Levels]

STEPS_REMEMBERED_MAX = 1024
"""How many messages the base lies behind the book; one that is later still cannot be merged."""

_Step = tuple[Nanos, int, BookDelta]


class CheckedBook:
    """The merged book of one instrument; `ts_venue_ns` is the newest venue time applied.

    `is_window`: the venue sends no deletion for levels that fall out of its depth, and the book is cut to it.
    `fallen` are the levels that the last step cut and did not delete itself, with size 0.
    `base_ns`: venue time of the base; what is older is contained in it.
    """

    def __init__(self, instrument: str, checksum: Checksum, is_window: bool) -> None:
        self.book = L2Book(instrument)
        self.sum = 0
        self.ts_venue_ns: Nanos = 0
        self.base_ns: Nanos = 0
        self.is_window = is_window
        self.fallen: Sides = ((), ())
        self._checksum = checksum
        self._base = self.book
        self._steps: list[_Step] = []
        self._serial = 0

    def proves(self, snapshot: BookSnapshot, is_checked: bool) -> bool:
        """Start anew from the snapshot, unless its own checksum speaks against it."""
        book = L2Book(snapshot.instrument)
        book.apply(snapshot)
        found = self._checksum(book)
        if is_checked and found != snapshot.state_hash:
            return False
        self.book, self.sum, self._base = book, found, copied(book)
        self.ts_venue_ns = self.base_ns = snapshot.ts_venue_ns
        self._steps.clear()
        return True

    def forget_time(self) -> None:
        """The venue's clock was set: what was applied ranks nothing any more."""
        self.ts_venue_ns = self.base_ns = 0
        self._base = copied(self.book)
        self._steps.clear()

    def equals(self, message: Message) -> bool:
        """Tell whether the snapshot is this book, in full depth."""
        book = L2Book(message.instrument)
        snapshot = decode(message)
        assert isinstance(snapshot, BookSnapshot)
        book.apply(snapshot)
        return not any(map(len, difference_of(self.book, book)))

    def contains(self, message: Message) -> bool:
        """Tell whether the base already held the message."""
        if not message.ts_venue_ns or message.ts_venue_ns > self.base_ns:
            return False
        return message.ts_venue_ns < self.base_ns or self._holds(message)

    def advance(self, message: Message) -> bool:
        """Apply the message if its checksum proves that it follows; else leave the book as it was."""
        sides = self._scaled(message)
        before = self._sizes_before(sides)
        self._write(sides)
        cut = self._cut()
        found = self._checksum(self.book)
        if found != message.state_hash:
            self._write(cut)
            self._write(before)
            return False
        self.sum = found
        self.fallen = _deletions(cut[0]), _deletions(cut[1])
        self.ts_venue_ns = max(self.ts_venue_ns, message.ts_venue_ns)
        self._stamp(message)
        insort(self._steps, self._step(message))
        if len(self._steps) > STEPS_REMEMBERED_MAX:
            self._move_base()
        return True

    def merge(self, message: Message) -> Sides | None:
        """Put a message that later ones overtook in its place; give the levels that this changes.

        None if that would contradict what was proved after it.
        """
        step = self._step(message)
        at = bisect_right(self._steps, step)
        book = copied(self._base)
        for _, _, event in (*self._steps[:at], step, *self._steps[at:]):
            self._apply(book, event)
        difference = difference_of(self.book, book)
        if any(difference) and self._checksum(book) != self.sum:
            return None
        self.book = book
        self.fallen = ((), ())
        self._stamp(message)
        self._steps.insert(at, step)
        if len(self._steps) > STEPS_REMEMBERED_MAX:
            self._move_base()
        return difference

    def is_all_of(self, message: Message, sides: Sides) -> bool:
        """Tell whether these levels are those of the message, in any order."""
        return all(map(_is_same, self._scaled(message), sides))

    def _holds(self, message: Message) -> bool:
        """Tell whether the message would change nothing."""
        sides = self._scaled(message)
        return sides == self._sizes_before(sides)

    def _step(self, message: Message) -> _Step:
        self._serial += 1
        event = unmoved(self.book, *message.levels(), message.price_scale, message.size_scale)
        return message.ts_venue_ns, self._serial, event

    def _move_base(self) -> None:
        ts_venue_ns, _, event = self._steps.pop(0)
        self._apply(self._base, event)
        self.base_ns = max(self.base_ns, ts_venue_ns)

    def _apply(self, book: L2Book, event: BookDelta) -> None:
        book.apply(event)
        if self.is_window and book.depth:
            book.cut(book.depth)

    def _scaled(self, message: Message) -> Sides:
        """Give the levels in the book's scale, after bringing the book to the finer one."""
        book = self.book
        align(book, message.price_scale, message.size_scale)
        bids, asks = message.levels()
        factors = 10 ** (book.price_scale - message.price_scale), 10 ** (book.size_scale - message.size_scale)
        if factors == (1, 1):
            return bids, asks
        return rescale(bids, *factors), rescale(asks, *factors)

    def _sizes_before(self, sides: Sides) -> Sides:
        size_at = self.book.size_at
        bids, asks = sides
        return (
            tuple(value for price in bids[::2] for value in (price, size_at(Side.BUY, price))),
            tuple(value for price in asks[::2] for value in (price, size_at(Side.SELL, price))),
        )

    def _write(self, sides: Sides) -> None:
        book = self.book
        book.apply(unmoved(book, *sides, book.price_scale, book.size_scale))

    def _stamp(self, message: Message) -> None:
        book = self.book
        book.id_last, book.epoch = message.id_last, message.epoch
        book.ts_venue_ns, book.ts_recv_ns = message.ts_venue_ns, message.ts_recv_ns

    def _cut(self) -> Sides:
        """Drop what fell out of the venue's window; gives what was dropped."""
        book, depth = self.book, self.book.depth
        if not self.is_window or not depth or len(book) <= depth:
            return (), ()
        sides = [book.levels(side)[depth:] for side in (Side.BUY, Side.SELL)]
        book.cut(depth)
        bids, asks = (tuple(value for level in levels for value in level) for levels in sides)
        return bids, asks


def _deletions(levels: Levels) -> Levels:
    return tuple(value for price in levels[::2] for value in (price, 0))


def _is_same(levels: Levels, others: Levels) -> bool:
    if len(levels) != len(others):
        return False
    return dict(zip(levels[::2], levels[1::2], strict=True)) == dict(zip(others[::2], others[1::2], strict=True))
