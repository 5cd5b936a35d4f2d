"""`DigestWriter`: a link over which a reader learns what there is, and gets none of it.

For a reader that has the messages from elsewhere and wants to know what it would lack. A digest is one range of ids per
stream and batch, however many messages it stands for; the ring holds the messages. Streams whose ids count per
connection have no digests: such an id says nothing to a reader of another line.
"""

from __future__ import annotations

from raytrade.core.clock import Nanos
from raytrade.core.events import Channel, Digest, Flag
from raytrade.core.instrument import Filter, Named
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.links.resume import StreamKey
from raytrade.links.writer import SCANNED_MAX, Images, LinkWriter

_NOBODY: Filter = Named(())
_LINES = (Kind.LINE_UP, Kind.LINE_DOWN)


class DigestWriter(LinkWriter):
    """See the module."""

    def open(self, images: Images, now_ns: Nanos) -> None:
        """Begin with the lines that are up and the last id of every stream."""
        newest = [message for _, message in self._ring.newest.values() if self._counts(message)]
        digests = [self._digest(m.stream, m.id_last, m.id_last, now_ns) for m in newest]
        self._opening, self._whole_from = images(_NOBODY) + digests, self._ring.end

    def _collect(self, images: Images, now_ns: Nanos) -> list[Message]:
        ranges: dict[StreamKey, tuple[int, int]] = {}
        messages: list[Message] = []
        index, end = self._cursor, self._cursor + SCANNED_MAX
        for message in self._ring.read(index):
            if index == end:
                break
            index += 1
            if message.kind in _LINES:
                messages.append(message)
            elif self._counts(message):
                first, last = ranges.get(message.stream, (message.id_prev or message.id_last, 0))
                ranges[message.stream] = (first, max(last, message.id_last))
        self._cursor = index
        return messages + [self._digest(stream, *ids, now_ns) for stream, ids in ranges.items()]

    def _overrun(self, images: Images, now_ns: Nanos) -> None:
        """What is not told is told by the next digest: it reaches further."""
        self.counts.overruns += 1
        self._cursor = self._ring.start

    def _counts(self, message: Message) -> bool:
        is_data = message.kind in (Kind.DELTA, Kind.SNAPSHOT, Kind.TRADE)
        is_known = is_data and message.id_last > 0 and not message.epoch and not message.flags & Flag.UNAPPLIED
        return is_known and self._stream(message.stream).wanted

    def _digest(self, stream: tuple[str, Channel], id_prev: int, id_last: int, now_ns: Nanos) -> Message:
        digest = Digest(instrument=stream[0], channel=stream[1], id_prev=id_prev, id_last=id_last, ts_recv_ns=now_ns)
        return parse(encode(digest, self.wish.reader))
