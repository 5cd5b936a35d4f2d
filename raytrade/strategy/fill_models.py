"""Fill models: when an order that rests is executed. They only ever decide about resting orders.

Common to all (see `raytrade.strategy.paper`): an order that crosses the book takes what is shown; one that rests fills
when the book comes to show the other side at or through its price. There is no market impact: the market goes on as
it was recorded, whatever we traded. Nothing fills while the book is not LIVE.

`CrossModel` (``cross``)
    That is all: public trades fill nothing, and there is no queue. Pessimistic for an order at the touch (what trades
    at its price passes it by), optimistic in that the whole crossing size is ours.

`QueueModel` (``queue``, ``queue-pro-rata``)
    The order stands at the end of its level's queue: behind the size shown when it came. A public trade at its price,
    by an aggressor of the other side, takes from what is ahead; what is left of it fills our orders, oldest first.
    A trade through its price fills it before all else. What a level loses beyond its trades was cancelled:

    * ``queue``: behind us, as far as that is possible (pessimistic);
    * ``queue-pro-rata``: ahead of us in proportion to the size ahead, rounded down.

    What is added to a level later stands behind us. Trades and book come over different channels: a loss of the level
    waits `trade_lag_ns` for its trade before it counts as cancelled, and a trade waits as long for its loss. A trade
    without an aggressor counts only if it is through the price. Our own orders are not in the displayed queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Side, Trade
from raytrade.core.prices import FRACTION_DIGITS_MAX, POWERS
from raytrade.strategy.ledger import EXACT
from raytrade.strategy.orders import FillRule, Order, PaperSettings

Execution = tuple[Order, Decimal]
"""A resting order, and how much of it is executed at its own price."""

_ONE_BASE = 10**FRACTION_DIGITS_MAX


class FillModel(Protocol):
    """Decides which resting orders public trades execute; told of all that could matter to a queue."""

    def rest(self, order: Order, book: L2Book) -> None:
        """An order begins to rest."""

    def forget(self, order: Order) -> None:
        """An order does not rest any more."""

    def receive_book(self, book: L2Book, now_ns: Nanos) -> None:
        """A book in which orders rest has moved and is LIVE."""

    def receive_trade(self, book: L2Book, trade: Trade, orders: Iterable[Order], now_ns: Nanos) -> list[Execution]:
        """Give what a public trade executes of `orders`, which rest in the LIVE book, in the order of priority."""
        ...


class CrossModel:
    """Public trades execute nothing."""

    def rest(self, order: Order, book: L2Book) -> None:
        """Nothing to remember."""

    def forget(self, order: Order) -> None:
        """Nothing to forget."""

    def receive_book(self, book: L2Book, now_ns: Nanos) -> None:
        """There are no queues."""

    def receive_trade(self, book: L2Book, trade: Trade, orders: Iterable[Order], now_ns: Nanos) -> list[Execution]:
        """Nothing is executed."""
        return []


class _Place:
    """An order's place in its level's queue; price and sizes are integers of 18 fractional digits.

    `lost`: what the level has lost without a trade so far. `early`: traded, and still shown.
    """

    __slots__ = ("ahead", "early", "early_ns", "lost", "lost_ns", "price", "shown", "side")

    def __init__(self, side: Side, price: int, shown: int) -> None:
        self.side = side
        self.price = price
        self.ahead = self.shown = shown
        self.lost = self.early = 0
        self.lost_ns = self.early_ns = 0

    def follow(self, shown: int, now_ns: Nanos) -> None:
        """The level shows another size."""
        loss, self.shown = self.shown - shown, shown
        if loss > 0:
            explained = min(loss, self.early)
            self.early -= explained
            if not self.lost:
                self.lost_ns = now_ns
            self.lost += loss - explained

    def trade(self, size: int, now_ns: Nanos) -> int:
        """Trade at the level; gives what is left for us after those ahead."""
        left = max(size - self.ahead, 0)
        self.ahead = max(self.ahead - size, 0)
        explained = min(size, self.lost)
        self.lost -= explained
        if size > explained:
            self.early_ns = now_ns
            self.early = min(self.early + size - explained, self.shown)
        return left

    def settle(self, now_ns: Nanos, lag_ns: Nanos, *, pro_rata: bool) -> None:
        """What has waited too long for its counterpart has none."""
        if self.early and now_ns - self.early_ns >= lag_ns:
            self.early = 0
        if self.lost and now_ns - self.lost_ns >= lag_ns:
            if pro_rata:
                self.ahead -= self.lost * self.ahead // max(self.shown + self.lost, 1)
            self.ahead = min(self.ahead, self.shown)
            self.lost = 0


class QueueModel:
    """Orders wait their turn in their level's queue."""

    def __init__(self, trade_lag_ns: Nanos, *, pro_rata: bool) -> None:
        self._lag_ns = trade_lag_ns
        self._pro_rata = pro_rata
        self._places: dict[str, dict[int, _Place]] = {}

    def rest(self, order: Order, book: L2Book) -> None:
        """Join the queue behind what is shown."""
        price = _integer(order.price or Decimal(0))
        shown = _shown(book, order.side, price)
        self._places.setdefault(order.instrument, {})[order.order_id] = _Place(order.side, price, shown)

    def forget(self, order: Order) -> None:
        """Leave the queue."""
        del self._places[order.instrument][order.order_id]

    def ahead(self, order: Order) -> Decimal:
        """Give the size that stands ahead of an order."""
        return _decimal(self._places[order.instrument][order.order_id].ahead)

    def receive_book(self, book: L2Book, now_ns: Nanos) -> None:
        """Follow the sizes of the levels at which orders rest."""
        for place in self._places.get(book.instrument, {}).values():
            shown = _shown(book, place.side, place.price)
            if shown != place.shown:
                place.follow(shown, now_ns)
            if place.lost or place.early:
                place.settle(now_ns, self._lag_ns, pro_rata=self._pro_rata)

    def receive_trade(self, book: L2Book, trade: Trade, orders: Iterable[Order], now_ns: Nanos) -> list[Execution]:
        """Let a trade take from what is ahead, then from us; all our executions share the trade's size."""
        places = self._places.get(book.instrument)
        if not places:
            return []
        price = trade.price * POWERS[FRACTION_DIGITS_MAX - trade.price_scale]
        size = trade.size * POWERS[FRACTION_DIGITS_MAX - trade.size_scale]
        found: list[Execution] = []
        used = 0
        for order in orders:
            place = places[order.order_id]
            if trade.aggressor is place.side:
                continue
            through = place.price - price if place.side is Side.BUY else price - place.price
            if through > 0:
                place.ahead, left = 0, size
            elif through == 0 and trade.aggressor is not Side.NONE:
                left = place.trade(size, now_ns)
            else:
                continue
            quantity = min(_integer(order.remaining), left - used)
            if quantity > 0:
                used += quantity
                found.append((order, _decimal(quantity)))
        return found


def model_of(settings: PaperSettings) -> FillModel:
    """Make the model that the settings name."""
    if settings.fill_rule is FillRule.CROSS:
        return CrossModel()
    return QueueModel(settings.trade_lag_ns, pro_rata=settings.fill_rule is FillRule.QUEUE_PRO_RATA)


def _integer(amount: Decimal) -> int:
    return int(EXACT.multiply(amount, Decimal(_ONE_BASE)))


def _decimal(amount: int) -> Decimal:
    return EXACT.scaleb(Decimal(amount), -FRACTION_DIGITS_MAX)


def _shown(book: L2Book, side: Side, price: int) -> int:
    ticks, rest = divmod(price, POWERS[FRACTION_DIGITS_MAX - book.price_scale])
    return 0 if rest else book.size_at(side, ticks) * POWERS[FRACTION_DIGITS_MAX - book.size_scale]
