"""Bybit v5 public streams: in-band windowed books with an update id; one socket per category of instruments.

Rules (docs "Orderbook", read 2026-07-21): a new snapshot may come any time and replaces the book, ``u == 1``
after a restart of the service. Consecutive ``u`` is promised only for the full book; for the windowed topics
it was so in every recording (2,142 of 2,142), so a jump counts as a loss. The same symbol exists in several
categories with different books: our symbols are written ``<category>:<symbol>``.

Frame: ``{"topic":"orderbook.200.BTCUSDT","ts":1786310816618,"type":"delta","data":{"s":"BTCUSDT",
"b":[["65140.4","0.875077"]],"a":[["65239.1","0"]],"u":62505425,"seq":112488545865},"cts":1786310816585}``
"""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel, Side, Trade
from raytrade.errors import ConfigError, DecodeError
from raytrade.venues.lead import LeadMachine, Reading
from raytrade.venues.protocol import (
    ChannelSpec,
    Endpoint,
    Identifier,
    Limits,
    MergeClass,
    Milliseconds,
    Subscription,
    VenueSpec,
)

CATEGORIES = ("spot", "linear", "inverse", "option")
DEPTH = 200
DEPTH_OF_OPTIONS = 100
DEPTH_DIGITS_MAX = 5


class Book(msgspec.Struct):
    """A book or changed levels."""

    s: str
    b: msgspec.Raw
    a: msgspec.Raw
    u: Identifier


class Print(msgspec.Struct):
    """One public trade; `S` is the taker's side."""

    T: Milliseconds
    s: str
    S: Literal["Buy", "Sell"]
    v: str
    p: str
    i: str


class Frame(msgspec.Struct):
    """A message of a topic, or a reply (with an op)."""

    topic: str = ""
    type: str = ""
    ts: Milliseconds = 0
    cts: Milliseconds = 0
    data: msgspec.Raw = msgspec.Raw()
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: str = ""


_frames = msgspec.json.Decoder(Frame)
_books = msgspec.json.Decoder(Book)
_prints = msgspec.json.Decoder(list[Print])
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}


def split_symbol(symbol: str) -> tuple[str, str]:
    """Give (category, the venue's own symbol).

    Raises:
        ConfigError: there is no known category before the colon.
    """
    category, _, own = symbol.partition(":")
    if category not in CATEGORIES or not own:
        raise ConfigError("", symbol, f"a Bybit symbol is <category>:<symbol>, categories {', '.join(CATEGORIES)}")
    return category, own


class BybitMachine(LeadMachine):
    """A line to one category of Bybit v5."""

    survives_bad_frame: ClassVar[bool] = True
    silence_ns_max: ClassVar[Nanos] = 60 * SECOND
    ping_interval_ns: ClassVar[Nanos] = 20 * SECOND
    ping_frame: ClassVar[str] = '{"op":"ping"}'
    chain: ClassVar[str] = "u"

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        super().__init__(venue, endpoint)
        self.category = endpoint.part or urlsplit(endpoint.url).path.rpartition("/")[2]

    @classmethod
    def endpoints(cls, ws_url: str, rest_url: str, subscriptions: tuple[Subscription, ...]) -> list[Endpoint]:
        """A socket per category."""
        by_category: dict[str, list[Subscription]] = {}
        for subscription in subscriptions:
            by_category.setdefault(split_symbol(subscription.symbol)[0], []).append(subscription)
        return [
            Endpoint(
                url=f"{ws_url}/v5/public/{category}",
                rest_url=rest_url,
                subscriptions=tuple(wanted),
                part=category,
            )
            for category, wanted in by_category.items()
        ]

    def _book_topic(self, symbol: str) -> str:
        depth = DEPTH_OF_OPTIONS if self.category == "option" else DEPTH
        return f"orderbook.{depth}.{symbol.partition(':')[2]}"

    def _topics(self, subscription: Subscription) -> list[str]:
        topics = []
        if Channel.BOOK in subscription.channels:
            topics.append(self._book_topic(subscription.symbol))
        if Channel.TRADES in subscription.channels:
            topics.append(f"publicTrade.{subscription.symbol.partition(':')[2]}")
        return topics

    def _subscribe(self) -> list[str]:
        """A request per symbol, because one unknown topic may spoil the whole request."""
        return [self._request("subscribe", s.symbol, self._topics(s)) for s in self.endpoint.subscriptions]

    @staticmethod
    def _request(operation: str, symbol: str, topics: list[str]) -> str:
        return msgspec.json.encode({"req_id": symbol, "op": operation, "args": topics}).decode()

    def _resubscribe(self, symbol: str) -> list[str]:
        topics = [self._book_topic(symbol)]
        return [self._request(operation, symbol, topics) for operation in ("unsubscribe", "subscribe")]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames.decode(frame)
        channel, _, rest = message.topic.partition(".")
        match channel:
            case "orderbook":
                self._read_book(message, rest.partition(".")[0], ts_recv_ns)
            case "publicTrade":
                self._read_trades(message, ts_recv_ns)
            case "":
                self._read_reply(message)

    def _read_reply(self, message: Frame) -> None:
        if message.success or message.op != "subscribe":
            return
        if message.req_id:
            self._refuse(message.req_id, message.ret_msg)
        else:
            self._refuse_unserved(message.ret_msg)

    def _read_book(self, message: Frame, depth: str, ts_recv_ns: Nanos) -> None:
        is_depth = depth.isdecimal() and len(depth) <= DEPTH_DIGITS_MAX
        if not message.data or message.type not in ("snapshot", "delta") or not is_depth:
            raise DecodeError(f"message of type {message.type!r} on {message.topic[:64]!r}")
        book = _books.decode(message.data)
        symbol = f"{self.category}:{book.s}"
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.json_levels(book.b, book.a)
        reading = Reading(
            symbol=symbol,
            instrument=self._instrument(symbol),
            is_snapshot=message.type == "snapshot",
            bids=bids,
            asks=asks,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            ts_venue_ns=(message.cts or message.ts) * MILLISECOND,
            epoch=self.epoch,
            id_prev=book.u - 1,
            id_last=book.u,
            depth=int(depth),
        )
        self._take_book(reading, ts_recv_ns)

    def _read_trades(self, message: Frame, ts_recv_ns: Nanos) -> None:
        if not message.data:
            raise DecodeError("publicTrade without data")
        rows = _prints.decode(message.data)
        trades = [(f"{self.category}:{row.s}", self._trade(row, ts_recv_ns)) for row in rows]
        for symbol, trade in trades:
            self._take_trade(symbol, trade)

    def _trade(self, row: Print, ts_recv_ns: Nanos) -> Trade:
        symbol = f"{self.category}:{row.s}"
        quantizer = self._quantizer(symbol)
        ((price, size),) = quantizer.levels([(row.p, row.v)])
        return Trade(
            instrument=self._instrument(symbol),
            trade_id=row.i,
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_SIDES[row.S],
            ts_venue_ns=row.T * MILLISECOND,
            ts_recv_ns=ts_recv_ns,
        )


def display_id(id_last: int, ts_venue_ns: Nanos) -> int:
    """Give the update id."""
    return id_last


BYBIT = VenueSpec(
    name="bybit-v5",
    title="Bybit (API v5)",
    machine=BybitMachine,
    ws_url="wss://stream.bybit.com",
    rest_url="https://api.bybit.com",
    channels={
        Channel.BOOK: ChannelSpec(
            name=f"orderbook.{DEPTH}.<symbol>",
            merge=MergeClass.LEAD,
            integrity="u == previous u + 1",
            snapshot="in band",
        ),
        Channel.TRADES: ChannelSpec(name="publicTrade.<symbol>", merge=MergeClass.TRADE, integrity="none"),
    },
    limits=Limits(connections_per_window_max=500, connection_window_s=300),
    note="symbols are written <category>:<symbol>, each category needs a socket",
    display_id=display_id,
)
