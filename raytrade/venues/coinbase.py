"""Coinbase Advanced Trade: in-band full-depth books; one counter per connection over all channels.

Rules (docs "WebSocket channels", read 2026-07-21): subscribe within 5 s, one channel a message; with
``heartbeats`` subscribed a quiet connection stays open and a frame comes each second. ``sequence_num`` rises
by one with every frame of the connection, whatever its channel (1,030 of 1,030 recorded): any jump may have
hit any book. ``side`` of a trade is the maker's (all 71 recorded trades at a best price lie on that side of
the book), so the aggressor is the other side.

Frame: ``{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.483587501Z","sequence_num":13,
"events":[{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid",
"event_time":"2026-08-09T21:05:48.170326Z","price_level":"65083.66","new_quantity":"0.20371215"}]}]}``
(subscribed as ``level2``)
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Flag, Side, Trade
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

SEQUENCE_DIGITS_MAX = 18


class Update(msgspec.Struct, gc=False):
    """One changed level."""

    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str
    event_time: str = ""


class BookEvent(msgspec.Struct):
    """A book or changed levels of one symbol."""

    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Update]


class Print(msgspec.Struct):
    """One public trade; `side` is the maker's."""

    product_id: str
    trade_id: str
    price: str
    size: str
    time: Instant
    side: str


class TradeEvent(msgspec.Struct):
    """Trades, the newest first."""

    type: str
    trades: list[Print]


class Frame(msgspec.Struct):
    """A message of a channel, or an error (without a channel)."""

    channel: str = ""
    timestamp: Instant | None = None
    sequence_num: Identifier | None = None
    events: msgspec.Raw = msgspec.Raw()
    type: str = ""
    message: str = ""


_frames = msgspec.json.Decoder(Frame)
_book_events = msgspec.json.Decoder(list[BookEvent])
_trade_events = msgspec.json.Decoder(list[TradeEvent])
_AGGRESSORS = {"BUY": Side.SELL, "SELL": Side.BUY}


def join_events(events: list[BookEvent]) -> list[BookEvent]:
    """Make one event per symbol, since all events of a frame have the frame's number.

    Raises:
        DecodeError: a symbol is updated after its snapshot in one frame.
    """
    joined: dict[str, BookEvent] = {}
    for event in events:
        earlier = joined.get(event.product_id)
        if earlier is None or event.type == "snapshot":
            joined[event.product_id] = event
        elif earlier.type == "update":
            earlier.updates.extend(event.updates)
        else:
            raise DecodeError(f"snapshot and update of {event.product_id!r} in one frame")
    return list(joined.values())


class CoinbaseMachine(LeadMachine):
    """A line to Coinbase Advanced Trade."""

    survives_bad_frame: ClassVar[bool] = True
    silence_ns_max: ClassVar[Nanos] = 10 * SECOND
    chain: ClassVar[str] = "sequence_num"

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        super().__init__(venue, endpoint)
        self._sequence_last: int | None = None

    def receive_open(self, now_ns: Nanos) -> None:
        """The connection is open and counts anew."""
        self._sequence_last = None
        super().receive_open(now_ns)

    def _subscribe(self) -> list[str]:
        books, trades = self._subscribed(Channel.BOOK), self._subscribed(Channel.TRADES)
        everything = [subscription.symbol for subscription in self.endpoint.subscriptions]
        requests = (("heartbeats", everything), ("level2", books), ("market_trades", trades))
        return [self._request("subscribe", channel, symbols) for channel, symbols in requests if symbols]

    @staticmethod
    def _request(method: str, channel: str, symbols: list[str]) -> str:
        return msgspec.json.encode({"type": method, "product_ids": symbols, "channel": channel}).decode()

    def _resubscribe(self, symbol: str) -> list[str]:
        return [self._request(method, "level2", [symbol]) for method in ("unsubscribe", "subscribe")]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames.decode(frame)
        if message.type == "error":
            self._refuse_unserved(message.message)
        sequence = message.sequence_num
        if sequence is None:
            if message.channel:
                raise DecodeError(f"message of {message.channel!r} without sequence_num")
            return
        readings = self._read_books(message, sequence) if message.channel == "l2_data" else []
        trades = self._read_trades(message, ts_recv_ns) if message.channel == "market_trades" else []
        self._follow_connection(sequence, ts_recv_ns)
        for reading in readings:
            self._take_book(reading, ts_recv_ns)
        for symbol, trade in trades:
            self._take_trade(symbol, trade)

    def _follow_connection(self, sequence: int, ts_recv_ns: Nanos) -> None:
        """A frame is missing: it may have been any symbol's."""
        is_next = self._sequence_last is None or sequence == self._sequence_last + 1
        self._sequence_last = sequence
        if is_next:
            return
        for symbol in self._wanted:
            stream = self._stream(symbol)
            self._break(stream, self.chain, ts_recv_ns, id_after=max(sequence - 1, 0))
            stream.id_last = sequence - 1

    def _read_books(self, message: Frame, sequence: int) -> list[Reading]:
        if not message.events:
            raise DecodeError("l2_data without events")
        sent_ns = timestamp_ns(message.timestamp) if message.timestamp else 0
        return [self._reading(event, sequence, sent_ns) for event in join_events(_book_events.decode(message.events))]

    def _reading(self, event: BookEvent, sequence: int, sent_ns: Nanos) -> Reading:
        symbol, updates = event.product_id, event.updates
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.levels(
            [(update.price_level, update.new_quantity) for update in updates if update.side == "bid"],
            [(update.price_level, update.new_quantity) for update in updates if update.side == "offer"],
        )
        event_time = updates[-1].event_time if updates else ""  # they rise within a message
        return Reading(
            symbol=symbol,
            instrument=self._instrument(symbol),
            is_snapshot=event.type == "snapshot",
            bids=bids,
            asks=asks,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            ts_venue_ns=(timestamp_ns(msgspec.convert(event_time, Instant)) if event_time else 0) or sent_ns,
            epoch=self.epoch,
            id_prev=self._stream_id(symbol, sequence),
            id_last=sequence,
        )

    def _stream_id(self, symbol: str, sequence: int) -> int:
        """Give the symbol's last id, or after a jump the id before this frame."""
        if self._sequence_last is not None and sequence != self._sequence_last + 1:
            return sequence - 1
        stream = self._streams.get(symbol)
        return stream.id_last if stream is not None else 0

    def _read_trades(self, message: Frame, ts_recv_ns: Nanos) -> list[tuple[str, Trade]]:
        if not message.events:
            raise DecodeError("market_trades without events")
        return [
            (row.product_id, self._trade(row, Flag.HISTORY if event.type == "snapshot" else 0, ts_recv_ns))
            for event in _trade_events.decode(message.events)
            for row in reversed(event.trades)
        ]

    def _trade(self, row: Print, flags: int, ts_recv_ns: Nanos) -> Trade:
        quantizer = self._quantizer(row.product_id)
        ((price, size),) = quantizer.levels([(row.price, row.size)])
        is_number = row.trade_id.isdecimal() and len(row.trade_id) <= SEQUENCE_DIGITS_MAX
        return Trade(
            instrument=self._instrument(row.product_id),
            trade_id=row.trade_id,
            sequence=int(row.trade_id) if is_number else 0,
            price=price,
            size=size,
            price_scale=quantizer.prices.scale,
            size_scale=quantizer.sizes.scale,
            aggressor=_AGGRESSORS.get(row.side, Side.NONE),
            ts_venue_ns=timestamp_ns(row.time),
            ts_recv_ns=ts_recv_ns,
            flags=flags,
        )


def display_id(id_last: int, ts_venue_ns: Nanos) -> int:
    """Give the connection's counter."""
    return id_last


COINBASE = VenueSpec(
    name="coinbase-advanced",
    title="Coinbase Advanced Trade",
    machine=CoinbaseMachine,
    ws_url="wss://advanced-trade-ws.coinbase.com",
    rest_url="https://api.coinbase.com",
    channels={
        Channel.BOOK: ChannelSpec(
            name="level2",
            merge=MergeClass.LEAD,
            integrity="sequence_num + 1 on the connection",
            snapshot="in band",
        ),
        Channel.TRADES: ChannelSpec(
            name="market_trades",
            merge=MergeClass.DENSE,
            integrity="trade id + 1 (277 of 277 recorded)",
            contiguous=True,
        ),
    },
    limits=Limits(connections_per_window_max=8, connection_window_s=1),
    note="frames of several MB at the start",
    display_id=display_id,
)
