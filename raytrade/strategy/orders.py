"""What a paper account deals in: orders, refusals, fees, limits of risk, and its settings."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Side
from raytrade.errors import ConfigError
from raytrade.strategy.ledger import EXACT, ZERO

_FEE_DIGITS_MAX = 8


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One of our orders; `price` is None for a market order. `quantity` and `filled` in the base."""

    order_id: int
    instrument: str
    side: Side
    price: Decimal | None
    quantity: Decimal
    filled: Decimal = ZERO
    ts_order_ns: Nanos = 0

    @property
    def remaining(self) -> Decimal:
        """What is not filled yet."""
        return EXACT.subtract(self.quantity, self.filled)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy asked for, as it wrote it: an order (`price` empty: at the market), or a cancel of one."""

    order_id: int
    instrument: str = ""
    side: Side = Side.NONE
    price: str = ""
    quantity: str = ""
    is_cancel: bool = False
    ts_wish_ns: Nanos


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal: of an order, of the rest of a market order, or of a cancel.

    `quantity` is what was refused, as far as it could be read.
    """

    order_id: int
    instrument: str
    side: Side
    quantity: Decimal
    reason: str
    ts_reject_ns: Nanos


class Fees(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's fees in basis points of the notional; below zero is a rebate."""

    maker_bps: Decimal = ZERO
    taker_bps: Decimal = ZERO

    def __post_init__(self) -> None:
        for name, value in (("maker_bps", self.maker_bps), ("taker_bps", self.taker_bps)):
            exponent = value.as_tuple().exponent
            if not isinstance(exponent, int) or exponent < -_FEE_DIGITS_MAX or abs(value) > 10_000:
                raise ConfigError("", name, f"{value} is not a fee in basis points")


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an account may not go beyond; None: no limit.

    `position_max`: of one instrument, long or short, in the base; an order that could take the position beyond it,
    together with the open orders of its side, is refused. `order_max`: quantity of one order in the base. `loss_max`:
    loss of the whole account in the quote, positions valued at the mid price, fees included; beyond it the strategy
    is stopped for good: what rests is taken off, the position stays as it is.
    """

    position_max: Decimal | None = None
    order_max: Decimal | None = None
    loss_max: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("position_max", "order_max", "loss_max"):
            value = getattr(self, name)
            if value is not None and not (value.is_finite() and value >= 0):
                raise ConfigError("", name, f"{value} is no limit: give a number from 0 on")


class FillRule(StrEnum):
    """How resting orders fill; the assumptions stand in `raytrade.strategy.fill_models`."""

    CROSS = "cross"
    QUEUE = "queue"
    QUEUE_PRO_RATA = "queue-pro-rata"


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the paper account starts from. `fees` by venue; `cash` in the quote."""

    fees: dict[str, Fees] = {}
    fees_elsewhere: Fees = Fees()
    cash: Decimal = ZERO
    orders_max: int = 1000
    """Orders resting at the same time."""
    fill_rule: FillRule = FillRule.CROSS
    order_latency_ns: Nanos = 0
    """From the strategy's decision (order or cancel) until it acts on the book."""
    trade_lag_ns: Nanos = 100 * MILLISECOND
    """By how much a trade and the change of the book that it made may lie apart; only where orders queue."""
    risk: RiskLimits = RiskLimits()
