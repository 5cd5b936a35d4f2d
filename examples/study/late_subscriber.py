"""What does a subscriber miss that comes late? With PUB/SUB everything before it; with a raytrade link nothing.

An exchange sends one full book and then only changes. ZeroMQ's PUB socket forgets what it has sent, so whoever
subscribes in mid-stream gets changes to a book that it never saw. A raytrade link begins with an image: the book at
id P, then P + 1 and on, so the late reader's book is the true one.
"""

from __future__ import annotations

import json

import zmq

from raytrade import BookDelta, BookSnapshot, Channel, L2Book
from raytrade.core.instrument import Filter
from raytrade.core.message import Message, decode, encode, parse
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Publisher, Sent
from raytrade.links.reader import LinkReader
from raytrade.links.writer import LinkSettings

NAME = "kraken-v2:BTC/USD"
SCALES = {"price_scale": 0, "size_scale": 0}
UPDATES = 100
LATE = 60


def market() -> list[BookSnapshot | BookDelta]:
    """Give a book and `UPDATES` changes: change n sets the bid at price n, so that each matters for ever."""
    first = BookSnapshot(instrument=NAME, id_last=1, bids=(), asks=(1000, 5), **SCALES)
    changes = [
        BookDelta(instrument=NAME, id_prev=n, id_last=n + 1, bids=(n, n), asks=(), **SCALES)
        for n in range(1, UPDATES + 1)
    ]
    return [first, *changes]


def by_zeromq() -> int:
    """Publish the market, subscribe late; gives how many of the changes the subscriber has at the end."""
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    subscriber = context.socket(zmq.SUB)
    bids: dict[int, int] = {}
    for at, event in enumerate(market()):
        if at == LATE:
            subscriber.connect(f"tcp://127.0.0.1:{port}")
            subscriber.setsockopt(zmq.SUBSCRIBE, b"")
            publisher.recv()  # the subscription has arrived; who does not wait for it loses even more
        publisher.send(json.dumps({"id": event.id_last, "bids": event.bids}).encode())
    while subscriber.poll(300):
        flat = json.loads(subscriber.recv())["bids"]
        bids.update(zip(flat[::2], flat[1::2], strict=True))
    context.destroy(linger=0)
    return len(bids)


class Wire:
    """A lane that keeps the batches."""

    name, is_local = "wire", True

    def __init__(self) -> None:
        self.batches: list[bytes] = []

    def send(self, data: bytes, done: object) -> Sent:
        """Take a batch."""
        self.batches.append(data)
        return Sent.TAKEN

    def close(self) -> None:
        """Nothing is held."""


def by_link() -> int:
    """Append the market to a publisher, open a link late; gives how many of the changes the reader's book has."""
    kept = L2Book(NAME)

    def images(wanted: Filter) -> list[Message]:
        return [parse(encode(kept.snapshot(), "dedup"))] if wanted.accepts(NAME, Channel.BOOK) else []

    publisher = Publisher(1, LinkSettings(), images, lambda link, problem: None)
    reader, wire, book, now_ns = LinkReader("dedup", 1), Wire(), L2Book(NAME), 0
    for at, event in enumerate(market()):
        now_ns += 10_000_000
        if at == LATE:
            publisher.open(reader.wish("late", OpenLink(link=0, reader="late"), now_ns), wire, now_ns)
        publisher.append([parse(encode(event, "line"))])
        publisher.pump(now_ns)
        kept.apply(event)
    publisher.pump(now_ns + 10_000_000)
    for data in wire.batches:
        for message in reader.receive(data, now_ns) or []:
            received = decode(message)
            if isinstance(received, BookSnapshot | BookDelta):
                book.apply(received)
    return len(book) - 1  # the ask


def main() -> None:
    """Compare."""
    zeromq, link = by_zeromq(), by_link()
    print(f"subscribed after {LATE} of {UPDATES} changes")
    print(f"  ZeroMQ PUB/SUB: the subscriber's book lacks {UPDATES - zeromq} of {UPDATES} levels, and does not know it")
    print(f"  raytrade link:  the reader's book lacks {UPDATES - link} of {UPDATES} levels")
    assert zeromq < UPDATES == link


if __name__ == "__main__":
    main()
