"""What the tests of links share: numbered messages, images of them, and a writer without a lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, LineUp, Side, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.core.ring import MessageRing
from raytrade.links.batch import BatchHeader, decode_batch
from raytrade.links.opening import OpenLink
from raytrade.links.writer import LinkSettings, LinkWriter

STEP_NS: Nanos = 10 * MILLISECOND


def message_of(event: Event, line: str = "c1/v-1") -> Message:
    return parse(encode(event, line))


def delta(symbol: str, id_last: int, line: str = "c1/v-1", **others: Any) -> Message:
    fields: dict[str, Any] = {"id_prev": id_last - 1, "bids": (10, id_last), "asks": (), "ts_recv_ns": id_last} | others
    return message_of(BookDelta(instrument=f"v:{symbol}", id_last=id_last, price_scale=0, size_scale=0, **fields), line)


def image(symbol: str, id_last: int, line: str = "c1/v-1") -> Message:
    event = BookSnapshot(
        instrument=f"v:{symbol}", id_last=id_last, bids=(10, id_last), asks=(), price_scale=0, size_scale=0
    )
    return message_of(event, line)


def trade(symbol: str, sequence: int) -> Message:
    event = Trade(
        instrument=f"v:{symbol}",
        trade_id=str(sequence),
        sequence=sequence,
        price=1,
        size=1,
        price_scale=0,
        size_scale=0,
        aggressor=Side.BUY,
    )
    return message_of(event)


def line_up(line: str = "c1/v-1") -> Message:
    return message_of(LineUp(venue="v"), line)


def images_of(*messages: Message) -> Callable[[Filter], list[Message]]:
    return lambda wanted: [
        each for each in messages if each.kind is Kind.LINE_UP or wanted.accepts(each.instrument, Channel.BOOK)
    ]


NO_IMAGES = images_of()


def ring_of(*messages: Message, items_max: int = 1000) -> MessageRing:
    ring = MessageRing(10_000_000, items_max)
    for each in messages:
        ring.append(each)
    return ring


class Link:
    """A writer whose batches are taken as soon as they are cut."""

    def __init__(
        self,
        ring: MessageRing,
        images: Callable[[Filter], list[Message]] = NO_IMAGES,
        settings: LinkSettings | None = None,
        **wish: Any,
    ) -> None:
        self.images = images
        self.now_ns: Nanos = 1_000 * STEP_NS
        self.headers: list[BatchHeader] = []
        settings = settings or LinkSettings()
        self.writer = LinkWriter(OpenLink(link=7, reader="r", **wish), ring, 42, settings, settings.spacing_ns)
        self.writer.open(images, self.now_ns)

    def cut(self) -> list[Message] | None:
        """Give the messages of the next batch, and let it be taken."""
        data = self.writer.cut(self.images, self.now_ns)
        self.now_ns += STEP_NS
        if data is None:
            return None
        self.writer.sent_done()
        header, messages = decode_batch(data)
        self.headers.append(header)
        return messages

    def drain(self) -> list[Message]:
        """Give everything that is pending."""
        received: list[Message] = []
        while not self.writer.is_drained():
            received += self.cut() or []
        return received


def ids(messages: Iterable[Message]) -> list[tuple[str, int]]:
    """Give (symbol, id) of each message; images are told by a ``=``, gaps by a ``!``."""
    marks = {Kind.SNAPSHOT: "=", Kind.GAP: "!", Kind.LINE_UP: "+", Kind.LINE_DOWN: "-"}
    return [(marks.get(each.kind, "") + each.instrument.removeprefix("v:"), each.id_last) for each in messages]
