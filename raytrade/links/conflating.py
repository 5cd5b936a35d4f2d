"""`ConflatingWriter`: a link whose reader wants the latest state and no more than it can take.

As long as the reader keeps up it gets every message. When it is behind (its lane had no room for a while, or the ring
has gone past it) everything that has piled up is left out, and the streams concerned are *dirty*: each gets, when
there is room for it, the newest book or the last trade, flagged `CONFLATED`. What is kept for a slow reader is the
set of dirty streams and nothing else; an instrument has at most one image in a batch, made when the batch is cut.
A book that cannot be used at that time is `Stalled` for the reader until it can be used again.
"""

from __future__ import annotations

from raytrade.core.clock import Nanos
from raytrade.core.events import Channel, Flag, LineDown, Stalled
from raytrade.core.instrument import Filter, Named
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.links.opening import NOWHERE
from raytrade.links.resume import StreamKey
from raytrade.links.writer import Images, LinkWriter, is_venue

IMAGES_AT_ONCE_MAX = 8
"""How many images are made before the room in the batch is looked at again."""
_NOBODY: Filter = Named(())


class ConflatingWriter(LinkWriter):
    """See the module."""

    _blocked_ns: Nanos | None = None
    _is_behind = False

    def cut(self, images: Images, now_ns: Nanos) -> bytes | None:
        """Give the next batch if one is due; notes since when there was no room for it."""
        if self._cursor < self._ring.end and (
            self._unsent is not None or self._in_flight >= self._settings.in_flight_max
        ):
            self._note_blocked(now_ns)
        return super().cut(images, now_ns)

    def _note_blocked(self, now_ns: Nanos) -> None:
        if self._blocked_ns is None:
            self._blocked_ns = now_ns
        settings, pending = self._settings, self._ring.end - self._cursor
        if now_ns - self._blocked_ns >= settings.conflate_ns or pending >= settings.conflate_items:
            self._is_behind = True

    def sent_done(self) -> None:
        """The oldest batch under way has been taken."""
        super().sent_done()
        self._blocked_ns = None

    def _is_whole(self) -> bool:
        return super()._is_whole() and not self._dirty and not self._stalled

    @property
    def _stalled(self) -> list[StreamKey]:
        return [key for key, stream in self._streams.items() if stream.from_index == NOWHERE]

    def _overrun(self, images: Images, now_ns: Nanos) -> None:
        """The ring has gone past this reader; what was to open the link is old by now, too."""
        self.counts.overruns += 1
        self._is_behind = True
        self._dirty.update(dict.fromkeys(message.stream for message in (*self._opening, *self._fresh)))
        self._opening, self._opened, self._fresh = [], 0, []

    def _collect(self, images: Images, now_ns: Nanos) -> list[Message]:
        if self._is_behind:
            self._pass_over()
        self._revive()
        return self._latest(images, now_ns) if self._dirty else super()._collect(images, now_ns)

    def _pass_over(self) -> None:
        start, self._cursor, self._is_behind = self._cursor, self._ring.end, False
        for key, (index, _) in self._ring.newest.items():
            stream = self._stream(key)
            if stream.wanted and index >= max(start, stream.from_index):
                self._dirty[key] = None
        self.counts.conflated += self._cursor - start
        self.slow = f"{self.wish.reader} fell behind by {self._cursor - start} messages: it gets the latest state"

    def _revive(self) -> None:
        """A stalled book that has moved again is worth another look."""
        for key in self._stalled:
            index, newest = self._ring.newest[key]
            is_usable = newest.kind in (Kind.SNAPSHOT, Kind.RESYNCED, Kind.DELTA) and not newest.flags & Flag.UNAPPLIED
            if is_usable and index >= self._stream(key).looked_at:
                self._dirty[key] = None

    def _latest(self, images: Images, now_ns: Nanos) -> list[Message]:
        """Give the newest state of as many dirty streams as have room."""
        messages: list[Message] = []
        room = self._settings.batch_bytes_max
        while self._dirty and room > 0:
            taken = list(self._dirty)[:IMAGES_AT_ONCE_MAX]
            names = [instrument for instrument, channel in taken if channel is Channel.BOOK]
            made = {image.stream: image for image in images(Named(names)) if image.kind is Kind.SNAPSHOT}
            for key in taken:
                del self._dirty[key]
                messages += self._state_of(key, made, images, now_ns)
            room = self._settings.batch_bytes_max - sum(len(message.raw) for message in messages)
        self._whole_from = self._ring.end
        return messages

    def _state_of(self, key: StreamKey, made: dict[StreamKey, Message], images: Images, now_ns: Nanos) -> list[Message]:
        if is_venue(key):
            return self._lines(key, images, now_ns)
        stream = self._stream(key)
        stream.from_index = self._ring.end
        if key[1] is Channel.TRADES:
            return self._flagged(stream.lines, self._ring.newest[key][1])
        image = made.get(key)
        if image is not None:
            return self._flagged(stream.lines, image)
        stream.from_index, stream.looked_at = NOWHERE, self._ring.end
        stalled = Stalled(instrument=key[0], channel=key[1], cause="the newest book cannot be used", ts_recv_ns=now_ns)
        return [parse(encode(stalled, self.wish.reader))]

    @staticmethod
    def _flagged(lines: dict[str, int], message: Message) -> list[Message]:
        lines[message.line] = message.id_last
        return [message.flagged(Flag.CONFLATED)]

    def _lines(self, key: StreamKey, images: Images, now_ns: Nanos) -> list[Message]:
        """Give word of the venue's lines as they are now."""
        up = [message for message in images(_NOBODY) if message.stream == key]
        lines = self._stream(key).lines
        lost = [line for line in lines if line not in {message.line for message in up}]
        lines.update(dict.fromkeys((message.line for message in up), 0))
        down = LineDown(venue=key[0], cause=f"{self.wish.reader} fell behind", ts_recv_ns=now_ns)
        return [*up, *(parse(encode(down, line)) for line in lost)]
