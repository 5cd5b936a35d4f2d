"""Binance USD-M and COIN-M futures: like spot, but ids are shared by all symbols and chained by ``pu``.

Rules (docs "How to manage a local order book correctly", futures): drop what has ``u < lastUpdateId``, the first
kept has ``pu <= lastUpdateId <= u``, then ``pu == u_previous``. A delta with ``u == lastUpdateId`` may be applied or
dropped: the book is the same.

Book streams are served under ``/public``, trades under ``/market``: two sockets (since 2026-04-23).
"""

from __future__ import annotations

from typing import ClassVar

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel
from raytrade.errors import DecodeError
from raytrade.venues.binance import BinanceMachine
from raytrade.venues.protocol import ChannelSpec, Endpoint, Limits, MergeClass, Subscription, VenueSpec


class BinanceFuturesMachine(BinanceMachine):
    """A line to Binance USD-M futures."""

    silence_ns_max: ClassVar[Nanos] = 60 * SECOND
    depth_path: ClassVar[str] = "/fapi/v1/depth"
    depth_limit: ClassVar[int] = 1000
    depth_weight: ClassVar[int] = 20
    trade_stream: ClassVar[str] = "aggTrade"

    @classmethod
    def endpoints(cls, ws_url: str, rest_url: str, subscriptions: tuple[Subscription, ...]) -> list[Endpoint]:
        """A socket for books and one for trades, where wanted."""
        sockets = []
        for part, channel in (("public", Channel.BOOK), ("market", Channel.TRADES)):
            wanted = tuple(Subscription(s.symbol, (channel,)) for s in subscriptions if channel in s.channels)
            if wanted:
                url = f"{ws_url}/{part}/stream"
                sockets.append(Endpoint(url=url, rest_url=rest_url, subscriptions=wanted, part=part))
        return sockets

    def _previous(self, first: int, previous: int | None) -> int:
        if previous is None:
            raise DecodeError("futures depthUpdate without pu")
        return previous


class BinanceCoinMachine(BinanceFuturesMachine):
    """A line to Binance COIN-M futures."""

    depth_path: ClassVar[str] = "/dapi/v1/depth"


_BOOK = ChannelSpec(
    name="<symbol>@depth@100ms",
    merge=MergeClass.LOOSE,
    integrity="pu == previous u",
    snapshot="rest",
)
_TRADES = ChannelSpec(name="<symbol>@aggTrade", merge=MergeClass.DENSE, integrity="aggregate trade id + 1")
_LIMITS = Limits(
    streams_per_connection_max=1024,
    connections_per_window_max=300,
    connection_window_s=300,
    connection_life_s=24 * 3600,
    snapshot_weight=BinanceFuturesMachine.depth_weight,
    weight_per_minute_max=2400,
)

BINANCE_USDM = VenueSpec(
    name="binance-usdm",
    title="Binance USD-M futures",
    machine=BinanceFuturesMachine,
    ws_url="wss://fstream.binance.com",
    rest_url="https://fapi.binance.com",
    channels={Channel.BOOK: _BOOK, Channel.TRADES: _TRADES},
    limits=_LIMITS,
    note="books and trades need a socket each",
)
BINANCE_COINM = VenueSpec(
    name="binance-coinm",
    title="Binance COIN-M futures",
    machine=BinanceCoinMachine,
    ws_url="wss://dstream.binance.com",
    rest_url="https://dapi.binance.com",
    channels={Channel.BOOK: _BOOK, Channel.TRADES: _TRADES},
    limits=_LIMITS,
    note="sizes are contracts",
)
