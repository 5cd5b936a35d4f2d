"""HitBTC v2 (and its twins Bequant and bitcoin.com).

Rules (recorded sessions of 2021): `subscribeOrderbook` is acknowledged, then `snapshotOrderbook`
and `updateOrderbook` with `sequence` one higher each; sizes are absolute, "0" removes.
"""

from __future__ import annotations

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
    trade_message,
)
from ..digits import canonical_text, fixed_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

PAIR = '{"price":"%s","size":"%s"}'
DIGITS = (2, 8)
PATHS = ("", "/api/2/ws/public", "/api/2/ws")
METHODS = {
    "subscribeOrderbook": (True, Channel.BOOK),
    "unsubscribeOrderbook": (False, Channel.BOOK),
    "subscribeTrades": (True, Channel.TRADES),
    "unsubscribeTrades": (False, Channel.TRADES),
}
UNKNOWN_SYMBOL = (
    '{"code":2001,"message":"Symbol not found",'
    '"description":"Try get /api/2/public/symbol, to get list of all available symbols."}'
)


class HitbtcDialect:
    """JSON-RPC with a snapshot in band."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(
            id_rule=IdRule.SINGLE,
            is_touched=False,
            has_windows=False,
            zero_text="0",
            ping_every_s=30.0,
        )
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Accept the public address; it carries no subscription."""
        return [] if session.path.rstrip("/") in PATHS else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve the subscribe and unsubscribe methods."""
        request = read_object(text)
        if request is None:
            return [Reply('{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}')]
        number = json_text(request.get("id"))
        method = METHODS.get(str(request.get("method")))
        if method is None:
            return [self._error('{"code":-32601,"message":"Method not found"}', number)]
        params = request.get("params")
        symbol = str(params.get("symbol")) if isinstance(params, dict) else ""
        if symbol not in self._symbols or (method[0] and not known(symbol)):
            return [self._error(UNKNOWN_SYMBOL, number)]
        topic = Topic(method[1], symbol)
        accepted = Reply(f'{{"jsonrpc":"2.0","result":true,"id":{number}}}')
        return [accepted, Subscribe(topic) if method[0] else Unsubscribe(topic)]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print `snapshotOrderbook`, asks first as the venue does."""
        if topic.channel is not Channel.BOOK:
            text = f'{{"data":[],"symbol":"{topic.symbol}"}}'
            head = '{"jsonrpc":"2.0","method":"snapshotTrades","params":'
            return snapshot_message(f"{head}{text}}}", book)
        sides = book.best_asks(), book.best_bids()
        return snapshot_message(self._book_text("snapshotOrderbook", sides, book, time_ns), book)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print `updateOrderbook`."""
        bids, asks = split_levels(step)
        return book_message(self._book_text("updateOrderbook", (asks, bids), step, time_ns), step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print `updateTrades`."""
        price = fixed_text(trade.price, self.traits.price_scale, DIGITS[0])
        size = canonical_text(trade.size, self.traits.size_scale)
        side = "buy" if trade.aggressor_buys else "sell"
        text = (
            '{"jsonrpc":"2.0","method":"updateTrades","params":{"data":['
            f'{{"id":{trade.trade_id},"price":"{price}","quantity":"{size}","side":"{side}",'
            f'"timestamp":"{iso_time(time_ns, 3)}"}}],"symbol":"{trade.symbol}"}}}}'
        )
        return trade_message(text, trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """HitBTC pings on the protocol level only."""
        return None

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """The emulator serves no REST endpoint of this venue."""
        return None

    def _book_text(
        self,
        method: str,
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        state: Step | SymbolBook,
        time_ns: int,
    ) -> str:
        asks = pair_texts(sides[0], self.traits, DIGITS, PAIR)
        bids = pair_texts(sides[1], self.traits, DIGITS, PAIR)
        return (
            f'{{"jsonrpc":"2.0","method":"{method}","params":{{"ask":[{asks}],"bid":[{bids}],'
            f'"sequence":{state.id_last},"timestamp":"{iso_time(time_ns, 3)}",'
            f'"symbol":"{state.symbol}"}}}}'
        )

    @staticmethod
    def _error(error: str, number: str) -> Reply:
        return Reply(f'{{"jsonrpc":"2.0","error":{error},"id":{number}}}')
