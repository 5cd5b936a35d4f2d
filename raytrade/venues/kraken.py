"""Kraken spot, websocket v2: in-band books without any id, proved by a CRC32 after every message.

Rules (docs "Book" and "Book checksum", read 2026-07-21): apply a message's levels in their order, then cut
each side to the subscribed depth, because no deletion is sent for levels that fall out; then the checksum
over the best 10 levels must agree, else subscribe anew. Numbers are JSON numbers in the market's fixed
precision and trailing zeros count: they are read from their text. The machine adds the deletions of the cut
to the delta it emits.

Frame: ``{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":63381.0,
"qty":0.00000000}],"asks":[],"checksum":3726153463,"timestamp":"2026-08-02T03:35:51.660084Z"}]}``
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, Channel, Flag, Side, Trade
from raytrade.core.prices import Quantizer
from raytrade.errors import DecodeError
from raytrade.venues.lead import LeadMachine, Reading
from raytrade.venues.protocol import (
    ChannelSpec,
    Endpoint,
    Identifier,
    Instant,
    Limits,
    MergeClass,
    VenueSpec,
    timestamp_ns,
)

DEPTH = 1000
EXPONENT_MAX = 40
SYMBOLS_PER_FRAME_MAX = 200


class Level(msgspec.Struct):
    """One price level; the numbers as text, as sent."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Book(msgspec.Struct):
    """One entry of a book message."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    timestamp: Instant | None = None


class Print(msgspec.Struct):
    """One public trade; `side` is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: Identifier
    timestamp: Instant


class Result(msgspec.Struct):
    """What an acknowledgement confirms."""

    channel: str = ""
    symbol: str = ""
    depth: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = DEPTH


class Frame(msgspec.Struct):
    """A message of a channel, or a reply (with a method)."""

    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()
    method: str = ""
    success: bool = True
    error: str = ""
    symbol: str = ""
    result: Result | None = None


_frames = msgspec.json.Decoder(Frame)
_books = msgspec.json.Decoder(list[Book])
_prints = msgspec.json.Decoder(list[Print])
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def number_text(number: msgspec.Raw) -> str:
    """Give a JSON number's digits, all of them, without an exponent.

    Raises:
        DecodeError: the exponent is absurd.
    """
    text = str(number, "ascii")
    if "e" not in text and "E" not in text:
        return text
    mantissa, _, exponent = text.lower().partition("e")
    digits = exponent.lstrip("+-")
    if not (mantissa.replace(".", "", 1).isdecimal() and digits.isdecimal() and len(digits) <= 4):
        raise DecodeError("not a price or size", text[:64])
    if int(digits) > EXPONENT_MAX or len(mantissa) > EXPONENT_MAX:
        raise DecodeError("price or size has too many digits", text[:64])
    return f"{Decimal(text):f}"


def _pairs(levels: list[Level]) -> list[tuple[str, str]]:
    return [(number_text(level.price), number_text(level.qty)) for level in levels]


class KrakenMachine(LeadMachine):
    """A line to Kraken spot v2."""

    silence_ns_max: ClassVar[Nanos] = 10 * SECOND
    ping_interval_ns: ClassVar[Nanos] = 30 * SECOND
    ping_frame: ClassVar[str] = '{"method":"ping"}'
    checksum: ClassVar[str] = "kraken"

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        super().__init__(venue, endpoint)
        self._depths: dict[str, int] = {}
        self._trade_quantizers: dict[str, Quantizer] = {}

    def receive_open(self, now_ns: Nanos) -> None:
        """The connection is open; depths are those asked for until acknowledged otherwise."""
        self._depths = {}
        super().receive_open(now_ns)

    def _subscribe(self) -> list[str]:
        books, trades = self._subscribed(Channel.BOOK), self._subscribed(Channel.TRADES)
        chunks = range(0, max(len(books), len(trades)), SYMBOLS_PER_FRAME_MAX)
        frames = [self._request("subscribe", books[at : at + SYMBOLS_PER_FRAME_MAX]) for at in chunks]
        frames += [self._trade_request(trades[at : at + SYMBOLS_PER_FRAME_MAX]) for at in chunks]
        return [frame for frame in frames if frame]

    @staticmethod
    def _request(method: str, symbols: list[str]) -> str:
        if not symbols:
            return ""
        params = {"channel": "book", "symbol": symbols, "depth": DEPTH}
        if method == "subscribe":
            params["snapshot"] = True
        return msgspec.json.encode({"method": method, "params": params}).decode()

    @staticmethod
    def _trade_request(symbols: list[str]) -> str:
        if not symbols:
            return ""
        params = {"channel": "trade", "symbol": symbols, "snapshot": True}
        return msgspec.json.encode({"method": "subscribe", "params": params}).decode()

    def _resubscribe(self, symbol: str) -> list[str]:
        return [self._request("unsubscribe", [symbol]), self._request("subscribe", [symbol])]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames.decode(frame)
        match message.channel:
            case "book":
                self._read_books(message, ts_recv_ns)
            case "trade":
                self._read_trades(message, ts_recv_ns)
            case _:
                self._read_reply(message)

    def _read_reply(self, message: Frame) -> None:
        if message.method != "subscribe":
            return
        result = message.result
        if not message.success:
            if message.symbol:
                self._refuse(message.symbol, message.error)
            else:
                self._refuse_unserved(message.error)
        elif result is not None and result.channel == "book":
            self._depths[result.symbol] = result.depth

    def _read_books(self, message: Frame, ts_recv_ns: Nanos) -> None:
        if not message.data or message.type not in ("snapshot", "update"):
            raise DecodeError(f"book message of type {message.type!r}")
        is_snapshot = message.type == "snapshot"
        readings = [self._reading(book, is_snapshot) for book in _books.decode(message.data)]
        for reading in readings:
            self._take_book(reading, ts_recv_ns)

    def _reading(self, book: Book, is_snapshot: bool) -> Reading:
        symbol = book.symbol
        if is_snapshot:
            self._quantizers.pop(symbol, None)  # its scales must be the market's precision as it is now
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.levels(_pairs(book.bids), _pairs(book.asks))
        return Reading(
            symbol=symbol,
            instrument=self._instrument(symbol),
            is_snapshot=is_snapshot,
            bids=bids,
            asks=asks,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            ts_venue_ns=timestamp_ns(book.timestamp) if book.timestamp else 0,
            epoch=self.epoch,
            checksum=book.checksum,
            depth=self._depths.get(symbol, DEPTH),
        )

    def _cut(self, book: L2Book, event: BookDelta) -> BookDelta:
        bids, asks = book.cut(book.depth)
        if not bids and not asks:
            return event
        return msgspec.structs.replace(event, bids=event.bids + bids, asks=event.asks + asks)

    def _read_trades(self, message: Frame, ts_recv_ns: Nanos) -> None:
        if not message.data:
            raise DecodeError("trade message without data")
        flags = Flag.HISTORY if message.type == "snapshot" else 0
        rows = _prints.decode(message.data)
        trades = [(row.symbol, self._trade(row, flags, ts_recv_ns)) for row in rows]
        for symbol, trade in trades:
            self._take_trade(symbol, trade)

    def _trade(self, row: Print, flags: int, ts_recv_ns: Nanos) -> Trade:
        quantizer = self._trade_quantizers.setdefault(row.symbol, Quantizer())
        ((price, size),) = quantizer.levels([(number_text(row.price), number_text(row.qty))])
        return Trade(
            instrument=self._instrument(row.symbol),
            trade_id=str(row.trade_id),
            sequence=row.trade_id,
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_SIDES[row.side],
            ts_venue_ns=timestamp_ns(row.timestamp),
            ts_recv_ns=ts_recv_ns,
            flags=flags,
        )


def display_id(id_last: int, ts_venue_ns: Nanos) -> str:
    """Give the time of the message, which is all that names it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_venue_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


KRAKEN = VenueSpec(
    name="kraken-v2",
    title="Kraken spot (websocket v2)",
    machine=KrakenMachine,
    ws_url="wss://ws.kraken.com/v2",
    rest_url="https://api.kraken.com",
    channels={
        Channel.BOOK: ChannelSpec(
            name="book",
            merge=MergeClass.LEAD,
            integrity="CRC32 of the best 10 levels after every message",
            checksum="kraken",
            snapshot="in band",
        ),
        Channel.TRADES: ChannelSpec(name="trade", merge=MergeClass.TRADE, integrity="none"),
    },
    limits=Limits(connections_per_window_max=150, connection_window_s=600),
    note="no sequence: a lost level below the best 10 does not show",
    display_id=display_id,
)
