"""OKX v5, OKCoin v5, OKCoin v3: in-band books of 400 levels, chained by `prevSeqId` or proved by a checksum.

Rules (docs "Order book channel", read 2026-07-21): ``prevSeqId`` equals the last ``seqId``; a keep-alive has
both equal and no levels; after maintenance ``seqId`` may be lower, which is a new start. The CRC32 came with
every message until 2026-06-23 and is 0 since; recordings up to 2023 have the CRC32 and no ids. Both kinds
are read: a message without ``seqId`` is counted and must verify (there 0 is the checksum of the empty book);
beside a ``seqId`` a checksum of 0 is none.

Frame: ``{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["30249.4","0","0",
"0"]],"bids":[["30182.6","452","0","1"]],"ts":"1652459225464","checksum":-914047754}]}``
v3 frame, a raw deflate stream: ``{"table":"spot/depth_l2_tbt","action":"update","data":[{"asks":[],"bids":[],
"instrument_id":"USDT-USD","timestamp":"2021-04-05T18:10:56.439Z","checksum":791958631}]}``
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel, Side, Trade
from raytrade.errors import DecodeError
from raytrade.venues.lead import LeadMachine, Reading
from raytrade.venues.protocol import (
    FRAME_BYTES_MAX,
    ChannelSpec,
    Identifier,
    Instant,
    Limits,
    MergeClass,
    Milliseconds,
    Reconnect,
    VenueSpec,
    timestamp_ns,
)

DEPTH = 400
ARGUMENTS_PER_FRAME_MAX = 100
UPGRADE_NOTICE = "64008"

Row = Annotated[list[str], msgspec.Meta(min_length=2)]
"""Price, size, and what else the version adds."""
Checksum = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
DigitsText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,18}\Z")]


class Argument(msgspec.Struct, frozen=True):
    """Which stream a message belongs to."""

    channel: str = ""
    instId: str = ""


class Book(msgspec.Struct):
    """A book or changed levels."""

    asks: list[Row]
    bids: list[Row]
    ts: DigitsText
    checksum: Checksum = 0
    seqId: Identifier | None = None
    prevSeqId: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] = -1


class Print(msgspec.Struct):
    """One public trade; `side` is the taker's."""

    instId: str
    tradeId: DigitsText
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: DigitsText


class Frame(msgspec.Struct):
    """A message of a stream, or an event about one."""

    arg: Argument = Argument()
    action: str = ""
    data: msgspec.Raw = msgspec.Raw()
    event: str = ""
    code: str | int = ""
    msg: str = ""


_frames = msgspec.json.Decoder(Frame)
_books = msgspec.json.Decoder(list[Book])
_prints = msgspec.json.Decoder(list[Print])
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def _pairs(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows]


def _unsigned(checksum: int) -> int:
    return checksum & 0xFFFFFFFF


def milliseconds_ns(text: str) -> Nanos:
    """Give a time in ms, sent as text, in nanoseconds."""
    return msgspec.convert(int(text), Milliseconds) * MILLISECOND


def _chunks(operation: str, arguments: list[dict[str, str]] | list[str]) -> list[str]:
    """Give the requests for these streams, each far below the 64 KB that the venue takes."""
    return [
        msgspec.json.encode({"op": operation, "args": arguments[at : at + ARGUMENTS_PER_FRAME_MAX]}).decode()
        for at in range(0, len(arguments), ARGUMENTS_PER_FRAME_MAX)
    ]


class OkxLine(LeadMachine):
    """What v3 and v5 share: the text ping, and errors that name their symbol only in prose."""

    silence_ns_max: ClassVar[Nanos] = 60 * SECOND
    ping_interval_ns: ClassVar[Nanos] = 25 * SECOND
    ping_frame: ClassVar[str] = "ping"
    checksum: ClassVar[str] = "okx"
    chain: ClassVar[str] = "prevSeqId"

    def _refuse_named(self, text: str) -> None:
        """Refuse the symbol that the text names (the longest, where one is part of another)."""
        symbols = {subscription.symbol for subscription in self.endpoint.subscriptions}
        named = [symbol for symbol in symbols if symbol in text]
        if named:
            self._refuse(max(named, key=len), text)
        else:
            self._refuse_unserved(text)

    def _print(self, row: Print, ts_venue_ns: Nanos, ts_recv_ns: Nanos) -> Trade:
        quantizer = self._quantizer(row.instId)
        ((price, size),) = quantizer.levels([(row.px, row.sz)])
        return Trade(
            instrument=self._instrument(row.instId),
            trade_id=row.tradeId,
            sequence=int(row.tradeId),
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_SIDES[row.side],
            ts_venue_ns=ts_venue_ns,
            ts_recv_ns=ts_recv_ns,
        )


class OkxMachine(OkxLine):
    """A line to OKX v5 or OKCoin v5."""

    def _subscribe(self) -> list[str]:
        books = [{"channel": "books", "instId": symbol} for symbol in self._subscribed(Channel.BOOK)]
        trades = [{"channel": "trades", "instId": symbol} for symbol in self._subscribed(Channel.TRADES)]
        return _chunks("subscribe", books + trades)

    def _resubscribe(self, symbol: str) -> list[str]:
        argument = {"channel": "books", "instId": symbol}
        return _chunks("unsubscribe", [argument]) + _chunks("subscribe", [argument])

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        if frame in ("pong", b"pong"):
            return
        message = _frames.decode(frame)
        if message.event:
            self._read_event(message)
        elif message.arg.channel.startswith("books") and message.action:
            self._read_book(message, ts_recv_ns)
        elif message.arg.channel == "trades":
            self._read_trades(message, ts_recv_ns)

    def _read_event(self, message: Frame) -> None:
        if message.event == "error":
            self._refuse_named(message.msg)
        elif message.event == "notice" and str(message.code) == UPGRADE_NOTICE:
            self._commands.append(Reconnect("the venue announced an upgrade of this server"))

    def _read_book(self, message: Frame, ts_recv_ns: Nanos) -> None:
        if not message.data or message.action not in ("snapshot", "update"):
            raise DecodeError(f"book message with action {message.action!r}")
        symbol, is_snapshot = message.arg.instId, message.action == "snapshot"
        readings = [self._reading(symbol, book, is_snapshot) for book in _books.decode(message.data)]
        for reading in readings:
            self._take_book(reading, ts_recv_ns)

    def _reading(self, symbol: str, book: Book, is_snapshot: bool) -> Reading:
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
            ts_venue_ns=milliseconds_ns(book.ts),
            epoch=self.epoch if book.seqId is None else 0,
            id_prev=book.prevSeqId,
            id_last=book.seqId,
            checksum=_unsigned(book.checksum) if book.checksum or book.seqId is None else None,
            depth=DEPTH,
        )

    def _read_trades(self, message: Frame, ts_recv_ns: Nanos) -> None:
        if not message.data:
            raise DecodeError("trades without data")
        rows = _prints.decode(message.data)
        trades = [(row.instId, self._print(row, milliseconds_ns(row.ts), ts_recv_ns)) for row in rows]
        for symbol, trade in trades:
            self._take_trade(symbol, trade)


class BookV3(msgspec.Struct):
    """A book or changed levels, v3."""

    instrument_id: str
    asks: list[Row]
    bids: list[Row]
    timestamp: Instant
    checksum: Checksum


class PrintV3(msgspec.Struct):
    """One public trade, v3."""

    instrument_id: str
    trade_id: DigitsText
    price: str
    size: str
    side: Literal["buy", "sell"]
    timestamp: Instant


class FrameV3(msgspec.Struct):
    """A message of a table, or an event."""

    table: str = ""
    action: str = ""
    data: msgspec.Raw = msgspec.Raw()
    event: str = ""
    message: str = ""


_frames_v3 = msgspec.json.Decoder(FrameV3)
_books_v3 = msgspec.json.Decoder(list[BookV3])
_prints_v3 = msgspec.json.Decoder(list[PrintV3])


def inflate(frame: bytes) -> bytes:
    """Undo the raw deflate of a v3 frame.

    Raises:
        DecodeError: it is none, cut off, or grows beyond `FRAME_BYTES_MAX`.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        text = stream.decompress(frame, FRAME_BYTES_MAX)
    except zlib.error as error:
        raise DecodeError(f"not deflated: {error}") from None
    if not stream.eof:
        raise DecodeError("deflated frame is cut off or too large")
    return text


class OkcoinV3Machine(OkxLine):
    """A line to OKCoin v3."""

    def _subscribe(self) -> list[str]:
        books = [f"spot/depth_l2_tbt:{symbol}" for symbol in self._subscribed(Channel.BOOK)]
        return _chunks("subscribe", books + [f"spot/trade:{symbol}" for symbol in self._subscribed(Channel.TRADES)])

    def _resubscribe(self, symbol: str) -> list[str]:
        argument = f"spot/depth_l2_tbt:{symbol}"
        return _chunks("unsubscribe", [argument]) + _chunks("subscribe", [argument])

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        text = inflate(frame) if isinstance(frame, bytes) else frame.encode()
        if text == b"pong":
            return
        message = _frames_v3.decode(text)
        if message.event == "error":
            self._refuse_named(message.message)
        elif message.table.startswith("spot/depth") and message.action:
            self._read_books(message, ts_recv_ns)
        elif message.table == "spot/trade":
            self._read_trades(message, ts_recv_ns)

    def _read_books(self, message: FrameV3, ts_recv_ns: Nanos) -> None:
        if not message.data or message.action not in ("partial", "update"):
            raise DecodeError(f"book message with action {message.action!r}")
        is_snapshot = message.action == "partial"
        readings = [self._reading(book, is_snapshot) for book in _books_v3.decode(message.data)]
        for reading in readings:
            self._take_book(reading, ts_recv_ns)

    def _reading(self, book: BookV3, is_snapshot: bool) -> Reading:
        symbol = book.instrument_id
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
            ts_venue_ns=timestamp_ns(book.timestamp),
            epoch=self.epoch,
            checksum=_unsigned(book.checksum),
            depth=DEPTH,
        )

    def _read_trades(self, message: FrameV3, ts_recv_ns: Nanos) -> None:
        if not message.data:
            raise DecodeError("trades without data")
        rows = _prints_v3.decode(message.data)
        trades = [(row.instrument_id, self._print_v3(row, ts_recv_ns)) for row in rows]
        for symbol, trade in trades:
            self._take_trade(symbol, trade)

    def _print_v3(self, row: PrintV3, ts_recv_ns: Nanos) -> Trade:
        as_v5 = Print(row.instrument_id, row.trade_id, row.price, row.size, row.side, "0")
        return self._print(as_v5, timestamp_ns(row.timestamp), ts_recv_ns)


def display_milliseconds(id_last: int, ts_venue_ns: Nanos) -> str:
    """Give the time of the message in ms, which is all that names a book in the recordings."""
    return str(ts_venue_ns // MILLISECOND)


def display_text(id_last: int, ts_venue_ns: Nanos) -> str:
    """Give the time of the message as v3 writes it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts_venue_ns // MILLISECOND)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _channels(book: str, trades: str, integrity: str) -> dict[Channel, ChannelSpec]:
    return {
        Channel.BOOK: ChannelSpec(
            name=book, merge=MergeClass.LEAD, integrity=integrity, checksum="okx", snapshot="in band"
        ),
        Channel.TRADES: ChannelSpec(name=trades, merge=MergeClass.TRADE, integrity="none (sparse ids)"),
    }


_CHECKED = "CRC32 of the best 25 levels after every message"
_LIMITS = Limits(streams_per_connection_max=480, connections_per_window_max=3, connection_window_s=1)

OKX = VenueSpec(
    name="okx-v5",
    title="OKX (API v5)",
    machine=OkxMachine,
    ws_url="wss://ws.okx.com:8443/ws/v5/public",
    rest_url="https://www.okx.com",
    channels=_channels("books", "trades", "prevSeqId == previous seqId; before 2026-06-23 " + _CHECKED),
    limits=_LIMITS,
    note="fewer than 30 books a connection are advised",
    display_id=display_milliseconds,
)
OKCOIN = VenueSpec(
    name="okcoin-v5",
    title="OKCoin (API v5)",
    machine=OkxMachine,
    ws_url="wss://real.okcoin.com:8443/ws/v5/public",
    rest_url="https://www.okcoin.com",
    channels=_channels("books", "trades", _CHECKED),
    limits=_LIMITS,
    display_id=display_milliseconds,
)
OKCOIN_V3 = VenueSpec(
    name="okcoin-v3",
    title="OKCoin (API v3)",
    machine=OkcoinV3Machine,
    ws_url="wss://real.okcoin.com:8443/ws/v3",
    rest_url="https://www.okcoin.com",
    channels=_channels("spot/depth_l2_tbt", "spot/trade", _CHECKED),
    limits=_LIMITS,
    note="frames are deflated; recordings only",
    display_id=display_text,
)
