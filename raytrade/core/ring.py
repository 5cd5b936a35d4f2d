"""`MessageRing`: the last messages of a writer, numbered without holes; every link of the writer is a place in it.

A reader that is slow only lets its own place fall behind; when the ring has gone past it, the reader gets images
and a gap. So one bound (bytes and items) covers all readers of a writer, and none delays another. Message `index`
rests in slot ``index % items_max``: any place is found at once, however far behind it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from raytrade.core.events import Channel
from raytrade.core.message import Kind, Message


class MessageRing:
    """Holds at most `bytes_max` bytes and `items_max` messages; the oldest go first."""

    def __init__(self, bytes_max: int, items_max: int) -> None:
        self.bytes_max = bytes_max
        self.items_max = items_max
        self.bytes_held = 0
        self.newest: dict[tuple[str, Channel], tuple[int, Message]] = {}
        """Of each stream the last message (of trades: the last trade) and its index, even when the ring let it go."""
        self._slots: list[Message | None] = []
        self._start = 0
        self._end = 0

    @property
    def start(self) -> int:
        """Index of the oldest message held."""
        return self._start

    @property
    def end(self) -> int:
        """Index that the next message will get."""
        return self._end

    def append(self, message: Message) -> None:
        """Add a message, letting go of the oldest beyond the bounds."""
        slots = self._slots
        if self._end - self._start == self.items_max:
            self._drop()
        if self._end < self.items_max:
            slots.append(message)
        else:
            slots[self._end % self.items_max] = message
        if message.kind <= Kind.TRADE or message.channel is Channel.BOOK:
            self.newest[message.instrument, message.channel] = (self._end, message)
        self._end += 1
        self.bytes_held += len(message.raw)
        while self.bytes_held > self.bytes_max:
            self._drop()

    def _drop(self) -> None:
        slot = self._start % self.items_max
        oldest = self._slots[slot]
        if oldest is not None:
            self.bytes_held -= len(oldest.raw)
        self._slots[slot] = None
        self._start += 1

    def read(self, index: int) -> Iterator[Message]:
        """Give the messages from `index` on (from the oldest, if that one is gone) up to the newest of now."""
        return self._walk(range(max(index, self._start), self._end))

    def read_back(self) -> Iterator[Message]:
        """Give all messages, the newest first."""
        return self._walk(range(self._end - 1, self._start - 1, -1))

    def _walk(self, indices: range) -> Iterator[Message]:
        """What the ring lets go while it is being read is left out."""
        slots, items_max = self._slots, self.items_max
        for index in indices:
            message = slots[index % items_max]
            if message is not None and index >= self._start:
                yield message
