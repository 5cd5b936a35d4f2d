"""HitBTC API v2, also spoken by Bitcoin.com and BeQuant: in-band books, sequence + 1, the same on every connection.

Recorded on four sockets at once: all copies of a sequence were equal (reference recordings), so ids are global;
messages carry net changes of one sequence each, so copies merge strictly.

Frame: ``{"jsonrpc":"2.0","method":"updateOrderbook","params":{"ask":[{"price":"0.05","size":"0"}],"bid":[],
"symbol":"ETHBTC","sequence":8073830,"timestamp":"2021-04-05T17:24:14.531Z"}}``
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Side, Trade
from raytrade.errors import DecodeError
from raytrade.venues.protocol import (
    ChannelSpec,
    Identifier,
    Instant,
    MergeClass,
    SendFrame,
    VenueMachine,
    VenueSpec,
    timestamp_ns,
)


class Level(msgspec.Struct):
    """One price level."""

    price: str
    size: str


class Print(msgspec.Struct):
    """One public trade."""

    id: Identifier
    price: str
    quantity: str
    side: str
    timestamp: Instant


class Params(msgspec.Struct):
    """The parameters of book and trade notifications; tickers and candles share some names."""

    symbol: str = ""
    sequence: Identifier | None = None
    timestamp: Instant | None = None
    ask: list[Level] | str | None = None
    bid: list[Level] | str | None = None
    data: msgspec.Raw = msgspec.Raw()


class Frame(msgspec.Struct):
    """A notification (with a method) or a reply (with an id)."""

    method: str = ""
    params: Params | None = None
    id: int | str | None = None
    error: msgspec.Raw = msgspec.Raw()


_frames = msgspec.json.Decoder(Frame)
_prints = msgspec.json.Decoder(list[Print])
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


class HitbtcMachine(VenueMachine):
    """A line to HitBTC v2, Bitcoin.com or BeQuant."""

    silence_ns_max: ClassVar[Nanos] = 60 * SECOND

    def _subscribe(self) -> list[str]:
        frames = [self._request("subscribeOrderbook", symbol) for symbol in self._subscribed(Channel.BOOK)]
        return frames + [self._request("subscribeTrades", symbol) for symbol in self._subscribed(Channel.TRADES)]

    @staticmethod
    def _request(method: str, symbol: str) -> str:
        body = {"method": method, "params": {"symbol": symbol}, "id": f"{method}/{symbol}"}
        return msgspec.json.encode(body).decode()

    def request_snapshot(self, symbol: str, now_ns: Nanos) -> None:
        """Subscribe anew: the venue answers with a snapshot."""
        self._commands.append(SendFrame(self._request("unsubscribeOrderbook", symbol)))
        self._commands.append(SendFrame(self._request("subscribeOrderbook", symbol)))

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        message = _frames.decode(frame)
        params = message.params
        if params is None:
            self._read_reply(message)
            return
        match message.method:
            case "updateOrderbook" | "snapshotOrderbook":
                self._read_book(params, message.method == "snapshotOrderbook", ts_recv_ns)
            case "updateTrades" | "snapshotTrades":
                self._read_trades(params, message.method == "snapshotTrades", ts_recv_ns)

    def _read_reply(self, message: Frame) -> None:
        method, _, symbol = str(message.id or "").partition("/")
        has_error = bytes(message.error) not in (b"", b"null")
        if has_error and method in ("subscribeOrderbook", "subscribeTrades"):
            self._refuse(symbol, bytes(message.error).decode())

    def _read_book(self, params: Params, is_snapshot: bool, ts_recv_ns: Nanos) -> None:
        symbol, sequence = params.symbol, params.sequence
        if not (symbol and sequence and isinstance(params.ask, list) and isinstance(params.bid, list)):
            raise DecodeError(f"book of {symbol!r} without sequence or sides")
        quantizer = self._quantizer(symbol)
        bids, asks = quantizer.levels(
            [(level.price, level.size) for level in params.bid],
            [(level.price, level.size) for level in params.ask],
        )
        ts_venue_ns = timestamp_ns(params.timestamp) if params.timestamp else 0
        price_scale, size_scale = quantizer.prices.scale, quantizer.sizes.scale
        self._served(symbol)
        counts = self._counts(symbol)
        if is_snapshot:
            counts.snapshots += 1
            self._events.append(
                BookSnapshot(
                    instrument=self._instrument(symbol),
                    id_last=sequence,
                    bids=bids,
                    asks=asks,
                    price_scale=price_scale,
                    size_scale=size_scale,
                    ts_venue_ns=ts_venue_ns,
                    ts_recv_ns=ts_recv_ns,
                )
            )
            return
        counts.updates += 1
        self._events.append(
            BookDelta(
                instrument=self._instrument(symbol),
                id_prev=sequence - 1,
                id_last=sequence,
                bids=bids,
                asks=asks,
                price_scale=price_scale,
                size_scale=size_scale,
                ts_venue_ns=ts_venue_ns,
                ts_recv_ns=ts_recv_ns,
            )
        )

    def _read_trades(self, params: Params, is_history: bool, ts_recv_ns: Nanos) -> None:
        if not params.data or not params.symbol:
            raise DecodeError("trades without data")
        quantizer = self._quantizer(params.symbol)
        counts = self._counts(params.symbol)
        for row in _prints.decode(params.data):
            ((price, size),) = quantizer.levels([(row.price, row.quantity)])
            counts.trades += not is_history
            counts.trades_history += is_history
            self._events.append(
                Trade(
                    instrument=self._instrument(params.symbol),
                    trade_id=str(row.id),
                    sequence=row.id,
                    price=price,
                    size=size,
                    price_scale=quantizer.prices.scale,
                    size_scale=quantizer.sizes.scale,
                    aggressor=_SIDES.get(row.side, Side.NONE),
                    ts_venue_ns=timestamp_ns(row.timestamp),
                    ts_recv_ns=ts_recv_ns,
                    flags=Flag.HISTORY if is_history else 0,
                )
            )


_CHANNELS = {
    Channel.BOOK: ChannelSpec(
        name="subscribeOrderbook",
        merge=MergeClass.STRICT,
        integrity="sequence == previous sequence + 1",
        contiguous=True,
        snapshot="in band",
    ),
    Channel.TRADES: ChannelSpec(name="subscribeTrades", merge=MergeClass.TRADE, integrity="none (sparse ids)"),
}

HITBTC = VenueSpec(
    name="hitbtc-v2",
    title="HitBTC (API v2)",
    machine=HitbtcMachine,
    ws_url="wss://api.hitbtc.com/api/2/ws/public",
    channels=_CHANNELS,
)
BITCOINCOM = VenueSpec(
    name="bitcoincom",
    title="Bitcoin.com exchange (HitBTC API v2)",
    machine=HitbtcMachine,
    ws_url="wss://api.exchange.bitcoin.com/api/2/ws/public",
    channels=_CHANNELS,
)
BEQUANT = VenueSpec(
    name="bequant",
    title="BeQuant (HitBTC API v2)",
    machine=HitbtcMachine,
    ws_url="wss://api.bequant.io/api/2/ws/public",
    channels=_CHANNELS,
)
