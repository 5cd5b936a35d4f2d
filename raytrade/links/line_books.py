"""`LineBooks`: what a collector knows of its lines, to open links with: which are up, and books that came in band.

A line's book is good only as long as the line's own numbering has no hole: what other lines fill is filled in the
arbiter, not here.
"""

from __future__ import annotations

import msgspec

from raytrade.arbitration import StreamRule
from raytrade.arbitration.stream import RuleBook
from raytrade.core.book import LIVE, L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, LineDown, LineUp
from raytrade.core.instrument import Filter
from raytrade.core.members import UNAPPLIED
from raytrade.core.message import Message, encode, parse


class LineBooks:
    """Follows the events of any number of lines."""

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules
        self._in_band: dict[str, bool] = {}
        self._books: dict[tuple[str, str], L2Book] = {}
        self._up: dict[str, Message] = {}

    def follow(self, line: str, event: Event, message: Message) -> None:
        """Take what a line delivered, as event and as message."""
        match event:
            case BookSnapshot() if self._is_in_band(event.instrument):
                self._book(line, event.instrument).apply(event)
            case BookDelta() if self._is_in_band(event.instrument):
                _advance(self._book(line, event.instrument), event)
            case Gap():
                self._book(line, event.instrument).invalidate()
            case LineUp():
                self._up[line] = message
            case LineDown():
                self._up.pop(line, None)
                for (owner, _), book in self._books.items():
                    if owner == line:
                        book.invalidate()

    def _is_in_band(self, instrument: str) -> bool:
        known = self._in_band.get(instrument)
        if known is None:
            known = self._in_band[instrument] = self._rules(instrument, Channel.BOOK).in_band
        return known

    def _book(self, line: str, instrument: str) -> L2Book:
        key = (line, instrument)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = L2Book(instrument)
        return book

    def images(self, wanted: Filter) -> list[Message]:
        """Give what opens a link: word of the lines that are up, and the books that are good."""
        images = list(self._up.values())
        for (line, instrument), book in self._books.items():
            if book.state is LIVE and wanted.accepts(instrument, Channel.BOOK):
                rule = self._rules(instrument, Channel.BOOK)
                images.append(parse(encode(checked_image(book, rule), line)))
        return images


def _advance(book: L2Book, delta: BookDelta) -> None:
    """Move the book; a delta that does not follow on makes it useless until the next snapshot."""
    if book.state is not LIVE or delta.flags & UNAPPLIED:
        return
    if delta.epoch == book.epoch and delta.id_last <= book.id_last:
        return
    if delta.epoch != book.epoch or delta.id_prev > book.id_last:
        book.invalidate()
    else:
        book.apply(delta)


def checked_image(book: L2Book, rule: StreamRule) -> BookSnapshot:
    """Give the image of a book, with the checksum that its deltas carry."""
    image = book.snapshot()
    if not rule.checksum:
        return image
    state_hash = CHECKSUMS[rule.checksum](book)
    return msgspec.structs.replace(image, state_hash=state_hash, flags=image.flags | Flag.CHECKED)
