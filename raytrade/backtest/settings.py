"""What one backtest is made of: plain data, so that it can be sent to another process and named in a report."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.errors import ConfigError
from raytrade.strategy.orders import PaperSettings

LATENCY_NS_MAX: Nanos = 3600 * SECOND
CURVE_POINTS_MAX = 5000


class BacktestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one strategy.

    `strategy` as `raytrade.strategy.loading.load_strategy` takes it. Latencies are constant. The market's clock is the
    recording's receive time: the strategy sees a message `feed_latency_ns` after it, what it decides acts on the
    market `paper.order_latency_ns` after the decision, and word of a fill comes back after `feed_latency_ns` again.
    """

    strategy: str
    data: str
    parameters: dict[str, Any] = {}
    start_ns: Nanos | None = None
    end_ns: Nanos | None = None
    instruments: tuple[str, ...] = ("*",)
    paper: PaperSettings = PaperSettings()
    feed_latency_ns: Nanos = 0
    site: str = ""
    """See the market when this line had brought it (`raytrade.storage.site`); empty: as the recording merged it."""
    curve_points: int = 500
    """Points of the equity curve."""

    def __post_init__(self) -> None:
        for name, value in (("feed", self.feed_latency_ns), ("order", self.paper.order_latency_ns)):
            if not 0 <= value <= LATENCY_NS_MAX:
                raise ConfigError("", f"{name} latency", f"{value / MILLISECOND} ms is not between 0 and an hour")
        if not 2 <= self.curve_points <= CURVE_POINTS_MAX:
            raise ConfigError("", f"{self.curve_points} points", f"a curve has 2 to {CURVE_POINTS_MAX}")

    @property
    def name(self) -> str:
        """Name of the strategy's class."""
        return self.strategy.rpartition(":")[2]

    def with_parameters(self, parameters: dict[str, Any]) -> BacktestSettings:
        """Give the same run with some other parameters."""
        return msgspec.structs.replace(self, parameters={**self.parameters, **parameters})

    def with_order_latency(self, latency_ns: Nanos) -> BacktestSettings:
        """Give the same run with another order latency."""
        return msgspec.structs.replace(self, paper=msgspec.structs.replace(self.paper, order_latency_ns=latency_ns))

    def between(self, start_ns: Nanos, end_ns: Nanos) -> BacktestSettings:
        """Give the same run over another interval."""
        return msgspec.structs.replace(self, start_ns=start_ns, end_ns=end_ns)


def amount(text: str, key: str) -> Decimal:
    """Read a decimal number that a user wrote.

    Raises:
        ConfigError: it is none.
    """
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ConfigError("", key, f"{text!r} is not a number")
    return value
