"""What a backtest gives: figures, the curve, fills; exact amounts as decimals, and a hash that names all of it."""

from __future__ import annotations

from decimal import Decimal, localcontext
from hashlib import blake2b
from math import sqrt

import msgspec

from raytrade.backtest.settings import BacktestSettings
from raytrade.core.clock import SECOND, Nanos
from raytrade.strategy.ledger import EXACT, ZERO, Fill

YEAR_NS: Nanos = 365 * 86_400 * SECOND


class Curve(msgspec.Struct, kw_only=True):
    """The account and the touch at points of equal distance in time, as they stood before it.

    `profit`: won or lost since the start, positions at the mid price, after fees, in the quote. The touch is None where
    the book was not LIVE.
    """

    ts_ns: list[Nanos] = []
    profit: list[Decimal] = []
    positions: dict[str, list[Decimal]] = {}
    bids: dict[str, list[float | None]] = {}
    asks: dict[str, list[float | None]] = {}

    def drawdown(self) -> list[Decimal]:
        """Give at each point how far the profit is below its highest so far (the start counts)."""
        found, highest = [], ZERO
        with localcontext(EXACT):
            for profit in self.profit:
                highest = max(highest, profit)
                found.append(highest - profit)
        return found

    def sharpe(self) -> float | None:
        """Give mean over deviation of the profit per step, scaled to a year; None where it does not move.

        A figure of short recordings, with autocorrelation ignored: good for comparing runs, not for promising anything.
        """
        if len(self.ts_ns) < 3:
            return None
        with localcontext(EXACT):
            steps = [float(later - earlier) for earlier, later in zip(self.profit, self.profit[1:], strict=False)]
        mean = sum(steps) / len(steps)
        variance = sum((step - mean) ** 2 for step in steps) / (len(steps) - 1)
        step_ns = self.ts_ns[1] - self.ts_ns[0]
        return mean / sqrt(variance) * sqrt(YEAR_NS / step_ns) if variance > 0 and step_ns > 0 else None


class InstrumentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was traded of one instrument; amounts in its quote, `position` in its base."""

    fills: int
    position: Decimal
    cash: Decimal
    fees: Decimal
    realised: Decimal
    unrealised: Decimal
    turnover: Decimal
    mark: Decimal | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The result in numbers. Sums over instruments are money only where all have one quote."""

    profit: Decimal
    fees: Decimal
    turnover: Decimal
    drawdown_max: Decimal
    sharpe: float | None
    fills: int
    maker_fills: int
    rejections: int
    messages: int
    levels: int
    first_ns: Nanos
    last_ns: Nanos


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One backtest. `stopped`: why the strategy was stopped before the end, else empty; `traceback` where it raised."""

    settings: BacktestSettings
    figures: Figures
    instruments: dict[str, InstrumentFigures]
    curve: Curve
    fills: list[Fill]
    fills_left_out: int
    gauges: dict[str, float]
    hash: str
    stopped: str = ""
    traceback: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the strategy raised."""
        return bool(self.traceback)

    def without_curve(self) -> Result:
        """Give the figures alone: what a sweep keeps of each run."""
        left_out = self.fills_left_out + len(self.fills)
        return msgspec.structs.replace(self, curve=Curve(), fills=[], fills_left_out=left_out)


class OutputHash:
    """Names what a strategy did: every fill, refusal, note and end of it, in order, then the final accounts."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._encoder = msgspec.json.Encoder(decimal_format="string", order="deterministic")

    def update(self, value: object) -> None:
        """Take one thing in."""
        self._hash.update(type(value).__name__.encode())
        self._hash.update(self._encoder.encode(value))

    def text(self) -> str:
        """Give the hash of all so far."""
        return self._hash.hexdigest()
