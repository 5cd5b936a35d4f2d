"""`LinkWriter`: one reader's place in the writer's ring, and when the next batch may go.

Self-clocking: whatever has piled up goes as soon as the spacing since the last batch has passed and fewer than
`in_flight_max` batches are under way, so an idle link adds no delay and a busy one makes bigger batches.
Pure: the owner sends what `cut` returns and reports `sent_done`.

An image stands for everything before it, so what the ring still holds of its stream is passed over. Until the
cursor is beyond that, a batch says `NOWHERE` instead of an index to go on from: a reader that loses the link there
opens it anew from images. (Images that a reader asked for beside a running stream change nothing of that.)
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Gap, GapKind, LineDown
from raytrade.core.instrument import Filter, Named
from raytrade.core.message import Kind, Message, encode, join, parse
from raytrade.core.metrics import Histogram
from raytrade.core.ring import MessageRing
from raytrade.errors import SlowConsumer
from raytrade.links.batch import SAMPLED_EVERY, BatchHeader, encode_batch
from raytrade.links.opening import NOWHERE, OpenLink
from raytrade.links.policy import Policy
from raytrade.links.resume import StreamKey, positions_of, resume

Images = Callable[[Filter], list[Message]]
"""Gives the state of every wanted stream, to open a link with."""

SCANNED_MAX = 16_384
"""How many messages of the ring are looked at for one batch, wanted or not."""


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a link. Times in nanoseconds.

    `spacing_ns`: least time between two batches of a call lane under load; a call costs about 1.3 ms, so 4 ms is a
    quarter of a core. A local lane, whose batch costs about 0.06 ms, needs none.
    A batch ends with the message that fills `batch_bytes_max`, or `opening_bytes_max` where it carries images.
    """

    spacing_ns: Nanos = 4 * MILLISECOND
    hurry_items: int = 256
    """A link that is this many messages behind sends without spacing: its batches are full anyway."""
    full_retry_ns: Nanos = MILLISECOND
    in_flight_max: int = 4
    batch_bytes_max: int = 90_000
    opening_bytes_max: int = 4 * 1024 * 1024
    heartbeat_ns: Nanos = 200 * MILLISECOND
    ring_bytes_max: int = 256 * 1024 * 1024
    ring_items_max: int = 1_000_000
    replay_ns: Nanos = 10_000 * MILLISECOND
    conflate_items: int = 256
    conflate_ns: Nanos = 100 * MILLISECOND
    """A reader that wants the latest only is behind when a batch waits that long, or before that many messages."""


class LinkCounts(msgspec.Struct):
    """What one link carried."""

    batches: int = 0
    messages: int = 0
    bytes_sent: int = 0
    overruns: int = 0
    conflated: int = 0
    """Messages left out for later ones, on a link whose reader wants the latest only."""
    behind: int = 0
    """Messages that wait in the ring for this reader now."""
    behind_max: int = 0
    age: Histogram = msgspec.field(default_factory=Histogram)
    """Sampled: from the socket until a batch was cut, of its newest update; two hosts' clocks in one figure."""


class _Stream:
    """What is known of one stream: whether it is wanted, from which index on, the last id sent of each line."""

    __slots__ = ("from_index", "lines", "looked_at", "wanted")

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.from_index = 0
        self.looked_at = 0
        self.lines: dict[str, int] = {}


class LinkWriter:
    """Sends one reader its streams out of the ring."""

    def __init__(
        self, wish: OpenLink, ring: MessageRing, writer: int, settings: LinkSettings, spacing_ns: Nanos
    ) -> None:
        self.wish = wish
        self.counts = LinkCounts()
        self._ring = ring
        self._writer = writer
        self._settings = settings
        self._filter = Filter(*wish.filters)
        self._streams: dict[StreamKey, _Stream] = {}
        self._opening: list[Message] = []
        self._opened = 0
        self._is_extra = False
        self._fresh: list[Message] = []
        self._fresh_index = 0
        self._whole_from = 0
        self._cursor = ring.end
        self._index = 0
        self._in_flight = 0
        self._sent_ns: Nanos = 0
        self._spacing_ns = spacing_ns
        self._unsent: bytes | None = None
        self._dirty: dict[StreamKey, None] = {}
        self.is_ended = False
        """Whether the batch that closes the link was cut: nothing follows."""
        self.slow = ""
        """What this reader was last too slow for; whoever reports it takes it away."""

    # Where to begin.

    def open(self, images: Images, now_ns: Nanos) -> None:
        """Choose where to begin: where the reader was, else with the ring from its ids on, else with images."""
        wish, ring = self.wish, self._ring
        if wish.writer == self._writer and ring.start <= wish.next_index <= ring.end:
            self._cursor = wish.next_index
            if wish.fresh:
                self._fresh = self._wanted_images(images(Named(wish.fresh)))
                self._fresh_index = ring.end
            return
        has_lost_place = wish.writer == self._writer and wish.next_index < ring.start
        if has_lost_place and wish.policy is Policy.FAIL:
            self._cursor = wish.next_index
            return
        opening = self._wanted_images(images(self._filter))
        gaps: list[Message] = []
        if has_lost_place and not wish.positions:
            gaps = self._gaps_of_a_lost_place(opening, now_ns)
        if wish.replay:
            self._cursor = self._index_since(now_ns - self._settings.replay_ns)
        elif wish.positions:
            self._cursor = ring.start
            opening = self._go_on(opening, now_ns)
        for message in opening:
            if message.kind is not Kind.GAP:
                self._stream(message.stream).from_index = ring.end
        self._opening, self._whole_from = gaps + opening, ring.end

    def _wanted_images(self, images: list[Message]) -> list[Message]:
        return [image for image in images if self._stream(image.stream).wanted]

    def _gaps_of_a_lost_place(self, opening: list[Message], now_ns: Nanos) -> list[Message]:
        """The reader was here before, and the ring has gone past its place: what it has missed is not known in full."""
        for stream, line in dict.fromkeys((each.stream, each.line) for each in self._ring.read(self._ring.start)):
            self._stream(stream).lines[line] = 0
        behind = self._ring.start - self.wish.next_index
        self.slow = f"{self.wish.reader} fell behind by {behind} messages"
        return self._gaps(opening, behind, now_ns)

    def _index_since(self, ts_ns: Nanos) -> int:
        index = self._ring.end
        for message in self._ring.read_back():
            if message.ts_recv_ns < ts_ns:
                break
            index -= 1
        return index

    def _go_on(self, images: list[Message], now_ns: Nanos) -> list[Message]:
        """Pass over what the reader has; give what must come first: gaps where the ring lacks something, and images."""
        positions = positions_of(self.wish.positions)
        wanted = {stream: at for stream, at in positions.items() if self._stream(stream).wanted}
        state = {image.stream: image for image in images if not is_venue(image.stream)}
        plan = resume(self._ring, wanted, {stream: image.id_last for stream, image in state.items()})
        for stream, index in plan.from_index.items():
            self._stream(stream).from_index = index
        cause = f"{self.wish.reader} was away for longer than messages are kept"
        gaps = [
            self._gap(stream, state[stream].line if stream in state else self.wish.reader, ids, cause, now_ns)
            for stream, ids in plan.missed.items()
        ]
        return gaps + [image for image in images if image.stream not in plan.from_index]

    # What is sent.

    def _stream(self, key: StreamKey) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            number, shards = self.wish.shard
            mine = shards == 1 or shard_of(key[0], shards) == number
            stream = self._streams[key] = _Stream(is_venue(key) or (mine and self._filter.accepts(*key)))
        return stream

    def statistics(self) -> LinkCounts:
        """Give the counts as they are now."""
        self.counts.behind = self._ring.end - self._cursor
        return self.counts

    def due_ns(self) -> Nanos | None:
        """When the next batch (or heartbeat) may go; None while too many are under way."""
        settings = self._settings
        if self._in_flight >= settings.in_flight_max or (self.is_ended and self._unsent is None):
            return None
        if self._unsent is not None:
            return self._sent_ns + settings.full_retry_ns
        behind = self._ring.end - self._cursor
        if behind >= settings.hurry_items:
            return self._sent_ns
        pending = self._opening or self._fresh or behind or self._dirty
        return self._sent_ns + (self._spacing_ns if pending else settings.heartbeat_ns)

    def cut(self, images: Images, now_ns: Nanos) -> bytes | None:
        """Give the next batch if one is due."""
        due_ns = self.due_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        if self._unsent is not None:
            data, self._unsent = self._unsent, None
            self._sent_ns = now_ns
            self._in_flight += 1
            return data
        if self._cursor < self._ring.start:
            if self.wish.policy is Policy.FAIL:
                return self._end(now_ns)
            self._overrun(images, now_ns)
        messages = self._collect_opening() if self._opening else self._collect(images, now_ns)
        self._sent_ns = now_ns
        self._in_flight += 1
        next_index = self._cursor if self._is_whole() else NOWHERE
        header = BatchHeader(self.wish.link, self._index, next_index, now_ns, len(messages))
        is_sampled = self._index % SAMPLED_EVERY == 0
        self._index += 1
        data = encode_batch(header, join(messages))
        if is_sampled and messages and messages[-1].kind is Kind.DELTA:
            self.counts.age.record(now_ns - messages[-1].ts_recv_ns)
        self.counts.batches += 1
        self.counts.messages += len(messages)
        self.counts.bytes_sent += len(data)
        return data

    def _is_whole(self) -> bool:
        """Tell whether the reader may go on from the cursor, should the link be lost."""
        return (self._is_extra or not self._opening) and self._cursor >= self._whole_from

    def _end(self, now_ns: Nanos) -> bytes:
        """Close the link for good: its reader does not want to go on with a gap."""
        self.counts.overruns += 1
        self.is_ended = True
        self._in_flight += 1
        problem = SlowConsumer(self.wish.reader, self._ring.end - self._cursor, self._ring.bytes_held)
        self.slow = f"{problem}; its link is closed (policy {self.wish.policy.value})"
        header = BatchHeader(self.wish.link, self._index, NOWHERE, now_ns, 0, self.slow)
        return encode_batch(header, b"")

    def put_back(self, data: bytes, now_ns: Nanos) -> None:
        """The lane had no room for the batch: it is offered again a little later."""
        self._unsent = data
        self._in_flight -= 1

    def sent_done(self) -> None:
        """The oldest batch under way has been taken."""
        self._in_flight -= 1

    def is_drained(self) -> bool:
        """Tell whether the reader has taken everything."""
        is_sent = not self._opening and not self._fresh and self._unsent is None and self._in_flight == 0
        if self.is_ended:
            return is_sent
        return is_sent and not self._dirty and self._cursor >= self._ring.end

    def _collect_opening(self) -> list[Message]:
        room, at = self._settings.opening_bytes_max, self._opened
        opening = self._opening
        while at < len(opening) and room > 0:
            if opening[at].kind is not Kind.GAP:
                self._stream(opening[at].stream).lines[opening[at].line] = opening[at].id_last
            room -= len(opening[at].raw)
            at += 1
        messages = opening[self._opened : at]
        self._opened = at
        if at == len(opening):
            self._opening, self._opened = [], 0
        return messages

    def _collect(self, images: Images, now_ns: Nanos) -> list[Message]:
        ring, streams = self._ring, self._streams
        index = self._cursor
        self.counts.behind_max = max(self.counts.behind_max, ring.end - index)
        messages: list[Message] = []
        room, end = self._settings.batch_bytes_max, index + SCANNED_MAX
        if self._fresh:
            end = min(end, self._fresh_index)
        instrument, channel, stream = "", None, None
        for message in ring.read(index):
            if room <= 0 or index == end:
                break
            if stream is None or message.instrument is not instrument or message.channel is not channel:
                instrument, channel = message.instrument, message.channel
                key = (instrument, channel)
                stream = streams.get(key) or self._stream(key)
            if stream.wanted and index >= stream.from_index:
                if message.id_last or message.line not in stream.lines:
                    stream.lines[message.line] = message.id_last
                messages.append(message)
                room -= len(message.raw)
            index += 1
        self._cursor = index
        if self._fresh and index >= self._fresh_index:
            self._opening, self._fresh, self._is_extra = self._fresh, [], True
        return messages

    def _overrun(self, images: Images, now_ns: Nanos) -> None:
        """The ring has gone past this reader: gaps, then images, then on from now."""
        self.counts.overruns += 1
        self.slow = f"{self.wish.reader} fell behind by {self._ring.end - self._cursor} messages"
        opening = self._wanted_images(images(self._filter))
        gaps = self._gaps(opening, self._ring.end - self._cursor, now_ns)
        self._cursor = self._ring.end
        self._opening, self._opened, self._is_extra = gaps + opening, 0, False
        self._fresh = []

    def _gaps(self, images: list[Message], behind: int, now_ns: Nanos) -> list[Message]:
        """Give a gap per stream and line, from the last id sent to the image; a line that has no image is down."""
        cause = f"{self.wish.reader} fell behind by {behind} messages"
        state = {(*image.stream, image.line): image.id_last for image in images}
        sent = {
            (*key, line): id_last
            for key, stream in self._streams.items()
            if stream.wanted
            for line, id_last in stream.lines.items()
        }
        gaps: list[Message] = []
        for instrument, channel, line in {**sent, **state}:
            place = (instrument, channel, line)
            if not is_venue(place[:2]):
                newest = self._newest_id(place[:2])
                ids = (sent.get(place, 0), state.get(place, 0) or newest)
                is_sent = newest > 0 and place not in state and self._sent_id(place[:2]) >= newest
                if (ids[0] != ids[1] or not ids[0]) and not is_sent:
                    gaps.append(self._gap(place[:2], line, ids, cause, now_ns))
            elif place not in state:
                gaps.append(parse(encode(LineDown(venue=instrument, cause=cause, ts_recv_ns=now_ns), line)))
        return gaps

    def _sent_id(self, key: StreamKey) -> int:
        return max(self._stream(key).lines.values(), default=0)

    def _newest_id(self, key: StreamKey) -> int:
        """Give the last id of a stream whose ids are the venue's own, 0 if its ids are a connection's."""
        newest = self._ring.newest.get(key)
        return 0 if newest is None or newest[1].epoch else newest[1].id_last

    def _gap(self, key: StreamKey, line: str, ids: tuple[int, int], cause: str, now_ns: Nanos) -> Message:
        instrument, channel = key
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=GapKind.SLOW_CONSUMER,
            id_prev=ids[0],
            id_last=ids[1],
            cause=cause,
            ts_recv_ns=now_ns,
        )
        return parse(encode(gap, line))


def is_venue(key: StreamKey) -> bool:
    """Tell whether the stream is the notes on a venue's lines, which go to every reader."""
    return ":" not in key[0]


def shard_of(instrument: str, shards: int) -> int:
    """Give the shard of an instrument: the same on every host and in every process."""
    return crc32(instrument.encode()) % shards
