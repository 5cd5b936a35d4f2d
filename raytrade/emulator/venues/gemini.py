"""Gemini: the current streams (here v3) and the archived v2 market data.

Rules of v3 (developer.gemini.com/websocket, read 2026-11): `U` equals the `u` before it; ids are
sparse and shared by all symbols; `?snapshot=-1` makes the first frame of each book the whole
book, with `U == u`, sent before the acknowledgement. Rules of v2 (recorded sessions of 2021 and
2026): the first `l2_updates` of a symbol holds the book and past trades; no ids, no times;
a heartbeat comes every 5 s.
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
    json_text,
    pair_texts,
    read_object,
    snapshot_message,
    split_levels,
    texts_of,
    trade_message,
)
from ..digits import canonical_text, fixed_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

PAIR = '["%s","%s"]'
DIGITS = (2, 8)
STREAMS = {"depth": Channel.BOOK, "depth@100ms": Channel.BOOK, "trade": Channel.TRADES}


class GeminiDialect:
    """The current streams, chained by overlapping ids."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(id_rule=IdRule.SPARSE, is_touched=True, has_windows=True, ping_every_s=20.0)
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Accept the root address; `snapshot` in its query is used at each subscription."""
        return [] if not session.path.rstrip("/") else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve SUBSCRIBE, UNSUBSCRIBE and ping; one bad stream refuses the request."""
        request = read_object(text)
        if request is None:
            return [_error("null", -1102, "malformed request")]
        number = json_text(request.get("id"))
        method = str(request.get("method")).lower()
        accepted = Reply(f'{{"id":{number},"status":200}}')
        if method == "ping":
            return [accepted]
        if method not in ("subscribe", "unsubscribe"):
            return [_error(number, -1020, f"unsupported method {method}")]
        topics: list[Topic] = []
        for name in texts_of(request.get("params")):
            topic = self._topic(session, name)
            if topic is None or (method == "subscribe" and not known(topic.symbol)):
                return [_error(number, -1013, f"invalid stream {name}")]
            topics.append(topic)
        if method == "unsubscribe":
            return [*(Unsubscribe(topic) for topic in topics), accepted]
        return [*(Subscribe(topic) for topic in topics), accepted]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the book as a `depthUpdate` whose first and last id are equal."""
        if topic.channel is not Channel.BOOK or not topic.snapshot_depth:
            return None
        depth = None if topic.snapshot_depth < 0 else topic.snapshot_depth
        sides = book.best_bids(depth), book.best_asks(depth)
        ids = book.id_last, book.id_last
        return snapshot_message(self._text(book.symbol, ids, sides, time_ns), book)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print a `depthUpdate` from the last id before it."""
        ids = step.id_prev, step.id_last
        return book_message(self._text(step.symbol, ids, split_levels(step), time_ns), step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a trade; `m` tells that the buyer was the maker."""
        price = fixed_text(trade.price, self.traits.price_scale, DIGITS[0])
        size = fixed_text(trade.size, self.traits.size_scale, DIGITS[1])
        maker = "false" if trade.aggressor_buys else "true"
        text = f'{{"E":{time_ns},"s":"{trade.symbol}","t":{trade.trade_id},"p":"{price}","q":"{size}","m":{maker}}}'
        return trade_message(text, trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Gemini pings on the protocol level here."""
        return None

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """Serve the book endpoint, which knows no ids."""
        return gemini_book(path, books, self.traits)

    def _topic(self, session: Session, name: str) -> Topic | None:
        symbol, _, stream = name.partition("@")
        channel = STREAMS.get(stream)
        if channel is None or symbol not in self._symbols:
            return None
        wanted = session.query.get("snapshot", "0")
        is_number = wanted.lstrip("-").isdigit()
        return Topic(channel, symbol, name, snapshot_depth=int(wanted) if is_number else 0)

    def _text(
        self,
        symbol: str,
        ids: tuple[int, int],
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        time_ns: int,
    ) -> str:
        bids = pair_texts(sides[0], self.traits, DIGITS, PAIR)
        asks = pair_texts(sides[1], self.traits, DIGITS, PAIR)
        return f'{{"e":"depthUpdate","E":{time_ns},"s":"{symbol}","U":{ids[0]},"u":{ids[1]},"b":[{bids}],"a":[{asks}]}}'


class GeminiV2Dialect:
    """The archived market data, without ids."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(
            id_rule=IdRule.SINGLE,
            is_touched=True,
            has_windows=False,
            zero_text="0",
            heartbeat_every_s=5.0,
        )
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Accept the market data address; it carries no subscription."""
        return [] if session.path.rstrip("/") in ("", "/v2/marketdata") else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve subscribe and unsubscribe; there is no acknowledgement."""
        request = read_object(text)
        kind = str(request.get("type")) if request else ""
        wanted = request.get("subscriptions") if request else None
        if kind not in ("subscribe", "unsubscribe") or not isinstance(wanted, list):
            return [Reply('{"result":"error","reason":"InvalidJson"}')]
        actions: list[Action] = []
        for entry in wanted:
            if not isinstance(entry, dict) or entry.get("name") != "l2":
                return [Reply('{"result":"error","reason":"InvalidSubscription"}')]
            actions += self._request(kind, texts_of(entry.get("symbols")), known)
        return actions or [Reply('{"result":"error","reason":"NoValidTradingPairs"}')]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the whole book with an empty list of past trades."""
        if topic.channel is not Channel.BOOK:
            return None
        changes = self._changes((book.best_bids(), book.best_asks()))
        text = f'{{"auction_events":[],"changes":[{changes}],"symbol":"{book.symbol}","trades":[],"type":"l2_updates"}}'
        return snapshot_message(text, book)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print the changed levels."""
        changes = self._changes(split_levels(step))
        text = f'{{"changes":[{changes}],"symbol":"{step.symbol}","type":"l2_updates"}}'
        return book_message(text, step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a trade; `side` is the side that took."""
        text = (
            f'{{"event_id":{trade.trade_id},'
            f'"price":"{canonical_text(trade.price, self.traits.price_scale)}",'
            f'"quantity":"{canonical_text(trade.size, self.traits.size_scale)}",'
            f'"side":"{"buy" if trade.aggressor_buys else "sell"}","symbol":"{trade.symbol}",'
            f'"tid":{trade.trade_id},"timestamp":{time_ns // 1_000_000},"type":"trade"}}'
        )
        return trade_message(text, trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Print a heartbeat."""
        return Message(f'{{"timestamp":{time_ns // 1_000_000},"type":"heartbeat"}}'.encode())

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """Serve the book endpoint, which knows no ids."""
        return gemini_book(path, books, self.traits)

    def _request(self, kind: str, symbols: list[str], known: Known) -> list[Action]:
        action = Subscribe if kind == "subscribe" else Unsubscribe
        heartbeat: list[Action] = []
        actions: list[Action] = []
        for symbol in symbols:
            if symbol in self._symbols and (kind == "unsubscribe" or known(symbol)):
                actions += [action(Topic(Channel.BOOK, symbol))]
                actions += [action(Topic(Channel.TRADES, symbol))]
        if actions and kind == "subscribe":
            heartbeat = [Subscribe(Topic(Channel.HEARTBEAT, ""))]
        return actions + heartbeat

    def _changes(self, sides: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> str:
        bids = pair_texts(sides[0], self.traits, DIGITS, '["buy","%s","%s"]')
        asks = pair_texts(sides[1], self.traits, DIGITS, '["sell","%s","%s"]')
        return f"{bids},{asks}" if bids and asks else bids or asks


def gemini_book(path: str, books: Mapping[str, SymbolBook], traits: Traits) -> RestReply | None:
    """Answer `/v1/book/<symbol>`."""
    if not path.startswith("/v1/book/"):
        return None
    wanted = path.removeprefix("/v1/book/").lower()
    book = next((book for symbol, book in books.items() if symbol.lower() == wanted), None)
    if book is None:
        return RestReply(400, '{"result":"error","reason":"Bad Request"}')
    form = '{"price":"%s","amount":"%s","timestamp":"0"}'
    bids = pair_texts(book.best_bids(50), traits, DIGITS, form)
    asks = pair_texts(book.best_asks(50), traits, DIGITS, form)
    return RestReply(200, f'{{"bids":[{bids}],"asks":[{asks}]}}')


def _error(number: str, code: int, problem: str) -> Reply:
    error = json_text({"code": code, "msg": problem})
    return Reply(f'{{"id":{number},"status":400,"error":{error}}}')
