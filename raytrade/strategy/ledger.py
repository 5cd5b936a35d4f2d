"""The paper ledger: what the fills of one instrument add up to, exact in `Decimal`.

Units: quantities in the base, prices in quote per base, notionals, cash, fees and profit in the quote.
Sums are taken in the context `EXACT`, which has room for every digit and raises rather than round.

Profit is realised first in, first out. Fills at one price are one lot, as old as its first fill, so that
there are never more lots than prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import (
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.events import Side
from raytrade.core.prices import FRACTION_DIGITS_MAX, INTEGER_DIGITS_MAX
from raytrade.errors import InvariantError

EXACT = Context(prec=160, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
"""A price and a quantity of 38 digits, a fee of 12 and the sum of 10**60 such products fit."""
ZERO, ONE = Decimal(0), Decimal(1)
BASIS_POINT_EXPONENT = -4


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """An execution of one of our orders. `fee` is in the quote; a negative one is a rebate.

    `book_id` is the id of the book that the fill was made from.
    """

    fill_id: int
    order_id: int
    instrument: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    is_maker: bool
    ts_fill_ns: Nanos
    book_id: int


def canonical(amount: Decimal) -> Decimal:
    """Give the same number without trailing zeros and without an exponent: 100, not 1E+2 or 100.0."""
    bare = EXACT.normalize(amount)
    return EXACT.quantize(bare, ONE) if bare == bare.to_integral_value() else bare


def read_amount(value: object) -> Decimal | str:
    """Read a price or quantity exactly, without trailing zeros; give the reason (text) where it is none.

    Text, `Decimal` and whole numbers are taken. A float is refused: its digits are not those once written.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return f"{value!r} is a {type(value).__name__}: give text or Decimal"
    try:
        amount = EXACT.normalize(EXACT.create_decimal(value))
    except DecimalException:
        return f"{str(value)[:64]!r} is not a number that can be held exactly"
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or amount <= 0:
        return f"{str(value)[:64]!r} is not a number above zero"
    if amount.adjusted() >= INTEGER_DIGITS_MAX or exponent < -FRACTION_DIGITS_MAX:
        return f"{str(value)[:64]!r} has too many digits"
    return canonical(amount)


def fee_of(price: Decimal, quantity: Decimal, basis_points: Decimal) -> Decimal:
    """Give the fee in the quote."""
    with localcontext(EXACT):
        return (price * quantity * basis_points).scaleb(BASIS_POINT_EXPONENT)


class Account:
    """What was traded of one instrument.

    `position` is signed (below zero: short). `cash` is the quote received less the quote paid, less `fees`.
    `realised` is the profit of closed quantity before fees.

    Invariants (`validate`): position = bought - sold = the signed lots; cash = sold - bought notional - fees;
    realised = sold - bought notional + position at the lots' prices.
    """

    __slots__ = (
        "bought",
        "bought_notional",
        "cash",
        "fees",
        "fills",
        "lots",
        "position",
        "realised",
        "sold",
        "sold_notional",
    )

    def __init__(self) -> None:
        self.position = self.cash = self.fees = self.realised = ZERO
        self.bought = self.sold = self.bought_notional = self.sold_notional = ZERO
        self.fills = 0
        self.lots: dict[Decimal, Decimal] = {}

    def apply(self, fill: Fill) -> None:
        """Book one fill."""
        with localcontext(EXACT):
            notional = fill.price * fill.quantity
            is_buy = fill.side is Side.BUY
            if is_buy:
                self.bought += fill.quantity
                self.bought_notional += notional
            else:
                self.sold += fill.quantity
                self.sold_notional += notional
            self._move_lots(is_buy, fill.price, fill.quantity)
            self.position += fill.quantity if is_buy else -fill.quantity
            self.cash += (-notional if is_buy else notional) - fill.fee
            self.fees += fill.fee
            self.fills += 1

    def _move_lots(self, is_buy: bool, price: Decimal, quantity: Decimal) -> None:
        """Close the oldest lots of the other direction, then open one with what is left."""
        while quantity and self.lots and (self.position < 0) is is_buy:
            opened_at, held = next(iter(self.lots.items()))
            closed = min(held, quantity)
            self.realised += (opened_at - price if is_buy else price - opened_at) * closed
            quantity -= closed
            if closed == held:
                del self.lots[opened_at]
            else:
                self.lots[opened_at] = held - closed
        if quantity:
            self.lots[price] = self.lots.get(price, ZERO) + quantity

    def cost(self) -> Decimal:
        """Give what the position cost when it was opened, in the quote; below zero for a short position."""
        with localcontext(EXACT):
            cost = sum((price * quantity for price, quantity in self.lots.items()), ZERO)
            return -cost if self.position < 0 else cost

    def unrealised(self, price: Decimal) -> Decimal:
        """Give the profit, before fees, of closing the position at `price`."""
        with localcontext(EXACT):
            return self.position * price - self.cost()

    def validate(self) -> None:
        """Check the sums against each other.

        Raises:
            InvariantError: two of them disagree.
        """
        with localcontext(EXACT):
            lots = sum(self.lots.values(), ZERO)
            earned = self.sold_notional - self.bought_notional
            _demand(self.position == self.bought - self.sold, "position is not bought less sold")
            _demand(abs(self.position) == lots, "the lots are not the position")
            _demand(self.cash == earned - self.fees, "cash is not what was received less what was paid")
            _demand(self.realised == earned + self.cost(), "realised profit is not earnings plus cost")
            _demand(all(quantity > 0 for quantity in self.lots.values()), "a lot without quantity")


def profit_of(accounts: Mapping[str, Account], marks: Mapping[str, Decimal]) -> Decimal:
    """Give what was won, less fees, with positions valued at `marks`; one without a mark counts as its cost."""
    with localcontext(EXACT):
        total = ZERO
        for name, account in accounts.items():
            mark = marks.get(name)
            total += account.cash + (account.cost() if mark is None else account.position * mark)
        return total


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvariantError(f"paper ledger: {otherwise}")
