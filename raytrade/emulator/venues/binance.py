"""Binance spot, Binance US and the two futures markets.

Rules (binance-spot-api-docs web-socket-streams.md and developers.binance.com, usds-margined and
coin-margined futures, read 2026-11): streams by address (`/ws/<stream>`, `/stream?streams=a/b`)
or by SUBSCRIBE; combined addresses wrap each message; spot ids are contiguous per symbol, futures
ids jump and chain by `pu`; the snapshot comes from REST.
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
    split_levels,
    texts_of,
    trade_message,
)
from ..digits import canonical_text, fixed_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

PAIR = '["%s","%s"]'
DEPTH_DEFAULT = {"spot": 100, "futures": 500}
DEPTH_MAX = {"spot": 5000, "futures": 1000}
BAD_LIMIT = '{"code":-1130,"msg":"Data sent for parameter \'limit\' is not valid."}'
DIGITS_SPOT = (8, 8)
DIGITS_FUTURES = (2, 8)


class BinanceDialect:
    """One Binance market; `family` is `spot` or `futures`, `rest_path` its depth endpoint."""

    def __init__(self, symbols: tuple[str, ...], family: str, rest_path: str) -> None:
        is_spot = family == "spot"
        self.traits = Traits(
            id_rule=IdRule.RANGE if is_spot else IdRule.SPARSE,
            is_touched=True,
            has_windows=True,
            ping_every_s=20.0 if is_spot else 180.0,
        )
        self._is_spot = is_spot
        self._family = family
        self._rest_path = rest_path
        self._tells_pair = rest_path.startswith("/dapi")
        self._digits = DIGITS_SPOT if is_spot else DIGITS_FUTURES
        self._symbols = {symbol.lower(): symbol for symbol in symbols}

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Read the streams in the address; unknown ones are never served, as on the venue."""
        path = session.path.rstrip("/")
        for route in ("/public", "/market"):
            path = path.removeprefix(route)
        if path == "/stream":
            session.is_wrapped = True
            names = session.query.get("streams", "").split("/")
        elif path == "/ws" or path.startswith("/ws/") or not path:
            names = path.removeprefix("/ws").strip("/").split("/")
        else:
            return None
        topics = [self._topic(name, session) for name in names if name]
        return [Subscribe(topic) for topic in topics if topic and known(topic.symbol)]

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS; one unknown stream refuses all."""
        request = read_object(text)
        if request is None or "method" not in request:
            return [Reply('{"error":{"code":2,"msg":"Invalid request: not a valid request"}}')]
        number = json_text(request.get("id"))
        method = str(request["method"]).upper()
        if method == "LIST_SUBSCRIPTIONS":
            return [Reply(f'{{"result":[],"id":{number}}}')]
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return [Reply(f'{{"error":{{"code":2,"msg":"Invalid request"}},"id":{number}}}')]
        topics = [self._topic(name, session) for name in texts_of(request.get("params"))]
        if method == "UNSUBSCRIBE":
            stops = [Unsubscribe(topic) for topic in topics if topic]
            return [Reply(f'{{"result":null,"id":{number}}}'), *stops]
        if not topics or any(topic is None or not known(topic.symbol) for topic in topics):
            return [Reply(f'{{"error":{{"code":-1121,"msg":"Invalid symbol."}},"id":{number}}}')]
        starts = [Subscribe(topic) for topic in topics if topic]
        return [Reply(f'{{"result":null,"id":{number}}}'), *starts]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Binance sends no snapshot in band."""
        return None

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print a `depthUpdate`."""
        bids, asks = split_levels(step)
        time_ms = time_ns // 1_000_000
        bids_text = pair_texts(bids, self.traits, self._digits, PAIR)
        asks_text = pair_texts(asks, self.traits, self._digits, PAIR)
        if self._is_spot:
            times, previous = f'"E":{time_ms}', ""
        else:
            times, previous = f'"E":{time_ms},"T":{time_ms}', f'"pu":{step.id_prev},'
        pair = f'"ps":"{pair_of(step.symbol)}",' if self._tells_pair else ""
        data = (
            f'{{"e":"depthUpdate",{times},"s":"{step.symbol}",{pair}"U":{step.id_first},'
            f'"u":{step.id_last},{previous}"b":[{bids_text}],"a":[{asks_text}]}}'
        )
        return book_message(self._wrap(topic, data), step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a `trade` or, where the stream asks for it, an `aggTrade`."""
        time_ms = time_ns // 1_000_000
        price = fixed_text(trade.price, self.traits.price_scale, self._digits[0])
        size = fixed_text(trade.size, self.traits.size_scale, self._digits[1])
        maker = "false" if trade.aggressor_buys else "true"
        number = trade.trade_id
        if "@aggTrade" in topic.name:
            kind, ids, tail = "aggTrade", f'"a":{number}', f'"f":{number},"l":{number},'
        else:
            kind, ids, tail = "trade", f'"t":{number}', ""
        data = (
            f'{{"e":"{kind}","E":{time_ms},"s":"{trade.symbol}",{ids},"p":"{price}","q":"{size}",'
            f'{tail}"T":{time_ms},"m":{maker}{self._trade_end}}}'
        )
        return trade_message(self._wrap(topic, data), trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Binance pings on the protocol level only."""
        return None

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """Answer the depth endpoint, the list of symbols and the server time."""
        if path == self._rest_path.replace("depth", "time"):
            return RestReply(200, f'{{"serverTime":{time_ns // 1_000_000}}}')
        if path == self._rest_path.replace("depth", "exchangeInfo"):
            return RestReply(200, self._symbols_text(books))
        if path != self._rest_path:
            return None
        book = books.get(query.get("symbol", ""))
        if book is None:
            return RestReply(400, '{"code":-1121,"msg":"Invalid symbol."}')
        limit = query.get("limit", str(DEPTH_DEFAULT[self._family]))
        if not limit.isdigit() or int(limit) < 1:
            return RestReply(400, BAD_LIMIT)
        depth = min(int(limit), DEPTH_MAX[self._family])
        return RestReply(200, self._depth_text(book, depth, time_ns // 1_000_000))

    @property
    def _trade_end(self) -> str:
        return ',"M":true' if self._is_spot else ',"X":"MARKET"'

    def _depth_text(self, book: SymbolBook, depth: int, time_ms: int) -> str:
        bids = pair_texts(book.best_bids(depth), self.traits, self._digits, PAIR)
        asks = pair_texts(book.best_asks(depth), self.traits, self._digits, PAIR)
        times = "" if self._is_spot else f'"E":{time_ms},"T":{time_ms},'
        if self._tells_pair:
            times += f'"symbol":"{book.symbol}","pair":"{pair_of(book.symbol)}",'
        head = f'{{"lastUpdateId":{book.id_last},{times}'
        return f'{head}"bids":[{bids}],"asks":[{asks}]}}'

    def _symbols_text(self, books: Mapping[str, SymbolBook]) -> str:
        price_step = canonical_text(1, self.traits.price_scale)
        size_step = canonical_text(1, self.traits.size_scale)
        filters = [
            {"filterType": "PRICE_FILTER", "tickSize": price_step},
            {"filterType": "LOT_SIZE", "stepSize": size_step},
        ]
        listed = [{"symbol": s, "status": "TRADING", "filters": filters} for s in books]
        return json_text({"timezone": "UTC", "symbols": listed})

    @staticmethod
    def _wrap(topic: Topic, data: str) -> str:
        return f'{{"stream":"{topic.name}","data":{data}}}' if topic.is_wrapped else data

    def _topic(self, name: str, session: Session) -> Topic | None:
        symbol_text, _, channel_text = name.partition("@")
        symbol = self._symbols.get(symbol_text)
        if symbol is None:
            return None
        kind = channel_text.partition("@")[0]
        channel = {"depth": Channel.BOOK, "trade": Channel.TRADES, "aggTrade": Channel.TRADES}
        if kind not in channel:
            return None
        return Topic(channel[kind], symbol, name, is_wrapped=session.is_wrapped)


def pair_of(symbol: str) -> str:
    """Name the pair of a coin-margined contract, e.g. BTCUSD of BTCUSD_PERP."""
    return symbol.partition("_")[0]
