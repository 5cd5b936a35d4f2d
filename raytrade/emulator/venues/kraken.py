"""Kraken spot v2.

Rules (docs.kraken.com websockets v2 and its book checksum guide, read 2026-11): numbers are JSON
numbers printed in full; each update carries the CRC32 of the top 10 levels; levels that fall out
of the subscribed depth are not removed by a message, the receiver cuts its book; there is no
sequence; a heartbeat comes each second without other traffic.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping

from ..dialect import (
    Action,
    Channel,
    Known,
    Reply,
    RestReply,
    Session,
    Subscribe,
    Topic,
    Traits,
    Unsubscribe,
    book_message,
    iso_time,
    json_text,
    pair_texts,
    read_object,
    snapshot_message,
    split_levels,
    texts_of,
    trade_message,
)
from ..digits import fixed_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

PAIR = '{"price":%s,"qty":%s}'
DIGITS = (2, 8)
DEPTHS = (10, 25, 100, 500, 1000)
CHECKSUM_LEVELS = 10
STATUS = (
    '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online",'
    '"api_version":"v2","connection_id":1}]}'
)


class KrakenDialect:
    """Books without ids, guarded by checksums."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(
            id_rule=IdRule.SINGLE,
            is_touched=False,
            has_windows=False,
            window_depths=DEPTHS,
            tells_leaving=False,
            sends_empty=False,
            heartbeat_every_s=1.0,
            heartbeat_when_idle=True,
            ping_every_s=30.0,
        )
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Greet with the status of the venue."""
        return [Reply(STATUS)] if session.path.rstrip("/") in ("", "/v2") else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve subscribe, unsubscribe and ping; each symbol is acknowledged by itself."""
        request = read_object(text)
        if request is None:
            return [Reply('{"error":"Malformed request","success":false}')]
        method = str(request.get("method"))
        number = f',"req_id":{json_text(request["req_id"])}' if "req_id" in request else ""
        if method == "ping":
            return [Reply(f'{{"method":"pong"{number}{_times()}}}')]
        params = request.get("params")
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            return [_refusal(method, "Unsupported method", "", number)]
        actions: list[Action] = []
        for symbol in texts_of(params.get("symbol")):
            actions += self._request(method, params, symbol, number, known)
        return actions

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the book to the subscribed depth."""
        if topic.channel is not Channel.BOOK or not topic.snapshot_depth:
            return None
        sides = book.best_bids(topic.depth), book.best_asks(topic.depth)
        return snapshot_message(self._book_text("snapshot", sides, book, time_ns), book)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print the change of the window, with the checksum of the book after it."""
        sides = split_levels(step)
        return book_message(self._book_text("update", sides, book, time_ns), step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a trade."""
        price = fixed_text(trade.price, self.traits.price_scale, DIGITS[0])
        size = fixed_text(trade.size, self.traits.size_scale, DIGITS[1])
        side = "buy" if trade.aggressor_buys else "sell"
        text = (
            f'{{"channel":"trade","type":"update","data":[{{"symbol":"{trade.symbol}",'
            f'"side":"{side}","price":{price},"qty":{size},"ord_type":"limit",'
            f'"trade_id":{trade.trade_id},"timestamp":"{iso_time(time_ns, 6)}"}}]}}'
        )
        return trade_message(text, trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Print the sign of life of a quiet connection."""
        return Message(b'{"channel":"heartbeat"}')

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """The emulator serves no REST endpoint of this venue."""
        return None

    def _request(
        self, method: str, params: Mapping[str, object], symbol: str, number: str, known: Known
    ) -> list[Action]:
        channel = str(params.get("channel"))
        depth = params.get("depth", 10)
        if channel not in ("book", "trade"):
            return [_refusal(method, f"Subscription {channel} not supported", symbol, number)]
        if channel == "book" and depth not in DEPTHS:
            return [_refusal(method, "Subscription depth not supported", symbol, number)]
        is_start = method == "subscribe"
        if symbol not in self._symbols or (is_start and not known(symbol)):
            return [_refusal(method, f"Currency pair not supported {symbol}", symbol, number)]
        result = f'"channel":"{channel}"'
        if channel == "book":
            opening = 0 if params.get("snapshot") is False else -1
            levels = depth if isinstance(depth, int) else 10
            topic = Topic(Channel.BOOK, symbol, depth=levels, snapshot_depth=opening)
            result += f',"depth":{levels},"snapshot":{"true" if opening else "false"}'
        else:
            topic = Topic(Channel.TRADES, symbol)
        accepted = f'{{"method":"{method}","result":{{{result},"symbol":"{symbol}"}},"success":true{_times()}{number}}}'
        return [Reply(accepted), Subscribe(topic) if is_start else Unsubscribe(topic)]

    def _book_text(
        self,
        kind: str,
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        book: SymbolBook,
        time_ns: int,
    ) -> str:
        bids = pair_texts(sides[0], self.traits, DIGITS, PAIR)
        asks = pair_texts(sides[1], self.traits, DIGITS, PAIR)
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{book.symbol}",'
            f'"bids":[{bids}],"asks":[{asks}],"checksum":{checksum_of(book)},'
            f'"timestamp":"{iso_time(time_ns, 6)}"}}]}}'
        )


def checksum_of(book: SymbolBook) -> int:
    """Compute the venue's CRC32: asks then bids, best first, price then size.

    Digits without point and without leading zeros are exactly the integers of the market, as
    price and size are printed with all digits of their scales.
    """
    levels = book.best_asks(CHECKSUM_LEVELS) + book.best_bids(CHECKSUM_LEVELS)
    return zlib.crc32("".join([f"{price}{size}" for price, size in levels]).encode())


def _times() -> str:
    now = iso_time(time.time_ns(), 6)
    return f',"time_in":"{now}","time_out":"{now}"'


def _refusal(method: str, error: str, symbol: str, number: str) -> Reply:
    head = json_text({"error": error, "method": method, "success": False, "symbol": symbol})
    return Reply(f"{head[:-1]}{_times()}{number}}}")
