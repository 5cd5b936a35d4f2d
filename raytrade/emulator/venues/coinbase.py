"""Coinbase Advanced Trade.

Rules (docs.cdp.coinbase.com advanced trade websocket, and a recorded session of 2026): one
channel per subscribe request; every message of a connection, of all channels, carries the next
`sequence_num` of that connection from 0; `level2` is delivered as `l2_data`; `heartbeats` come
each second.
"""

from __future__ import annotations

import time
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
from ..digits import canonical_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

DIGITS = (2, 8)
CHANNELS = {
    "level2": Channel.BOOK,
    "market_trades": Channel.TRADES,
    "heartbeats": Channel.HEARTBEAT,
}


class CoinbaseDialect:
    """Books without ids; a counter per connection shows a lost message."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(
            id_rule=IdRule.SINGLE,
            is_touched=True,
            has_windows=False,
            is_numbered=True,
            zero_text="0",
            heartbeat_every_s=1.0,
            ping_every_s=30.0,
        )
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Accept the root address; it carries no subscription."""
        return [] if not session.path.rstrip("/") else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve subscribe and unsubscribe for one channel."""
        request = read_object(text)
        kind = str(request.get("type")) if request else ""
        if request is None or kind not in ("subscribe", "unsubscribe"):
            return [_error("invalid message")]
        name = str(request.get("channel"))
        channel = CHANNELS.get(name)
        if channel is None:
            return [_error(f"channel {name} is not supported")]
        symbols = texts_of(request.get("product_ids"))
        is_start = kind == "subscribe"
        if channel is Channel.HEARTBEAT:
            topics = [Topic(channel, "")]
            listed = {name: ["heartbeats"]}
        else:
            bad = [s for s in symbols if s not in self._symbols or (is_start and not known(s))]
            if bad or not symbols:
                return [_error(f"{', '.join(bad) or 'nothing'} is not a valid product")]
            topics = [Topic(channel, symbol) for symbol in symbols]
            listed = {name: symbols}
        events = json_text([{"subscriptions": listed if is_start else {}}])
        answer = Reply(*_envelope("subscriptions", events, time.time_ns()))
        if is_start:
            return [*(Subscribe(topic) for topic in topics), answer]
        return [*(Unsubscribe(topic) for topic in topics), answer]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the whole book, or an empty list of past trades."""
        if topic.channel is not Channel.BOOK:
            head, tail = _envelope("market_trades", '[{"type":"snapshot","trades":[]}]', time_ns)
        else:
            sides = book.best_bids(), book.best_asks()
            events = self._events("snapshot", sides, book.symbol, time_ns)
            head, tail = _envelope("l2_data", events, time_ns)
        return snapshot_message(head, book, tail)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print the change of a book."""
        events = self._events("update", split_levels(step), step.symbol, time_ns)
        head, tail = _envelope("l2_data", events, time_ns)
        return book_message(head, step, tail)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a trade; the venue tells the side of the maker."""
        side = "SELL" if trade.aggressor_buys else "BUY"
        events = (
            f'[{{"type":"update","trades":[{{"product_id":"{trade.symbol}",'
            f'"trade_id":"{trade.trade_id}",'
            f'"price":"{canonical_text(trade.price, self.traits.price_scale)}",'
            f'"size":"{canonical_text(trade.size, self.traits.size_scale)}",'
            f'"time":"{iso_time(time_ns, 6)}","side":"{side}"}}]}}]'
        )
        head, tail = _envelope("market_trades", events, time_ns)
        return trade_message(head, trade, tail)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Print a heartbeat."""
        now = iso_time(time_ns, 9).replace("T", " ").replace("Z", " +0000 UTC")
        events = f'[{{"current_time":"{now} m=+{count}.0","heartbeat_counter":{count}}}]'
        head, tail = _envelope("heartbeats", events, time_ns)
        return Message(head.encode(), tail=tail.encode())

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """The emulator serves no REST endpoint of this venue."""
        return None

    def _events(
        self,
        kind: str,
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        symbol: str,
        time_ns: int,
    ) -> str:
        now = iso_time(time_ns, 6)
        texts = [
            pair_texts(
                levels,
                self.traits,
                DIGITS,
                f'{{"side":"{side}","event_time":"{now}","price_level":"%s","new_quantity":"%s"}}',
            )
            for side, levels in zip(("bid", "offer"), sides, strict=True)
        ]
        updates = ",".join(text for text in texts if text)
        return f'[{{"type":"{kind}","product_id":"{symbol}","updates":[{updates}]}}]'


def _envelope(channel: str, events: str, time_ns: int) -> tuple[str, str]:
    head = f'{{"channel":"{channel}","timestamp":"{iso_time(time_ns, 9)}","sequence_num":'
    return head, f',"events":{events}}}'


def _error(problem: str) -> Reply:
    return Reply(json_text({"type": "error", "message": problem}))
