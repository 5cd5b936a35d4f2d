"""Small operations on whole books that the arbiters of lead streams share."""

from __future__ import annotations

from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, Flag, Levels


def align(book: L2Book, price_scale: int, size_scale: int) -> None:
    """Bring the book to scales at least as fine as these."""
    if price_scale > book.price_scale or size_scale > book.size_scale:
        book.apply(unmoved(book, (), (), price_scale, size_scale))


def unmoved(book: L2Book, bids: Levels, asks: Levels, price_scale: int, size_scale: int) -> BookDelta:
    """Give a delta with these levels that leaves the book's ids and times as they are."""
    return BookDelta(
        instrument=book.instrument,
        id_prev=book.id_last,
        id_last=book.id_last,
        bids=bids,
        asks=asks,
        price_scale=price_scale,
        size_scale=size_scale,
        ts_venue_ns=book.ts_venue_ns,
        ts_recv_ns=book.ts_recv_ns,
        epoch=book.epoch,
    )


def copied(book: L2Book) -> L2Book:
    """Give a second book with the same levels."""
    copy = L2Book(book.instrument)
    copy.apply(book.snapshot(Flag(0)))
    return copy


def difference_of(left: L2Book, book: L2Book) -> tuple[Levels, Levels]:
    """Give the levels that turn `left` into `book`, after bringing `book` to the finer scale of the two."""
    align(book, left.price_scale, left.size_scale)
    return left.difference(book)
