"""Watch one market on several venues, and log when one venue's bid is above another's ask.

Parameters
    groups         the same market by venue: ``{"BTC/USDT": ["binance-spot:BTCUSDT", "hitbtc:BTCUSDT"]}``
    threshold_bps  log an edge of at least this many basis points of the mid price, after both taker fees
    fees_bps       taker fee by venue in basis points; a venue that is not named has none

Assumes that the instruments of a group are the same thing in the same quote (USDT is not USD), and that both
books are current: a book that is not LIVE has no top and is left out. The edge is for the size shown at the
touch, and nothing is bought or sold. Floats are precise enough for basis points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from raytrade.core.book import L2Book
from raytrade.core.instrument import split_instrument
from raytrade.strategy import BaseStrategy, Context


class SpreadMonitor(BaseStrategy):
    """Logs when an edge between two venues opens and closes; the gauge ``edge_bps <group>`` is the best."""

    def __init__(
        self,
        groups: Mapping[str, Sequence[str]],
        threshold_bps: float = 0.0,
        fees_bps: Mapping[str, float] | None = None,
    ) -> None:
        self.threshold_bps = float(threshold_bps)
        self.fees_bps = {venue: float(fee) for venue, fee in (fees_bps or {}).items()}
        self.groups = {group: tuple(instruments) for group, instruments in groups.items()}
        self.group_of = {name: group for group, instruments in groups.items() for name in instruments}
        self.open: set[tuple[str, str]] = set()

    def on_book(self, context: Context, book: L2Book) -> None:
        """Compare the book that has moved with the others of its group."""
        group = self.group_of.get(book.instrument)
        if group is None:
            return
        edges = {}
        for seller, buyer in permutations(self.groups[group], 2):
            if book.instrument in (seller, buyer):
                edge = self.edge_bps(context, seller, buyer)
                if edge is not None:
                    edges[seller, buyer] = edge
                self.note(context, group, (seller, buyer), edge)
        if edges:
            context.record(f"edge_bps {group}", max(edges.values()))

    def edge_bps(self, context: Context, seller: str, buyer: str) -> float | None:
        """Give what buying at `seller`'s ask and selling at `buyer`'s bid leaves, after fees."""
        offer, wanted = context.book(seller).top(), context.book(buyer).top()
        if offer is None or wanted is None:
            return None
        fees = sum(self.fees_bps.get(split_instrument(name)[0], 0.0) for name in (seller, buyer))
        return 20_000 * (wanted.bid - offer.ask) / (wanted.bid + offer.ask) - fees

    def note(self, context: Context, group: str, pair: tuple[str, str], edge: float | None) -> None:
        """Log an edge once when it opens and once when it is gone."""
        is_open = edge is not None and edge > 0 and edge >= self.threshold_bps
        if is_open and pair not in self.open:
            self.open.add(pair)
            context.log("edge opened", group=group, buy_on=pair[0], sell_on=pair[1], edge_bps=edge)
        elif not is_open and pair in self.open:
            self.open.discard(pair)
            context.log("edge closed", group=group, buy_on=pair[0], sell_on=pair[1])
