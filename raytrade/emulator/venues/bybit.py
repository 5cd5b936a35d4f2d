"""Bybit v5 public streams.

Rules (bybit-exchange/docs v5 websocket/public, and a recorded session of 2026): one address per
market family; `orderbook.<depth>.<symbol>` opens with a snapshot, then deltas with `u` one higher
each; a level that leaves the window is sent as removed; depth 1 sends snapshots only.
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
from ..digits import fixed_text
from ..market import IdRule, Step, SymbolBook, Trade
from ..message import Message

PAIR = '["%s","%s"]'
DIGITS = (2, 8)
DEPTHS = (1, 50, 200, 1000)
FAMILIES = ("spot", "linear", "inverse")
PATHS = ("", *(f"/v5/public/{family}" for family in FAMILIES))
SEQUENCE_PER_UPDATE = 3
"""`seq`, the counter of the engine, rises faster than `u`."""


class BybitDialect:
    """Books of a chosen depth, numbered by `u`."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.traits = Traits(
            id_rule=IdRule.SINGLE,
            is_touched=False,
            has_windows=False,
            window_depths=DEPTHS,
            zero_text="0",
        )
        self._symbols = symbols

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Accept the address of a market family; it carries no subscription."""
        return [] if session.path.rstrip("/") in PATHS else None

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Serve subscribe, unsubscribe and ping; one unknown topic refuses the request."""
        request = read_object(text)
        if request is None:
            return [Reply('{"success":false,"ret_msg":"error:invalid request","op":""}')]
        kind = str(request.get("op"))
        if kind == "ping":
            return [_answer("ping", True, "pong", request)]
        if kind not in ("subscribe", "unsubscribe"):
            return [_answer(kind, False, f"error:unsupported op {kind}", request)]
        topics: list[Topic] = []
        for name in texts_of(request.get("args")):
            topic = self._topic(name)
            if topic is None or (kind == "subscribe" and not known(topic.symbol)):
                problem = f"error:handler not found,topic:{name}"
                return [_answer(kind, False, problem, request)]
            topics.append(topic)
        said = kind if session.path.endswith("/spot") else ""
        accepted = _answer(kind, True, said, request)
        if kind == "unsubscribe":
            return [accepted, *(Unsubscribe(topic) for topic in topics)]
        return [accepted, *(Subscribe(topic) for topic in topics)]

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the book to the subscribed depth."""
        if topic.channel is not Channel.BOOK:
            return None
        sides = book.best_bids(topic.depth), book.best_asks(topic.depth)
        return snapshot_message(self._text(topic, "snapshot", sides, book, time_ns), book)

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print a delta, or the whole top where the depth is 1."""
        if topic.depth == 1:
            top = book.best_bids(1), book.best_asks(1)
            return book_message(self._text(topic, "snapshot", top, book, time_ns), step)
        sides = split_levels(step)
        return book_message(self._text(topic, "delta", sides, book, time_ns), step)

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print a trade; `S` is the side that took."""
        time_ms = time_ns // 1_000_000
        price = fixed_text(trade.price, self.traits.price_scale, DIGITS[0])
        size = fixed_text(trade.size, self.traits.size_scale, DIGITS[1])
        side = "Buy" if trade.aggressor_buys else "Sell"
        text = (
            f'{{"topic":"{topic.name}","type":"snapshot","ts":{time_ms},"data":[{{"T":{time_ms},'
            f'"s":"{trade.symbol}","S":"{side}","v":"{size}","p":"{price}","L":"PlusTick",'
            f'"i":"{trade.trade_id}","BT":false,"RPI":false,"seq":{trade.trade_id}}}]}}'
        )
        return trade_message(text, trade)

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """The client pings here; the venue only answers."""
        return None

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """The emulator serves no REST endpoint of this venue."""
        return None

    def _text(
        self,
        topic: Topic,
        kind: str,
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        book: SymbolBook,
        time_ns: int,
    ) -> str:
        time_ms = time_ns // 1_000_000
        bids = pair_texts(sides[0], self.traits, DIGITS, PAIR)
        asks = pair_texts(sides[1], self.traits, DIGITS, PAIR)
        return (
            f'{{"topic":"{topic.name}","type":"{kind}","ts":{time_ms},"data":{{"s":"{book.symbol}",'
            f'"b":[{bids}],"a":[{asks}],"u":{book.id_last},'
            f'"seq":{book.id_last * SEQUENCE_PER_UPDATE}}},"cts":{time_ms}}}'
        )

    def _topic(self, name: str) -> Topic | None:
        parts = name.split(".")
        if parts[-1] not in self._symbols:
            return None
        if parts[0] == "publicTrade" and len(parts) == 2:
            return Topic(Channel.TRADES, parts[1], name)
        if parts[0] != "orderbook" or len(parts) != 3:
            return None
        if not parts[1].isdigit() or int(parts[1]) not in DEPTHS:
            return None
        return Topic(Channel.BOOK, parts[2], name, depth=int(parts[1]))


def _answer(kind: str, success: bool, said: str, request: Mapping[str, object]) -> Reply:
    number = request.get("req_id", "")
    answer = {"success": success, "ret_msg": said, "conn_id": "emulated", "req_id": number}
    return Reply(json_text({**answer, "op": kind}))
