"""`CrossWatch`: books whose best bid has stood at or above their best ask for too long. Pure.

Between two updates a book may be crossed, and some venues cross it in auctions. So a book is left alone for a while,
and for as long as the book that the venue itself sent was crossed too: then that is how its market stands. All else
is a wrong book. Its owner is told who made it so; if that does not help, it is told again after twice the time, and so
on, and the alarm stays until the book has been whole for long.
"""

from __future__ import annotations

import msgspec

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Flag
from raytrade.core.message import Kind, Message

CROSSED_NS = SECOND
"""How long a book may be crossed."""
DOUBLINGS_MAX = 6
CALM_NS = 120 * SECOND
"""After this time without a crossed book everything is as it was."""


class Crossed(msgspec.Struct, frozen=True):
    """A book is wrong: the update that crossed it, and for how long it has been so."""

    instrument: str
    message: Message
    cause: str


class _Episode(msgspec.Struct):
    message: Message
    is_venues: bool
    since_ns: Nanos | None = None


class _Past(msgspec.Struct):
    times: int
    told_ns: Nanos


class CrossWatch:
    """Looks at books after each step of theirs; `crossed_ns` 0: never minds."""

    def __init__(self, crossed_ns: Nanos = CROSSED_NS) -> None:
        self._crossed_ns = crossed_ns
        self._episodes: dict[str, _Episode] = {}
        self._past: dict[str, _Past] = {}

    def follow(self, book: L2Book, message: Message) -> None:
        """The message has moved the book."""
        if not book.is_crossed():
            if self._episodes:
                self._episodes.pop(book.instrument, None)
        elif self._crossed_ns:
            is_venues = message.kind is Kind.SNAPSHOT and not message.flags & Flag.IMAGE
            if is_venues or book.instrument not in self._episodes:
                self._episodes[book.instrument] = _Episode(message, is_venues)

    def review(self, books: dict[str, L2Book], now_ns: Nanos) -> list[Crossed]:
        """Give the books that have been crossed for too long, each once in its time."""
        found: list[Crossed] = []
        for instrument, episode in list(self._episodes.items()):
            if books[instrument].state is not BookState.LIVE:
                del self._episodes[instrument]
            elif episode.since_ns is None:
                episode.since_ns = now_ns
            elif not episode.is_venues and now_ns - episode.since_ns >= self._bound_ns(instrument, now_ns):
                bound_ns = self._bound_ns(instrument, now_ns)
                self._past[instrument] = _Past(self._times(instrument, now_ns) + 1, now_ns)
                del self._episodes[instrument]
                found.append(Crossed(instrument, episode.message, f"crossed for {bound_ns / SECOND:g} s"))
        return found

    def _times(self, instrument: str, now_ns: Nanos) -> int:
        past = self._past.get(instrument)
        return past.times if past is not None and now_ns - past.told_ns < CALM_NS else 0

    def _bound_ns(self, instrument: str, now_ns: Nanos) -> Nanos:
        return self._crossed_ns << min(self._times(instrument, now_ns), DOUBLINGS_MAX)

    def alarms(self, now_ns: Nanos) -> dict[str, str]:
        """Give the instruments whose book is crossed, or was again and again until lately."""
        told = {name: self._times(name, now_ns) for name in self._past}
        again = {name: f"the book was crossed for too long, {times} times" for name, times in told.items() if times > 1}
        venues = [name for name, episode in self._episodes.items() if episode.is_venues]
        return again | dict.fromkeys(venues, "the book that the venue sends is crossed itself")
