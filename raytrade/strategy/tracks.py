"""`Track`: what an engine knows of one instrument, and how far its book can be relied upon. Pure."""

from __future__ import annotations

from raytrade.core.book import BookState, L2Book
from raytrade.core.events import Channel
from raytrade.strategy.base import Quality
from raytrade.strategy.lines import VenueLines
from raytrade.strategy.statistics import InstrumentCounts

HELD_SHARE = 0.5
"""What is left of the quality while something is held back."""


class Track:
    """One instrument: its book and what is known about it."""

    __slots__ = ("book", "counts", "doubt", "is_held", "lines", "quality")

    def __init__(self, book: L2Book, lines: VenueLines) -> None:
        self.book = book
        self.counts = InstrumentCounts()
        self.lines = lines
        self.quality = Quality(instrument=book.instrument, value=0.0, copies_left=lines.left, reason="no snapshot yet")
        self.doubt = ""
        self.is_held = False

    def suspect(self, channel: Channel, why: str) -> None:
        """The book can not be used any more, if it is the book that is in doubt."""
        if channel is Channel.BOOK:
            self.doubt, self.is_held = why, False
            self.book.invalidate()


def quality_of(track: Track) -> Quality:
    """Work out how good the instrument's book is now."""
    book, lines, left = track.book, track.lines, track.lines.left
    value = lines.share() if book.state is BookState.LIVE else 0.0
    match book.state:
        case BookState.LIVE if track.is_held:
            value *= HELD_SHARE
            reason = "an update is held back, others that follow on may be missing"
        case BookState.LIVE:
            reason = f"{left} of {lines.most} lines up" if lines.most else "no word of lines"
        case BookState.STALE:
            reason = track.doubt
        case BookState.SYNCING:
            reason = "no snapshot yet"
    return Quality(instrument=book.instrument, value=value, copies_left=left, reason=reason)
