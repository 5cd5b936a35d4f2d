"""Gemini: the current API ("v3", venue ``gemini``) and the archived v2 feed of the recordings (`gemini-v2`).

v3 rules (docs "WebSocket API" and vendor SDK, read 2026-07-21): with ``?snapshot=-1`` the first
``depthUpdate`` after subscribing is the whole book and has ``U == u``; then ``U`` is the previous ``u``
(5,489 of 5,489 seen). Ids are the engine's, sparse, shared by all symbols. To sync anew: unsubscribe, wait
for the reply, subscribe. One bad stream rejects its whole request, so each symbol has its own.

v2 rules: the first ``l2_updates`` of a symbol carries past trades and is the snapshot; deltas have neither
id nor time, so a lost frame does not show.

v3 frame: ``{"e":"depthUpdate","E":1789456742337187316,"s":"btcusd","U":101,"u":140,"b":[["7.1","0.50"]],
"a":[]}``
v2 frame: ``{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","65205.5","0.0"]]}``
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel, Flag, Side, Trade
from raytrade.errors import DecodeError
from raytrade.venues.lead import LeadMachine, Reading
from raytrade.venues.protocol import (
    ChannelSpec,
    Endpoint,
    Identifier,
    Limits,
    MergeClass,
    Milliseconds,
    SendFrame,
    Subscription,
    VenueSpec,
)

PING_ID = 0


class Frame(msgspec.Struct):
    """A depthUpdate, a trade (without `e`) or a reply (with an id); other streams share some names."""

    e: str = ""
    E: Identifier = 0
    s: str = ""
    U: Identifier | None = None
    u: Identifier | None = None
    b: msgspec.Raw = msgspec.Raw()
    a: msgspec.Raw = msgspec.Raw()
    t: Identifier | None = None
    p: str = ""
    q: str = ""
    m: bool | None = None
    id: int | str | None = None
    status: int = 200
    error: msgspec.Raw = msgspec.Raw()


_frames = msgspec.json.Decoder(Frame)


class GeminiMachine(LeadMachine):
    """A line to the current API.

    Requests are numbered: symbol number n (from 0) subscribes with id 2n + 1 and unsubscribes with id 2n + 2.
    """

    survives_bad_frame: ClassVar[bool] = True
    silence_ns_max: ClassVar[Nanos] = 60 * SECOND
    ping_interval_ns: ClassVar[Nanos] = 20 * SECOND
    ping_frame: ClassVar[str] = f'{{"id":{PING_ID},"method":"ping"}}'
    chain: ClassVar[str] = "U"

    @classmethod
    def endpoints(cls, ws_url: str, rest_url: str, subscriptions: tuple[Subscription, ...]) -> list[Endpoint]:
        """One socket that gives snapshots in band."""
        return [Endpoint(url=f"{ws_url}/?snapshot=-1", rest_url=rest_url, subscriptions=subscriptions)]

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        super().__init__(venue, endpoint)
        self._begun: set[str] = set()

    def receive_open(self, now_ns: Nanos) -> None:
        """The connection is open; every book begins with its snapshot."""
        self._begun = set()
        super().receive_open(now_ns)

    def _subscribe(self) -> list[str]:
        frames = []
        for number, subscription in enumerate(self.endpoint.subscriptions):
            streams = []
            if Channel.BOOK in subscription.channels:
                streams.append(f"{subscription.symbol}@depth@100ms")
            if Channel.TRADES in subscription.channels:
                streams.append(f"{subscription.symbol}@trade")
            frames.append(self._request("SUBSCRIBE", 2 * number + 1, streams))
        return frames

    @staticmethod
    def _request(method: str, number: int, streams: list[str]) -> str:
        return msgspec.json.encode({"id": number, "method": method, "params": streams}).decode()

    def _number(self, symbol: str) -> int:
        return [subscription.symbol for subscription in self.endpoint.subscriptions].index(symbol)

    def _resubscribe(self, symbol: str) -> list[str]:
        """Unsubscribe; the reply brings the subscription."""
        self._begun.discard(symbol)
        return [self._request("UNSUBSCRIBE", 2 * self._number(symbol) + 2, [f"{symbol}@depth@100ms"])]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames.decode(frame)
        if message.e == "depthUpdate":
            self._read_book(message, ts_recv_ns)
        elif message.t is not None and message.s:
            self._read_trade(message, ts_recv_ns)
        elif isinstance(message.id, int):
            self._read_reply(message, message.id)

    def _read_reply(self, message: Frame, number: int) -> None:
        index, is_unsubscription = divmod(number - 1, 2)
        if number == PING_ID or not 0 <= index < len(self.endpoint.subscriptions):
            return
        symbol = self.endpoint.subscriptions[index].symbol
        if is_unsubscription:
            request = self._request("SUBSCRIBE", number - 1, [f"{symbol}@depth@100ms"])
            self._commands.append(SendFrame(request))
        elif message.status != 200:
            self._refuse(symbol, bytes(message.error).decode() if message.error else str(message.status))

    def _read_book(self, message: Frame, ts_recv_ns: Nanos) -> None:
        id_prev, id_last = message.U, message.u
        if id_prev is None or id_last is None or id_prev > id_last:
            raise DecodeError(f"depthUpdate of {message.s!r} with ids {id_prev} to {id_last}")
        if not (message.b and message.a):
            raise DecodeError("depthUpdate without levels")
        symbol = message.s
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.json_levels(message.b, message.a)
        instrument = self._instrument(symbol)
        is_snapshot = id_prev == id_last and symbol not in self._begun
        if is_snapshot:
            self._begun.add(symbol)
        reading = Reading(
            symbol=symbol,
            instrument=instrument,
            is_snapshot=is_snapshot,
            bids=bids,
            asks=asks,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            ts_venue_ns=message.E,
            epoch=0,
            id_prev=id_prev,
            id_last=id_last,
        )
        self._take_book(reading, ts_recv_ns)

    def _read_trade(self, message: Frame, ts_recv_ns: Nanos) -> None:
        quantizer = self._quantizer(message.s)
        ((price, size),) = quantizer.levels([(message.p, message.q)])
        trade = Trade(
            instrument=self._instrument(message.s),
            trade_id=str(message.t),
            sequence=message.t or 0,
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_AGGRESSORS[message.m],
            ts_venue_ns=message.E,
            ts_recv_ns=ts_recv_ns,
        )
        self._take_trade(message.s, trade)


_AGGRESSORS = {True: Side.SELL, False: Side.BUY, None: Side.NONE}


class Print(msgspec.Struct):
    """One public trade of v2; several share an `event_id`, `tid` is unique but missing in old recordings."""

    symbol: str
    event_id: Identifier
    timestamp: Milliseconds
    price: str
    quantity: str
    side: str
    tid: Identifier | None = None

    @property
    def key(self) -> int:
        """The id that names the trade."""
        return self.event_id if self.tid is None else self.tid


class FrameV2(msgspec.Struct):
    """A message of v2; the body of a trade is read again as `Print`."""

    type: str = ""
    symbol: str = ""
    changes: list[tuple[Literal["buy", "sell"], str, str]] | None = None
    trades: list[Print] | None = None
    result: str = ""
    reason: str = ""


_frames_v2 = msgspec.json.Decoder(FrameV2)
_prints_v2 = msgspec.json.Decoder(Print)
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


class GeminiV2Machine(LeadMachine):
    """A line to the archived v2 feed."""

    silence_ns_max: ClassVar[Nanos] = 15 * SECOND

    def _subscribe(self) -> list[str]:
        symbols = [subscription.symbol for subscription in self.endpoint.subscriptions]
        return [self._request("subscribe", symbols)] if symbols else []

    @staticmethod
    def _request(method: str, symbols: list[str]) -> str:
        body = {"type": method, "subscriptions": [{"name": "l2", "symbols": symbols}]}
        return msgspec.json.encode(body).decode()

    def _resubscribe(self, symbol: str) -> list[str]:
        return [self._request(method, [symbol]) for method in ("unsubscribe", "subscribe")]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames_v2.decode(frame)
        match message.type:
            case "l2_updates":
                self._read_book(message, ts_recv_ns)
            case "trade":
                trade = self._trade(_prints_v2.decode(frame), 0, ts_recv_ns)
                self._take_trade(message.symbol, trade)
        if message.result == "error":
            self._refuse_unserved(message.reason)

    def _read_book(self, message: FrameV2, ts_recv_ns: Nanos) -> None:
        changes, symbol = message.changes, message.symbol
        if changes is None:
            raise DecodeError(f"l2_updates of {symbol!r} without changes")
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.levels(
            [(price, size) for side, price, size in changes if side == "buy"],
            [(price, size) for side, price, size in changes if side == "sell"],
        )
        reading = Reading(
            symbol=symbol,
            instrument=self._instrument(symbol),
            is_snapshot=message.trades is not None,
            bids=bids,
            asks=asks,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            ts_venue_ns=0,
            epoch=self.epoch,
        )
        history = sorted(message.trades or [], key=lambda row: (row.timestamp, row.key))
        trades = [self._trade(row, Flag.HISTORY, ts_recv_ns) for row in history]
        self._take_book(reading, ts_recv_ns)
        for trade in trades:
            self._take_trade(symbol, trade)

    def _trade(self, row: Print, flags: int, ts_recv_ns: Nanos) -> Trade:
        quantizer = self._quantizer(row.symbol)
        ((price, size),) = quantizer.levels([(row.price, row.quantity)])
        return Trade(
            instrument=self._instrument(row.symbol),
            trade_id=str(row.key),
            sequence=row.key,
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_SIDES.get(row.side, Side.NONE),
            ts_venue_ns=row.timestamp * MILLISECOND,
            ts_recv_ns=ts_recv_ns,
            flags=flags,
        )


def display_no_id(id_last: int, ts_venue_ns: Nanos) -> None:
    """Give nothing: v2 names no state of a book."""


def display_id(id_last: int, ts_venue_ns: Nanos) -> int:
    """Give the update id."""
    return id_last


GEMINI = VenueSpec(
    name="gemini",
    title="Gemini (WebSocket API)",
    machine=GeminiMachine,
    ws_url="wss://ws.gemini.com",
    rest_url="https://api.gemini.com",
    channels={
        Channel.BOOK: ChannelSpec(
            name="<symbol>@depth@100ms",
            merge=MergeClass.LEAD,
            integrity="U == previous u",
            snapshot="in band",
        ),
        Channel.TRADES: ChannelSpec(name="<symbol>@trade", merge=MergeClass.TRADE, integrity="none"),
    },
    limits=Limits(connections_per_window_max=300, connection_window_s=300),
    note="ids are the engine's: a candidate for a chain class after a self-test",
    display_id=display_id,
)
GEMINI_V2 = VenueSpec(
    name="gemini-v2",
    title="Gemini (archived v2 feed)",
    machine=GeminiV2Machine,
    ws_url="wss://api.gemini.com/v2/marketdata",
    rest_url="https://api.gemini.com",
    channels={
        Channel.BOOK: ChannelSpec(name="l2", merge=MergeClass.LEAD, integrity="none", snapshot="in band"),
        Channel.TRADES: ChannelSpec(name="l2", merge=MergeClass.TRADE, integrity="none (sparse ids)"),
    },
    note="no id, no checksum: a lost frame does not show",
    display_id=display_no_id,
)
