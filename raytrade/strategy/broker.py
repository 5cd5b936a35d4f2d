"""`Broker`: what an engine needs of whoever takes its strategy's orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from raytrade.core.clock import Nanos
from raytrade.core.events import Side, Trade
from raytrade.strategy.ledger import Account, Fill
from raytrade.strategy.orders import Order, Rejection, Wish


class Broker(Protocol):
    """Implemented by `PaperBroker`, which fills orders here, and by `Desk`, which sends them to a gateway.

    `news` is what `events` will give; `due_ns`: when `receive_timeout` is due; `halted`: why no order is taken.
    `refusing`: why none is taken for now. `on_wish` is told of each order and cancel as the strategy gave it.
    """

    orders: dict[int, Order]
    accounts: dict[str, Account]
    news: list[Fill | Rejection]
    due_ns: Nanos | None
    halted: str
    refusing: str
    on_wish: Callable[[Wish], None] | None

    def limit(self, instrument: str, side: Side, price: object, quantity: object, now_ns: Nanos) -> int:
        """Place a limit order; gives its id."""
        ...

    def market(self, instrument: str, side: Side, quantity: object, now_ns: Nanos) -> int:
        """Place a market order; gives its id."""
        ...

    def cancel(self, order_id: int, now_ns: Nanos) -> bool:
        """Take an open order off; tells whether it was there."""
        ...

    def cancel_all(self) -> int:
        """Take every order off; gives how many there were."""
        ...

    def open_orders(self) -> Mapping[int, Order]:
        """Give the orders as the strategy knows them."""
        ...

    def account(self, instrument: str) -> Account:
        """Give the account of an instrument, opened when first asked for."""
        ...

    def profit(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Give what was won, less fees, with positions valued at `marks`."""
        ...

    def position(self, instrument: str) -> Decimal:
        """Give the signed quantity held, in the base."""
        ...

    @property
    def cash(self) -> Decimal:
        """Cash in the quote."""
        ...

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`due_ns` has come."""
        ...

    def receive_book(self, instrument: str, now_ns: Nanos) -> None:
        """The book of the instrument has moved."""
        ...

    def receive_trade(self, trade: Trade, now_ns: Nanos) -> None:
        """A public trade has come."""
        ...

    def events(self) -> list[Fill | Rejection]:
        """Drain fills and refusals in the order they happened."""
        ...

    def validate(self) -> None:
        """Raise InvariantError where inner states contradict themselves."""
        ...
