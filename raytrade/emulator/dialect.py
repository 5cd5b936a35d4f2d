"""What the emulator needs to know of a venue: how to read requests and how to print its market.

Invariant: a dialect is pure; it gets text, steps and times, and returns actions and messages.
Called by the synthetic feed. One class per venue family lives in `venues/`.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from .digits import fixed_text
from .market import IdRule, Step, SymbolBook, Trade
from .message import Content, Message

Known = Callable[[str], bool]
"""Asks whether a symbol, as the venue writes it, may be served to this connection."""


class Channel(enum.Enum):
    """The streams that the emulator serves."""

    BOOK = "book"
    TRADES = "trades"
    HEARTBEAT = "heartbeat"


class Topic(msgspec.Struct, frozen=True):
    """One subscription, as far as it changes what is sent.

    `name` is the stream as the client wrote it; `depth` 0 is the whole book; `snapshot_depth` is
    the number of levels of the opening snapshot (-1 all, 0 none).
    """

    channel: Channel
    symbol: str
    name: str = ""
    depth: int = 0
    is_wrapped: bool = False
    snapshot_depth: int = -1


class Subscribe(msgspec.Struct, frozen=True):
    """Start a topic; where the venue has a snapshot in band, it goes out here."""

    topic: Topic


class Unsubscribe(msgspec.Struct, frozen=True):
    """Stop a topic."""

    topic: Topic


class Reply(msgspec.Struct, frozen=True):
    """Send a control text; `tail` is set where the connection's counter goes between."""

    text: str
    tail: str | None = None


Action = Subscribe | Unsubscribe | Reply


class Session(msgspec.Struct):
    """What a connection's address said, which later requests depend on."""

    path: str
    query: dict[str, str]
    is_wrapped: bool = False


class RestReply(msgspec.Struct, frozen=True):
    """An HTTP answer: status and JSON text."""

    status: int
    body: str


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a venue that shape the market and the connection.

    Times in seconds, 0 = never. `window_depths` are the depths a client may ask for; empty where
    the channel carries the full book. `has_windows` tells that a message covers a range of ids,
    so that windows may be cut anew per connection. `zero_text` is the size of a removed level
    where it is not printed with all digits.
    """

    id_rule: IdRule
    is_touched: bool
    has_windows: bool
    price_scale: int = 2
    size_scale: int = 8
    zero_text: str = ""
    window_depths: tuple[int, ...] = ()
    tells_leaving: bool = True
    sends_empty: bool = True
    is_numbered: bool = False
    ping_every_s: float = 0.0
    heartbeat_every_s: float = 0.0
    heartbeat_when_idle: bool = False


class Dialect(Protocol):
    """The wire format of one venue."""

    traits: Traits

    def open(self, session: Session, known: Known) -> list[Action] | None:
        """Greet a new connection and read subscriptions in its address; None = no such path."""

    def receive(self, session: Session, text: str, known: Known) -> list[Action]:
        """Read one text of the client."""

    def snapshot(self, topic: Topic, book: SymbolBook, time_ns: int) -> Message | None:
        """Print the opening book of a topic; None where the venue sends none in band."""

    def update(self, topic: Topic, step: Step, book: SymbolBook, time_ns: int) -> Message:
        """Print one update; `book` is already in the state after it."""

    def trade(self, topic: Topic, trade: Trade, time_ns: int) -> Message:
        """Print one trade."""

    def heartbeat(self, time_ns: int, count: int) -> Message | None:
        """Print the periodic sign of life; None where the venue has none."""

    def rest(
        self, path: str, query: Mapping[str, str], books: Mapping[str, SymbolBook], time_ns: int
    ) -> RestReply | None:
        """Answer a REST request; None = no such path."""


@functools.lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def iso_time(time_ns: int, digits: int) -> str:
    """Print a time as RFC 3339 in UTC with the given number of fractional digits (1 to 9)."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return f"{_second_text(seconds)}.{nanos // 10 ** (9 - digits):0{digits}d}Z"


def pair_texts(levels: list[tuple[int, int]], traits: Traits, digits: tuple[int, int], form: str) -> str:
    """Print (price, size) pairs with `form`, e.g. `["%s","%s"]`, divided by commas.

    `digits` are the digits after the point of price and size.
    """
    price_scale, size_scale, zero = traits.price_scale, traits.size_scale, traits.zero_text
    price_digits, size_digits = digits
    return ",".join(
        [
            form
            % (
                fixed_text(price, price_scale, price_digits),
                fixed_text(size, size_scale, size_digits) if size or not zero else zero,
            )
            for price, size in levels
        ]
    )


def split_levels(step: Step) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Divide the levels of a step into bids and asks, order kept."""
    bids = [(level.price, level.size) for level in step.levels if level.is_bid]
    asks = [(level.price, level.size) for level in step.levels if not level.is_bid]
    return bids, asks


def book_message(text: str, step: Step, tail: str | None = None) -> Message:
    """Wrap the text of an update with the ids it covers."""
    end = None if tail is None else tail.encode()
    return Message(text.encode(), step.symbol, Content.BOOK, step.id_first, step.id_last, end)


def snapshot_message(text: str, book: SymbolBook, tail: str | None = None) -> Message:
    """Wrap the text of an in-band snapshot; it is control: faults of loss leave it alone."""
    end = None if tail is None else tail.encode()
    return Message(text.encode(), book.symbol, Content.CONTROL, 0, 0, end)


def trade_message(text: str, trade: Trade, tail: str | None = None) -> Message:
    """Wrap the text of a trade with its id."""
    end = None if tail is None else tail.encode()
    ids = trade.trade_id, trade.trade_id
    return Message(text.encode(), trade.symbol, Content.TRADE, *ids, end)


def read_object(text: str) -> dict[str, object] | None:
    """Parse a JSON object; None if the text is none."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


def json_text(value: object) -> str:
    """Print any plain value as JSON."""
    return msgspec.json.encode(value).decode()


def texts_of(value: object) -> list[str]:
    """Read a list of texts; anything else gives what texts it holds."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
