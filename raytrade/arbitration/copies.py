"""Messages of lines without common ids: what makes two of them copies, and how a merged one is written."""

from __future__ import annotations

from raytrade.arbitration.checked_book import CheckedBook
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, Flag, Levels
from raytrade.core.message import Message, encode, parse
from raytrade.core.prices import FRACTION_DIGITS_MAX, rescale

Content = tuple[Nanos, int, int]


def content_of(message: Message, is_window: bool) -> Content:
    """Give what makes two messages copies of each other: venue time, checksum and levels in any order and scale.

    Deletions do not count where lines add those of the levels that fell out of the window of their own book.
    """
    factors = (
        10 ** (FRACTION_DIGITS_MAX - message.price_scale),
        10 ** (FRACTION_DIGITS_MAX - message.size_scale),
    )
    sides = tuple(_sorted(rescale(levels, *factors), is_window) for levels in message.levels())
    return message.ts_venue_ns, message.state_hash, hash(sides)


def _sorted(levels: Levels, without_deletions: bool) -> tuple[tuple[int, int], ...]:
    """Give the levels by price; the order of a price that repeats stays."""
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return tuple(sorted((p for p in pairs if p[1] or not without_deletions), key=lambda level: level[0]))


def with_deletions(message: Message, merged: CheckedBook) -> Message:
    """Give the message as it goes out: with its bytes unchanged, unless more fell out of the window than it deletes."""
    message = message.unflagged(Flag.UNAPPLIED) if message.flags & Flag.UNAPPLIED else message
    if not any(merged.fallen):
        return message
    bids, asks = message.levels()
    factors = (
        10 ** (merged.book.price_scale - message.price_scale),
        10 ** (merged.book.size_scale - message.size_scale),
    )
    bids, asks = rescale(bids, *factors) + merged.fallen[0], rescale(asks, *factors) + merged.fallen[1]
    return _rewritten(message, (bids, asks), merged, message.flags)


def spliced(message: Message, levels: tuple[Levels, Levels], merged: CheckedBook) -> Message:
    """Give the message with only these levels; it keeps the ids and the time of what it came from."""
    if merged.is_all_of(message, levels):
        return message.unflagged(Flag.CHECKED).unflagged(Flag.UNAPPLIED).flagged(Flag.SPLICE)
    flags = (message.flags | Flag.SPLICE) & ~(Flag.CHECKED | Flag.UNAPPLIED)
    return _rewritten(message, levels, merged, flags)


def _rewritten(message: Message, levels: tuple[Levels, Levels], merged: CheckedBook, flags: int) -> Message:
    delta = BookDelta(
        instrument=message.instrument,
        id_prev=message.id_prev,
        id_last=message.id_last,
        bids=levels[0],
        asks=levels[1],
        price_scale=merged.book.price_scale,
        size_scale=merged.book.size_scale,
        ts_venue_ns=message.ts_venue_ns,
        ts_recv_ns=message.ts_recv_ns,
        epoch=message.epoch,
        state_hash=message.state_hash,
        flags=flags & ~Flag.WIDE,
    )
    return parse(encode(delta, message.line))
