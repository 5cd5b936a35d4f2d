"""Microstructure features for strategies: small, pure, in floats; each names where it comes from.

A feature of one moment is a function of the top or the book. One over time is an object that is fed and has a value; it
reads no clock: the time is that of what it is fed. Memory is bounded by the window.
"""

from __future__ import annotations

from collections import deque
from math import fsum, log, sqrt

import msgspec

from raytrade.core.book import L2Book, Top
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Side


def mid(top: Top) -> float:
    """Half-way between best bid and best ask: the usual proxy of the efficient price.

    Source: Hasbrouck, Empirical Market Microstructure (Oxford, 2007), chapter 2.
    """
    return top.mid


def microprice(top: Top) -> float:
    """The mid weighted by the opposite sizes: where more is bid than offered it lies nearer to the ask.

    Source: Gatheral and Oomen, "Zero-intelligence realized variance estimation", Finance and Stochastics 14 (2010),
    equation 3.1; Stoikov, "The micro-price", Quantitative Finance 18 (2018), calls it the weighted mid.
    """
    return (top.bid * top.ask_size + top.ask * top.bid_size) / (top.bid_size + top.ask_size)


def imbalance(book: L2Book, levels: int = 1) -> float | None:
    """(bids - asks) / (bids + asks) of the sizes of the best levels: from -1 (only asks) to 1; None without sizes.

    Source: Cartea, Donnelly and Jaimungal, "Enhancing trading strategies with order book signals", Applied Mathematical
    Finance 25 (2018), equation 1.
    """
    bids = sum(size for _, size in book.levels(Side.BUY, levels))
    asks = sum(size for _, size in book.levels(Side.SELL, levels))
    return (bids - asks) / (bids + asks) if bids + asks else None


class OrderFlowImbalance:
    """Sum of what was added at the touch: bid size that came less that went, less the same of the asks, in the base.

    Over the last `window_ns`; at most `events_max` changes of the touch are kept.

    Source: Cont, Kukanov and Stoikov, "The price impact of order book events", Journal of Financial Econometrics 12
    (2014), equations 3 and 4.
    """

    def __init__(self, window_ns: Nanos = 10 * SECOND, events_max: int = 100_000) -> None:
        self.window_ns = window_ns
        self._last: Top | None = None
        self._events: deque[tuple[Nanos, float]] = deque(maxlen=events_max)

    def update(self, top: Top, now_ns: Nanos) -> float:
        """Take the touch as it is now, and give the value."""
        last, self._last = self._last, top
        if last is not None and last != top:
            self._events.append((now_ns, _flow(last, top)))
        while self._events and self._events[0][0] <= now_ns - self.window_ns:
            self._events.popleft()
        return self.value

    @property
    def value(self) -> float:
        """The sum over the window, rounded once."""
        return fsum(flow for _, flow in self._events)


def _flow(last: Top, top: Top) -> float:
    came_bid = top.bid_size if top.bid >= last.bid else 0.0
    went_bid = last.bid_size if top.bid <= last.bid else 0.0
    came_ask = top.ask_size if top.ask <= last.ask else 0.0
    went_ask = last.ask_size if top.ask >= last.ask else 0.0
    return fsum((came_bid, -went_bid, -came_ask, went_ask))


class Vwap:
    """Mean price of trades weighted by size, over the last `window_ns`; at most `trades_max` of them are kept.

    Source: Berkowitz, Logue and Noser, "The total cost of transactions on the NYSE", Journal of Finance 43 (1988).
    """

    def __init__(self, window_ns: Nanos = 60 * SECOND, trades_max: int = 100_000) -> None:
        self.window_ns = window_ns
        self._trades: deque[tuple[Nanos, float, float]] = deque(maxlen=trades_max)

    def update(self, price: float, size: float, now_ns: Nanos) -> float | None:
        """Take a trade, and give the value."""
        self._trades.append((now_ns, price, size))
        while self._trades and self._trades[0][0] <= now_ns - self.window_ns:
            self._trades.popleft()
        return self.value

    @property
    def value(self) -> float | None:
        """The mean over the window; None without size."""
        size = sum(size for _, _, size in self._trades)
        return sum(price * size for _, price, size in self._trades) / size if size else None


class RealisedVolatility:
    """Standard deviation of log returns per square root of a second, from prices `step_ns` apart over `steps` steps.

    Prices are sampled at equal distances, because at every change bid-ask bounce would count as movement.

    Source: Andersen, Bollerslev, Diebold and Labys, "Modeling and forecasting realized volatility", Econometrica 71
    (2003), section 2; on sampling: Hansen and Lunde, Journal of Business and Economic Statistics 24 (2006).
    """

    def __init__(self, step_ns: Nanos = SECOND, steps: int = 60) -> None:
        self.step_ns = step_ns
        self._returns: deque[float] = deque(maxlen=steps)
        self._price = 0.0
        self._due_ns: Nanos | None = None

    def update(self, price: float, now_ns: Nanos) -> float | None:
        """Take a price (above 0), and give the value. A price stands until the next one comes."""
        if self._due_ns is None:
            self._due_ns, self._price = now_ns + self.step_ns, price
        elif now_ns >= self._due_ns:
            passed = (now_ns - self._due_ns) // self.step_ns
            self._returns.extend([0.0] * min(passed, self._returns.maxlen or 0))
            self._returns.append(log(price / self._price))
            self._due_ns, self._price = self._due_ns + (passed + 1) * self.step_ns, price
        return self.value

    @property
    def value(self) -> float | None:
        """The deviation over the window; None before the first return."""
        if not self._returns:
            return None
        return sqrt(sum(change * change for change in self._returns) / len(self._returns) / (self.step_ns / SECOND))


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of one interval that begins at `ts_ns`."""

    ts_ns: Nanos
    open: float
    high: float
    low: float
    close: float


class Bars:
    """Cuts prices into bars of `seconds`; an interval without a price has no bar.

    Source: the open-high-low-close bar of every charting package; the edges are multiples of `seconds` since 1970.
    """

    def __init__(self, seconds: float) -> None:
        self._step_ns = max(round(seconds * SECOND), 1)
        self._bar: Bar | None = None

    def update(self, price: float, now_ns: Nanos) -> Bar | None:
        """Take a price; gives the bar that ended before it, if one did."""
        start_ns, bar = now_ns // self._step_ns * self._step_ns, self._bar
        if bar is not None and bar.ts_ns == start_ns:
            high, low = max(bar.high, price), min(bar.low, price)
            self._bar = Bar(ts_ns=start_ns, open=bar.open, high=high, low=low, close=price)
            return None
        self._bar = Bar(ts_ns=start_ns, open=price, high=price, low=price, close=price)
        return bar
