"""The strategies that are measured in raytrade: one notes when every update was in the book, one only counts."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.events import Gap
from raytrade.strategy.base import BaseStrategy, Context

from .market import FIRST_ID, symbol_names
from .timelog import AppliedLog

VENUE = "binance-spot"


class Probe(BaseStrategy):
    """Logs (number, time); the number is the update's place among those of all symbols, which take turns."""

    def __init__(self, applied: str, capacity: int, symbols: int) -> None:
        self._log = AppliedLog(Path(applied), capacity)
        self._symbols = symbols
        self._places = {f"{VENUE}:{name}": at for at, name in enumerate(symbol_names(symbols))}

    def on_book(self, context: Context, book: L2Book) -> None:
        book.top()
        number = (book.id_last - FIRST_ID) * self._symbols + self._places[book.instrument] + FIRST_ID
        self._log.append(number, time.time_ns())


class Counts(msgspec.Struct):
    """What a `Counter` saw: updates from the `first` to the `last` id, those that jumped, and those that came again."""

    first: int = 0
    last: int = 0
    updates: int = 0
    jumps: int = 0
    repeats: int = 0
    gaps: int = 0


class Counter(BaseStrategy):
    """Keeps nothing but counts, so that its memory is the pipeline's; writes them after the last update."""

    def __init__(self, counts: str, last_id: int) -> None:
        self._path = Path(counts)
        self._last_id = last_id
        self._counts = Counts()

    def on_book(self, context: Context, book: L2Book) -> None:
        book.top()
        self.count(book.id_last)

    def count(self, number: int) -> None:
        """Count one update by its id."""
        counts = self._counts
        if not counts.updates:
            counts.first = number
        elif number <= counts.last:
            counts.repeats += 1
        elif number != counts.last + 1:
            counts.jumps += 1
        counts.last = max(counts.last, number)
        counts.updates += 1
        if number == self._last_id:
            self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".part")
        temporary.write_bytes(msgspec.json.encode(self._counts))
        temporary.rename(self._path)

    def on_gap(self, context: Context, gap: Gap) -> None:
        self._counts.gaps += 1
