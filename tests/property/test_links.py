"""A writer and a reader over a lane that loses, repeats and reorders: in order, once, nothing missing in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, GapKind, Side, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.core.ring import MessageRing
from raytrade.links.batch import decode_batch
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Done, Publisher, Sent
from raytrade.links.reader import LinkReader, ReaderSettings
from raytrade.links.writer import LinkSettings, LinkWriter

BOOKS = ("v:A", "v:B")
TRADES = ("v:A", "v:T")
STREAMS = [(name, Channel.BOOK) for name in BOOKS] + [(name, Channel.TRADES) for name in TRADES]
StreamKey = tuple[str, Channel]


class Lane:
    """Packets under way, and what was never acknowledged."""

    name = "lossy"
    is_local = False

    def __init__(self, world: World) -> None:
        self.world = world

    def send(self, data: bytes, done: Done) -> Sent:
        self.world.check_sent(data)
        self.world.packets.append((data, done))
        return Sent.PENDING

    def close(self) -> None:
        """Packets under way still arrive."""


class Check:
    """What the reader has had of one stream, and whether it may jump."""

    def __init__(self, has_images: bool) -> None:
        self.has_images = has_images
        self.last: int | None = None
        self.may_jump = True
        self.gap_open = False

    def receive(self, message: Message) -> None:
        event = decode(message)
        match message.kind:
            case Kind.GAP:
                assert event.kind is GapKind.SLOW_CONSUMER  # type: ignore[union-attr]
                assert message.id_prev <= (self.last or 0)
                self.may_jump = self.gap_open = True
            case Kind.SNAPSHOT:
                assert self.last is None or message.id_last >= self.last
                assert self.may_jump or message.id_last == self.last or self.last is None
                self.last = message.id_last
                self.may_jump = self.gap_open = False
            case _:
                assert not (self.gap_open and self.has_images), "an image follows a gap"
                if self.last is not None:
                    assert message.id_last > self.last, "in order, without repeats"
                    assert self.may_jump or message.id_prev == self.last, "nothing is missing in silence"
                self.last = message.id_last
                self.may_jump = self.gap_open = False


class World:
    """One writer (that may be started again), one reader, and the lane between them, on one clock."""

    def __init__(self, seed: int, settings: LinkSettings) -> None:
        self.random = Random(seed)
        self.settings = settings
        self.now_ns: Nanos = 10**9
        self.packets: list[tuple[bytes, Done]] = []
        self.ids = dict.fromkeys(STREAMS, 100)
        self.writer_id = 0
        self.restart()
        self.reader = LinkReader("w", 0, ReaderSettings(silence_ns_max=200 * MILLISECOND, retry_ns=20 * MILLISECOND))
        self.checks = {stream: Check(stream[1] is Channel.BOOK) for stream in STREAMS}
        self.received = 0

    def restart(self) -> None:
        self.writer_id += 1
        self.publisher = Publisher(self.writer_id, self.settings, self.images, self.wake)
        self.wishes: dict[int, OpenLink] = {}

    def wake(self, link: int, problem: str | None) -> None:
        self.publisher.sent(link, problem)

    def images(self, wanted: Filter) -> list[Message]:
        return [self.image(name) for name in BOOKS if wanted.accepts(name, Channel.BOOK)]

    def image(self, name: str) -> Message:
        number = self.ids[name, Channel.BOOK]
        levels = (1, number) * 10
        book = BookSnapshot(instrument=name, id_last=number, bids=levels, asks=(), price_scale=0, size_scale=0)
        return parse(encode(book, "line"))

    # What can happen.

    def append(self) -> None:
        self.publisher.append([self.update(self.random.choice(STREAMS)) for _ in range(self.random.randint(1, 12))])

    def update(self, stream: StreamKey) -> Message:
        number = self.ids[stream] = self.ids[stream] + 1
        return update(stream, number)

    def pump(self) -> None:
        self.now_ns += self.random.choice((1, 5, 50)) * MILLISECOND
        self.publisher.pump(self.now_ns)
        self.follow()

    def follow(self) -> None:
        """Open the link if it must be opened; the answer to the wish may be lost."""
        if not self.reader.must_open(self.now_ns):
            return
        wish = self.reader.wish("r", OpenLink(link=0, reader=""), self.now_ns)
        fate = self.random.random()
        if fate < 0.1:
            return
        self.publisher.open(wish, Lane(self), self.now_ns)
        if wish.writer != self.writer_id or wish.next_index > self.publisher.ring.end:
            for check in self.checks.values():
                check.may_jump = True
        if fate < 0.9:
            self.reader.opened(self.writer_id, self.now_ns)

    def deliver(self) -> None:
        if self.packets:
            data, done = self.packets.pop(0)
            done(None)
            self.take(data)

    def take(self, data: bytes) -> None:
        for message in self.reader.receive(data, self.now_ns) or []:
            self.received += 1
            self.checks[message.stream].receive(message)

    def lose(self) -> None:
        if self.packets:
            _, done = self.packets.pop(0)
            if self.random.random() < 0.5:
                done(None)

    def repeat(self) -> None:
        if self.packets:
            self.take(self.packets[0][0])

    def swap(self) -> None:
        self.packets.reverse()

    def forget(self) -> None:
        self.reader.forget()
        for check in self.checks.values():
            check.may_jump = True

    def refresh(self) -> None:
        self.reader.refresh({self.random.choice(BOOKS)})

    # What always holds.

    def check_sent(self, data: bytes) -> None:
        header, messages = decode_batch(data)
        is_opening = any(message.kind in (Kind.SNAPSHOT, Kind.GAP) for message in messages)
        bound = self.settings.opening_bytes_max if is_opening else self.settings.batch_bytes_max
        assert sum(len(message.raw) for message in messages[:-1]) < bound or not messages
        under_way = sum(decode_batch(packet)[0].link == header.link for packet, _ in self.packets)
        assert under_way < self.settings.in_flight_max

    def settle(self) -> None:
        """The lane is whole again: everything arrives. Long enough for silence to be noticed."""
        for _ in range(60):
            self.now_ns += 25 * MILLISECOND
            if self.reader.must_open(self.now_ns):
                wish = self.reader.wish("r", OpenLink(link=0, reader=""), self.now_ns)
                self.publisher.open(wish, Lane(self), self.now_ns)
                self.reader.opened(self.writer_id, self.now_ns)
                if wish.writer != self.writer_id or wish.next_index > self.publisher.ring.end:
                    for check in self.checks.values():
                        check.may_jump = True
            self.publisher.pump(self.now_ns)
            while self.packets:
                self.deliver()


ACTIONS: dict[str, tuple[int, Callable[[World], None]]] = {
    "append": (10, World.append),
    "pump": (14, World.pump),
    "deliver": (14, World.deliver),
    "lose": (2, World.lose),
    "repeat": (2, World.repeat),
    "swap": (1, World.swap),
    "forget": (1, World.forget),
    "refresh": (1, World.refresh),
    "restart": (1, World.restart),
}
STEPS = st.lists(st.sampled_from([name for name, (weight, _) in ACTIONS.items() for _ in range(weight)]), max_size=150)
SETTINGS = st.builds(
    LinkSettings,
    ring_items_max=st.integers(3, 60),
    in_flight_max=st.integers(1, 4),
    batch_bytes_max=st.integers(1, 1500),
    opening_bytes_max=st.integers(1, 1500),
    heartbeat_ns=st.just(40 * MILLISECOND),
)


def update(stream: StreamKey, number: int, id_prev: int | None = None) -> Message:
    name, channel = stream
    start = number - 1 if id_prev is None else id_prev
    if channel is Channel.TRADES:
        trade = Trade(
            instrument=name,
            trade_id=str(number),
            sequence=number,
            price=1,
            size=1,
            price_scale=0,
            size_scale=0,
            aggressor=Side.BUY,
        )
        return parse(encode(trade, "line"))
    delta = BookDelta(instrument=name, id_prev=start, id_last=number, bids=(1, 1), asks=(), price_scale=0, size_scale=0)
    return parse(encode(delta, "line"))


@given(st.integers(0, 2**32), SETTINGS, STEPS)
def test_every_stream_arrives_in_order_and_nothing_is_missing_in_silence(
    seed: int, settings: LinkSettings, steps: list[str]
) -> None:
    world = World(seed, settings)
    for step in steps:
        ACTIONS[step][1](world)
    world.settle()
    assert world.reader.is_up
    for stream in STREAMS:
        world.publisher.append([world.update(stream)])
        world.settle()
    assert {stream: check.last for stream, check in world.checks.items()} == world.ids
    assert world.reader.counts.messages == world.received


@given(st.integers(0, 2**32), STEPS)
def test_with_room_in_the_ring_a_reader_that_was_met_misses_nothing(seed: int, steps: list[str]) -> None:
    """Losses of the lane alone: after the first opening no stream ever jumps."""
    world = World(seed, LinkSettings(ring_items_max=10_000, in_flight_max=2, batch_bytes_max=500))
    world.settle()
    for check in world.checks.values():
        check.may_jump = False
    for step in steps:
        if step not in ("restart", "forget"):
            ACTIONS[step][1](world)
    world.settle()
    assert {s: c.last for s, c in world.checks.items() if c.last is not None} == {
        stream: number for stream, number in world.ids.items() if world.checks[stream].last is not None
    }
    assert not any(check.may_jump for check in world.checks.values())


# Resuming by ids.


def windows(random: Random, count: int) -> Iterator[tuple[StreamKey, int, int]]:
    ids = dict.fromkeys(STREAMS, 0)
    for _ in range(count):
        stream = random.choice(STREAMS)
        step = 1 if stream[1] is Channel.TRADES else random.randint(1, 3)
        id_prev, ids[stream] = ids[stream], ids[stream] + step
        yield stream, id_prev, ids[stream]


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 40), st.data())
def test_resuming_by_ids_repeats_nothing_and_misses_nothing(
    seed: int, count: int, items_max: int, data: st.DataObject
) -> None:
    ring = MessageRing(10**7, items_max)
    had: dict[StreamKey, list[int]] = {stream: [] for stream in STREAMS}
    for stream, id_prev, id_last in windows(Random(seed), count):
        message = update(stream, id_last, id_prev)
        ring.append(message)
        had[stream].append(id_last)
    positions = {stream: data.draw(st.sampled_from(ids)) for stream, ids in had.items() if ids}
    images = {stream: ids[-1] for stream, ids in had.items() if ids and stream[1] is Channel.BOOK}
    received = resumed(ring, positions, images)
    for stream, position in positions.items():
        check = Check(stream in images)
        check.last, check.may_jump = position, False
        for message in received.get(stream, []):
            check.receive(message)
        assert check.last == had[stream][-1] or (check.gap_open and stream not in images)


def resumed(
    ring: MessageRing, positions: dict[StreamKey, int], images: dict[StreamKey, int]
) -> dict[StreamKey, list[Message]]:
    def give(wanted: Filter) -> list[Message]:
        return [
            parse(
                encode(
                    BookSnapshot(instrument=name, id_last=at, bids=(), asks=(), price_scale=0, size_scale=0), "image"
                )
            )
            for (name, _), at in images.items()
        ]

    texts = {f"{name}/{channel.name.lower()}": at for (name, channel), at in positions.items()}
    settings = LinkSettings(batch_bytes_max=400)
    writer = LinkWriter(OpenLink(link=1, reader="r", positions=texts), ring, 1, settings, settings.spacing_ns)
    writer.open(give, 0)
    received: dict[StreamKey, list[Message]] = {}
    now_ns = 10**9
    while not writer.is_drained():
        now_ns += settings.spacing_ns
        data = writer.cut(give, now_ns)
        assert data is not None
        writer.sent_done()
        for message in decode_batch(data)[1]:
            received.setdefault(message.stream, []).append(message)
    return received


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@given(
    names=st.lists(st.text("ABCDEFGH:/-", min_size=1, max_size=12), min_size=1, max_size=30), seed=st.integers(0, 99)
)
def test_shards_part_the_messages_completely_and_without_overlap(shards: int, names: list[str], seed: int) -> None:
    ring = MessageRing(10**7, 1000)
    settings = LinkSettings()
    writers = [
        LinkWriter(OpenLink(link=n, reader=f"r{n}", shard=(n, shards)), ring, 1, settings, settings.spacing_ns)
        for n in range(shards)
    ]
    random = Random(seed)
    everything = [update((f"v:{name}", random.choice(list(Channel))), at) for at, name in enumerate(names, start=1)]
    for message in everything:
        ring.append(message)
    parts = []
    for writer in writers:
        data = writer.cut(lambda _: [], 10**9)
        assert data is not None
        parts.append(decode_batch(data)[1])
    assert sorted(message.raw for part in parts for message in part) == sorted(message.raw for message in everything)
    for part in parts:
        others = {message.instrument for other in parts if other is not part for message in other}
        assert others.isdisjoint(message.instrument for message in part)
