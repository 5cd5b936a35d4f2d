"""`PaperExecution`: an executor that fills on paper: the "strategy" of an engine of its own, decided by a gateway.

The engine brings it the books and the paper broker; its own callbacks only carry reports to the gateway.
"""

from __future__ import annotations

import msgspec

from raytrade.strategy.base import BaseStrategy, Context
from raytrade.strategy.gateway import OrderGateway, rejection_of
from raytrade.strategy.ledger import Fill
from raytrade.strategy.orders import Order, Rejection
from raytrade.strategy.paper import PaperBroker


class PaperExecution(BaseStrategy):
    """Its owner calls `StrategyEngine.act` before and after the gateway takes something, `settle` after each step."""

    def __init__(self) -> None:
        self.gateway = OrderGateway(self)
        self.broker: PaperBroker | None = None
        self._context: Context | None = None
        self._ids: dict[int, int] = {}
        self._placed: dict[int, int] = {}
        self._leaving: set[int] = set()

    def on_start(self, context: Context) -> None:
        """Take the engine's hands."""
        self._context = context

    # The executor.

    def place(self, order: Order) -> None:
        """Place an order."""
        context = self._context
        assert context is not None
        context.book(order.instrument)
        if order.price is None:
            placed = context.market(order.instrument, order.side, order.quantity)
        else:
            placed = context.limit(order.instrument, order.side, order.price, order.quantity)
        self._ids[placed] = order.order_id
        self._placed[order.order_id] = placed

    def cancel(self, order_id: int) -> None:
        """Take an order off; one that does not rest any more is told as the broker tells it."""
        placed = self._placed.get(order_id)
        if placed is None or placed in self._leaving:
            return
        assert self._context is not None
        if self._context.cancel(placed):
            self._leaving.add(placed)
        self.settle()

    def settle(self) -> None:
        """Report the orders that were taken off, and forget those that are done."""
        broker = self.broker
        assert broker is not None
        for placed in [one for one in self._leaving if not broker.holds(one)]:
            self._leaving.discard(placed)
            if self._ids[placed] in self.gateway.ledger.orders:
                self.gateway.report_closed(self._ids[placed])
        if self.gateway.halted:
            for order_id in list(self.gateway.ledger.orders):
                self.gateway.report_closed(order_id)
        if len(self._ids) > 2 * len(self.gateway.ledger.orders) + broker.settings.orders_max:
            self._ids = {placed: one for placed, one in self._ids.items() if one in self.gateway.ledger.orders}
            self._placed = {one: placed for placed, one in self._ids.items()}

    def restore(self, context: Context, state: object) -> None:
        """Let the orders rest that the gateway's ledger has; what was on its way to the market is refused."""
        broker, ledger = self.broker, self.gateway.ledger
        assert broker is not None
        for order in list(ledger.orders.values()):
            if order.price is None:
                self.gateway.report_rejection(rejection_of(order, "the gateway was started anew", context.now_ns))
            else:
                context.book(order.instrument)
                self._ids[order.order_id] = self._placed[order.order_id] = order.order_id
        broker.restore(ledger.image())

    # What the broker says.

    def on_fill(self, context: Context, fill: Fill) -> None:
        """Report it under the client's id."""
        self.gateway.report_fill(msgspec.structs.replace(fill, order_id=self._ids[fill.order_id]))

    def on_rejection(self, context: Context, rejection: Rejection) -> None:
        """Report it under the client's id."""
        order_id = self._ids.get(rejection.order_id, rejection.order_id)
        self.gateway.report_rejection(msgspec.structs.replace(rejection, order_id=order_id))

    def on_stop(self, context: Context) -> None:
        """A limit of risk was passed."""
        if self.broker is not None:
            self.gateway.halt(self.broker.halted)
