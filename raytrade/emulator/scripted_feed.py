"""Serves what somebody else tells: a market from a script, such as a recording, at its own times.

Invariant: as for a synthetic market, the true books are in the state of what was posted last. Called by the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from .journal import Journal
from .market import Level, Step, SymbolBook
from .settings import EmulatorSettings
from .synthetic_feed import STEPS_PER_TURN, SyntheticFeed


class ScriptStep(msgspec.Struct, frozen=True):
    """A step, `at_s` seconds into the script. `is_silent`: the book moves, but nobody is told (what was lost)."""

    at_s: float
    step: Step
    is_silent: bool = False


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served: the books at the start as (id, levels), and what follows; values in these scales."""

    books: Mapping[str, tuple[int, Sequence[Level]]]
    steps: Iterator[ScriptStep]
    price_scale: int
    size_scale: int


class ScriptedMarket:
    """Stands for the synthetic market: the true books, moved by the script."""

    def __init__(self, script: Script) -> None:
        self.books: dict[str, SymbolBook] = {}
        for symbol, (id_last, levels) in script.books.items():
            book = self.books[symbol] = SymbolBook(symbol, id_last)
            book.apply(levels, id_last)
        self.steps_made = 0

    def apply(self, step: Step) -> None:
        """Move the true book."""
        self.steps_made += 1
        self.books[step.symbol].apply(step.levels, step.id_last or self.books[step.symbol].id_last)


class ScriptedFeed(SyntheticFeed):
    """A script and who is subscribed to what of it."""

    def __init__(self, settings: EmulatorSettings, journal: Journal, script: Script) -> None:
        self._script = script
        self._next: ScriptStep | None = next(script.steps, None)
        super().__init__(settings, journal)

    def _make_market(self) -> ScriptedMarket:
        script, dialect = self._script, self._dialect
        scales = {"price_scale": script.price_scale, "size_scale": script.size_scale}
        self.traits = dialect.traits = msgspec.structs.replace(dialect.traits, **scales)
        return ScriptedMarket(script)

    @property
    def is_greedy(self) -> bool:
        """Tell whether the clients set the pace."""
        return self._settings.speed == 0

    def publish(self, now_s: float) -> float:
        """Post what is due."""
        if self._is_closed_out:
            return 1.0
        for _ in range(STEPS_PER_TURN):
            coming = self._next
            if coming is None or self._is_ended:
                self._close_out()
                return 0.0
            wait_s = coming.at_s / self._settings.speed - now_s if self._settings.speed else 0.0
            if wait_s > 0:
                return wait_s
            self._next = next(self._script.steps, None)
            self._market.apply(coming.step)
            if not coming.is_silent:
                self._tell(coming.step)
        return 0.0

    def _tell(self, step: Step) -> None:
        if step.id_last:
            self._post(self._subscriptions.render(step))
        elif step.trade is not None:
            self._post_trade(step)

    def _post_trade(self, step: Step) -> None:
        """Send a trade that comes without a change of the book."""
        time_ns = time.time_ns()
        deliveries = self._subscriptions.trades(step, time_ns)
        for links, message in deliveries:
            for link in links:
                link.post(message)
        if step.trade is not None:
            self._journal.add_trade(step.trade, time_ns)
