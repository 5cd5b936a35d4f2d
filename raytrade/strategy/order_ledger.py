"""`OrderLedger`: open orders and accounts as they follow from orders and reports alone, the same on both sides of a
gateway.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import msgspec

from raytrade.strategy.ledger import EXACT, Account, Fill
from raytrade.strategy.orders import Order, Rejection


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of orders, numbered without a hole: a fill, a refusal, or (`closed`) the id of one taken off."""

    number: int
    fill: Fill | None = None
    rejection: Rejection | None = None
    closed: int = 0


class AccountImage(msgspec.Struct, frozen=True, kw_only=True):
    """An `Account` in full; `lots` oldest first."""

    position: Decimal
    cash: Decimal
    fees: Decimal
    realised: Decimal
    bought: Decimal
    sold: Decimal
    bought_notional: Decimal
    sold_notional: Decimal
    fills: int
    lots: tuple[tuple[Decimal, Decimal], ...]


class LedgerImage(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger in full, with all reports up to `number`."""

    number: int = 0
    orders: tuple[Order, ...] = ()
    accounts: dict[str, AccountImage] = {}


def image_of(account: Account) -> AccountImage:
    """Give an account in full."""
    plain = {name: getattr(account, name) for name in AccountImage.__struct_fields__ if name != "lots"}
    return AccountImage(lots=tuple(account.lots.items()), **plain)


def account_of(image: AccountImage) -> Account:
    """Give the account of an image."""
    account = Account()
    for name in AccountImage.__struct_fields__:
        if name != "lots":
            setattr(account, name, getattr(image, name))
    account.lots = dict(image.lots)
    return account


class OrderLedger:
    """What is open and what is held, after the reports up to `number`."""

    def __init__(self) -> None:
        self.number = 0
        self.orders: dict[int, Order] = {}
        self.accounts: dict[str, Account] = {}

    def open(self, order: Order) -> None:
        """An order was sent, or taken."""
        self.orders[order.order_id] = order

    def apply(self, report: Report) -> None:
        """Take the next report. A refusal that names no instrument is one of a cancel: it closes nothing."""
        self.number = report.number
        if report.fill is not None:
            self._fill(report.fill)
        elif report.closed:
            self.orders.pop(report.closed, None)
        elif report.rejection is not None and report.rejection.instrument:
            self.orders.pop(report.rejection.order_id, None)

    def _fill(self, fill: Fill) -> None:
        self.accounts.setdefault(fill.instrument, Account()).apply(fill)
        order = self.orders.get(fill.order_id)
        if order is None:
            return
        with localcontext(EXACT):
            filled = msgspec.structs.replace(order, filled=order.filled + fill.quantity)
        if filled.remaining:
            self.orders[order.order_id] = filled
        else:
            del self.orders[order.order_id]

    def image(self) -> LedgerImage:
        """Give all of it."""
        accounts = {name: image_of(account) for name, account in self.accounts.items()}
        return LedgerImage(number=self.number, orders=tuple(self.orders.values()), accounts=accounts)

    def restore(self, image: LedgerImage) -> None:
        """Begin with what is in the image, and nothing else; the dicts stay the same objects."""
        self.number = image.number
        self.orders.clear()
        self.orders.update({order.order_id: order for order in image.orders})
        self.accounts.clear()
        self.accounts.update({name: account_of(part) for name, part in image.accounts.items()})
