"""`LinkWriter`: one reader's place in the writer's ring, and when the next batch may go.

Self-clocking: whatever has piled up goes as soon as the spacing since the last batch has passed and fewer than
`in_flight_max` batches are under way, so an idle link adds no delay and a busy one makes bigger batches.
Pure: the owner sends what `cut` returns and reports `sent_done`.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Channel, Gap, GapKind
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, encode, join, parse
from raytrade.core.ring import MessageRing
from raytrade.links.batch import BatchHeader, encode_batch

Images = Callable[[Filter], list[Message]]
"""Gives the state of every wanted stream, to open a link with."""


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a link. Times in nanoseconds; a call costs about 1.3 ms, so 4 ms apart is a quarter of a core."""

    spacing_ns: Nanos = 4 * MILLISECOND
    in_flight_max: int = 4
    batch_bytes_max: int = 90_000
    heartbeat_ns: Nanos = 200 * MILLISECOND
    ring_bytes_max: int = 256 * 1024 * 1024
    ring_items_max: int = 1_000_000
    replay_ns: Nanos = 10_000 * MILLISECOND


class OpenLink(msgspec.Struct, frozen=True, kw_only=True):
    """A reader's wish: which streams, and from where on.

    `link` is new for every opening. `writer` and `next_index` are what the reader last had of this very writer;
    `positions` the last ids it has durably per ``instrument/channel`` stream, for a writer it has not met.
    `replay` asks a writer without books for its last seconds.
    """

    link: int
    reader: str
    filters: tuple[str, ...] = ("*",)
    shard: tuple[int, int] = (0, 1)
    writer: int = 0
    next_index: int = 0
    positions: dict[str, int] = {}
    replay: bool = False


class LinkCounts(msgspec.Struct):
    """What one link carried."""

    batches: int = 0
    messages: int = 0
    bytes_sent: int = 0
    overruns: int = 0
    behind_max: int = 0


class LinkWriter:
    """Sends one reader its streams out of the ring."""

    def __init__(self, wish: OpenLink, ring: MessageRing, writer: int, settings: LinkSettings) -> None:
        self.wish = wish
        self.counts = LinkCounts()
        self._ring = ring
        self._writer = writer
        self._settings = settings
        self._filter = Filter(*wish.filters)
        self._wanted: dict[tuple[str, Channel], bool] = {}
        self._skip_until: dict[tuple[str, Channel], int] = {}
        self._opening: list[Message] = []
        self._cursor = ring.end
        self._index = 0
        self._in_flight = 0
        self._sent_ns: Nanos = 0

    def open(self, images: Images, now_ns: Nanos) -> None:
        """Choose where to begin: where the reader was, else with the ring from its ids on, else with images."""
        wish, ring = self.wish, self._ring
        if wish.writer == self._writer and ring.start <= wish.next_index <= ring.end:
            self._cursor = wish.next_index
            return
        opening = images(self._filter)
        if wish.replay:
            self._cursor = self._index_since(now_ns - self._settings.replay_ns)
        elif wish.positions:
            self._cursor = ring.start
            opening = [message for message in opening if not self._is_covered(message)]
        for message in opening:
            self._skip_until[message.stream] = ring.end
        self._opening = [message for message in opening if self._wants(message)]

    def _index_since(self, ts_ns: Nanos) -> int:
        index = self._ring.end
        for message in reversed(list(self._ring.read(self._ring.start))):
            if message.ts_recv_ns < ts_ns:
                break
            index -= 1
        return index

    def _is_covered(self, image: Message) -> bool:
        """Tell whether the ring alone leads from the reader's id to the image's state."""
        position = self.wish.positions.get(f"{image.instrument}/{image.channel.name.lower()}")
        if position is None:
            return False
        if position == image.id_last:
            return True
        for message in self._ring.read(self._ring.start):
            if message.stream == image.stream and message.kind is Kind.DELTA:
                return message.id_prev <= position
        return False

    def _wants(self, message: Message) -> bool:
        stream = (message.instrument, message.channel)
        wanted = self._wanted.get(stream)
        if wanted is None:
            number, shards = self.wish.shard
            mine = shards == 1 or shard_of(message.instrument, shards) == number
            is_note = message.kind is Kind.LINE_UP or message.kind is Kind.LINE_DOWN
            wanted = is_note or (mine and self._filter.accepts(*stream))
            if not is_note:
                self._wanted[stream] = wanted
        return wanted

    def due_ns(self) -> Nanos | None:
        """When the next batch (or heartbeat) may go; None while too many are under way."""
        settings = self._settings
        if self._in_flight >= settings.in_flight_max:
            return None
        pending = self._opening or self._cursor < self._ring.end
        return self._sent_ns + (settings.spacing_ns if pending else settings.heartbeat_ns)

    def cut(self, images: Images, now_ns: Nanos) -> bytes | None:
        """Give the next batch if one is due."""
        due_ns = self.due_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        if self._cursor < self._ring.start:
            self._overrun(images, now_ns)
        messages = self._collect()
        self._sent_ns = now_ns
        self._in_flight += 1
        header = BatchHeader(self.wish.link, self._index, self._cursor, now_ns, len(messages))
        self._index += 1
        data = encode_batch(header, join(messages))
        self.counts.batches += 1
        self.counts.messages += len(messages)
        self.counts.bytes_sent += len(data)
        return data

    def sent_done(self) -> None:
        """The oldest batch under way has been taken."""
        self._in_flight -= 1

    def is_drained(self) -> bool:
        """Tell whether the reader has taken everything."""
        return not self._opening and self._cursor >= self._ring.end and self._in_flight == 0

    def _collect(self) -> list[Message]:
        settings, ring = self._settings, self._ring
        messages, self._opening = self._opening, []
        room = settings.batch_bytes_max
        self.counts.behind_max = max(self.counts.behind_max, ring.end - self._cursor)
        skip_until = self._skip_until
        for message in ring.read(self._cursor):
            if room <= 0:
                break
            index = self._cursor
            self._cursor += 1
            if self._wants(message) and index >= skip_until.get(message.stream, 0):
                messages.append(message)
                room -= len(message.raw)
        return messages

    def _overrun(self, images: Images, now_ns: Nanos) -> None:
        """The ring has gone past this reader: a gap per stream, then images, then on from now."""
        self.counts.overruns += 1
        state = {image.stream: image for image in images(self._filter)}
        opening: list[Message] = []
        for stream in [*(s for s, wanted in self._wanted.items() if wanted and s not in state), *state]:
            image = state.get(stream)
            if image is None:
                opening.append(self._overrun_gap(stream, 0, now_ns))
            elif self._wants(image):
                opening += [self._overrun_gap(stream, image.id_last, now_ns), image]
        self._cursor = self._ring.end
        self._opening = opening

    def _overrun_gap(self, stream: tuple[str, Channel], id_last: int, now_ns: Nanos) -> Message:
        instrument, channel = stream
        behind = self._ring.end - self._cursor
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=GapKind.SLOW_CONSUMER,
            id_prev=0,
            id_last=id_last,
            cause=f"{self.wish.reader} fell behind by {behind} messages",
            ts_recv_ns=now_ns,
        )
        return parse(encode(gap, self.wish.reader))


def shard_of(instrument: str, shards: int) -> int:
    """Give the shard of an instrument: the same on every host and in every process."""
    return crc32(instrument.encode()) % shards
