"""Views of a market that differ by connection or by depth.

`WindowMerger` joins several steps to one message with boundaries of its own, as venues do that
cut their windows per connection. `DepthWindow` follows the best levels only. Pure. Called by the
synthetic feed.
"""

from __future__ import annotations

import random

from .market import Level, Step, SymbolBook


def merge_steps(steps: list[Step]) -> Step:
    """Join steps in a row: every touched level once, at its size at the end.

    A level that came back to the size it had before is listed all the same ("touched").
    """
    if len(steps) == 1:
        return steps[0]
    sizes: dict[tuple[bool, int], int] = {}
    for step in steps:
        for level in step.levels:
            sizes[level.is_bid, level.price] = level.size
    first, final = steps[0], steps[-1]
    levels = tuple(Level(is_bid, price, size) for (is_bid, price), size in sizes.items())
    return Step(first.symbol, first.id_prev, first.id_first, final.id_last, levels, is_merged=True)


class WindowMerger:
    """Cuts the steps of one symbol into windows of 1 to `steps_max` steps, drawn from `rng`."""

    def __init__(self, steps_max: int, rng: random.Random) -> None:
        self._steps_max = steps_max
        self._rng = rng
        self._pending: list[Step] = []
        self._wanted = self._draw()

    def add(self, step: Step) -> Step | None:
        """Take a step; return the window that it closes, if it closes one."""
        self._pending.append(step)
        return self.flush() if len(self._pending) >= self._wanted else None

    def flush(self) -> Step | None:
        """Close the window now; None if nothing is pending."""
        if not self._pending:
            return None
        merged = merge_steps(self._pending)
        self._pending = []
        self._wanted = self._draw()
        return merged

    def _draw(self) -> int:
        return 1 + int(self._rng.random() * self._steps_max)


class DepthWindow:
    """The best `depth` levels per side of one book, and how they change.

    Where `tells_leaving` is set, a level pushed out of the window is sent as removed; otherwise
    the receiver has to cut its book to the depth (Kraken).
    """

    def __init__(self, book: SymbolBook, depth: int, tells_leaving: bool) -> None:
        self._book = book
        self._depth = depth
        self._tells_leaving = tells_leaving
        self.bids = dict(book.best_bids(depth))
        self.asks = dict(book.best_asks(depth))

    def narrow(self, step: Step) -> Step:
        """Reduce a step that the book has already taken to what this window shows of it."""
        bids = dict(self._book.best_bids(self._depth))
        asks = dict(self._book.best_asks(self._depth))
        touched = {(level.is_bid, level.price): level.size for level in step.levels}
        changes = self._changes(True, self.bids, bids, touched)
        changes += self._changes(False, self.asks, asks, touched)
        self.bids, self.asks = bids, asks
        return Step(step.symbol, step.id_prev, step.id_first, step.id_last, tuple(changes))

    def _changes(
        self,
        is_bid: bool,
        before: dict[int, int],
        after: dict[int, int],
        touched: dict[tuple[bool, int], int],
    ) -> list[Level]:
        changes = [
            Level(is_bid, price, 0)
            for price in before
            if price not in after and (self._tells_leaving or touched.get((is_bid, price)) == 0)
        ]
        changes += [
            Level(is_bid, price, size)
            for price, size in after.items()
            if (is_bid, price) in touched or before.get(price) != size
        ]
        return changes
