"""Make a market as Avellaneda and Stoikov have it: quotes around a price that leans against the inventory.

Source: Avellaneda and Stoikov, "High-frequency trading in a limit order book", Quantitative Finance 8 (2008), with the
horizon rolling on: reservation price = microprice - q * gamma * variance * horizon, half the spread = gamma * variance
* horizon / 2 + log(1 + gamma / kappa) / gamma, where q is the position in units of `quantity`.

Parameters
    instrument       what is traded, e.g. ``binance-spot:BTCUSDT``
    quantity, tick   size of a quote in the base and least step of its price, as text: ``"0.01"``
    gamma, kappa     aversion to risk; how fast fills fall off with the distance; both per unit of the quote
    limit            most units held, long or short
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import log

from raytrade.core.book import L2Book, Top
from raytrade.core.events import Gap, Side
from raytrade.strategy import BaseStrategy, Context
from raytrade.strategy.features import RealisedVolatility, microprice

HORIZON_S = 30.0


class MarketMaker(BaseStrategy):
    """Looks at its quotes every 100 ms; none crosses the touch. Its gauges are ``reservation`` and ``half_spread``."""

    timer_interval_ns = 100_000_000

    def __init__(
        self, instrument: str, quantity: str, tick: str, gamma: float = 0.1, kappa: float = 1.5, limit: int = 5
    ) -> None:
        self.instrument, self.quantity, self.tick = instrument, Decimal(str(quantity)), Decimal(str(tick))
        self.gamma, self.kappa, self.limit = float(gamma), float(kappa), int(limit)
        self.volatility = RealisedVolatility()

    def on_book(self, context: Context, book: L2Book) -> None:
        """Measure how far the price moves."""
        if book.instrument == self.instrument and (top := book.top()) is not None:
            self.volatility.update(top.mid, context.now_ns)

    def on_gap(self, context: Context, gap: Gap) -> None:
        """Take the quotes off: the book they were made for is not there any more."""
        for order_id in list(context.orders):
            context.cancel(order_id)

    def on_timer(self, context: Context, now_ns: int) -> None:
        """Move the quotes to where they should be."""
        top, deviation = context.book(self.instrument).top(), self.volatility.value
        if top is None or deviation is None:
            return
        resting = {order.side: order for order in context.orders.values()}
        for side, price in self.quotes(context, top, deviation).items():
            if side not in resting or resting[side].price != price:
                context.limit(self.instrument, side, price, self.quantity)
            else:
                del resting[side]
        for order in resting.values():
            context.cancel(order.order_id)

    def quotes(self, context: Context, top: Top, deviation: float) -> dict[Side, Decimal]:
        """Give the prices that both sides should have; a side whose limit is reached has none."""
        risk = self.gamma * (deviation * top.mid) ** 2 * HORIZON_S
        units = float(context.position(self.instrument) / self.quantity)
        centre, half = microprice(top) - units * risk, risk / 2 + log(1 + self.gamma / self.kappa) / self.gamma
        context.record("reservation", centre)
        context.record("half_spread", half)
        bid = self.on_tick(min(centre - half, top.bid), ROUND_FLOOR)
        ask = self.on_tick(max(centre + half, top.ask), ROUND_CEILING)
        wanted = ((Side.BUY, bid, units), (Side.SELL, ask, -units))
        return {side: price for side, price, held in wanted if held < self.limit}

    def on_tick(self, price: float, rounding: str) -> Decimal:
        """Bring a price to a tick; one within a thousandth of a tick of it is that tick."""
        ticks = Decimal(f"{price / float(self.tick):.3f}").to_integral_value(rounding)
        return max(ticks, Decimal(1)) * self.tick
