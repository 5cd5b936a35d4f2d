"""`LaggingBook`: an `L2Book` that takes the deltas of a run in when it is read.

Whoever plays a run shows it delta by delta (`shown`); levels are applied when somebody looks at them, then all that
were shown. A reader cannot tell it from an `L2Book`. What nobody looks at costs little, since of many sizes at one
price only the last is applied.
"""

from __future__ import annotations

from raytrade.core.book import BookState, L2Book, _HalfBook
from raytrade.core.delta_run import DeltaRun
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.message import Message


class LaggingBook(L2Book):
    """A book for replays; see the module."""

    __slots__ = ("_applied", "_levels", "_own_asks", "_own_bids", "_run", "shown")

    def __init__(self, instrument: str) -> None:
        self.shown = 0
        """How many deltas of the run count."""
        self._applied = 0
        self._run: DeltaRun | None = None
        self._levels: DeltaRun | None = None
        super().__init__(instrument)

    def follow(self, run: DeltaRun, first: int) -> bool:
        """Go on with a run at its delta `first` if the book is LIVE and not coarser than it; tells whether it is."""
        if self.state is not BookState.LIVE:
            return False
        if run is self._run and first == self.shown:
            return True
        self._settle()
        if run.price_scale > self.price_scale or run.size_scale > self.size_scale:
            return False
        try:
            self._levels = run.rescaled(self.price_scale, self.size_scale)
        except OverflowError:
            return False
        self._run = run
        self.epoch = run.epoch
        self.shown = self._applied = first
        return True

    def apply(self, event: BookSnapshot | BookDelta) -> None:
        """Take an event in, after what was shown of the run; the run ends with it."""
        self._settle()
        super().apply(event)

    def take(self, message: Message) -> None:
        """Take a message in, after what was shown of the run; the run ends with it."""
        self._settle()
        super().take(message)

    def _settle(self) -> None:
        self._catch_up()
        self._run = self._levels = None

    def _catch_up(self) -> None:
        run, first, last = self._levels, self._applied, self.shown
        if run is not None and last > first:
            self._applied = last
            self._own_bids.apply(run.bids.between(first, last))
            self._own_asks.apply(run.asks.between(first, last))

    @property
    def _bids(self) -> _HalfBook:
        if self._applied != self.shown:
            self._catch_up()
        return self._own_bids

    @_bids.setter
    def _bids(self, half: _HalfBook) -> None:
        self._own_bids = half

    @property
    def _asks(self) -> _HalfBook:
        if self._applied != self.shown:
            self._catch_up()
        return self._own_asks

    @_asks.setter
    def _asks(self, half: _HalfBook) -> None:
        self._own_asks = half
