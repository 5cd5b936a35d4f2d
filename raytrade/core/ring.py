"""`MessageRing`: the last messages of a writer, numbered without holes; every link of the writer is a place in it.

A reader that is slow only lets its own place fall behind; when the ring has gone past it, the reader gets images
and a gap. So one bound (bytes and items) covers all readers of a writer, and none delays another. Message `index`
rests in slot ``index % slots``: any place is found at once, however far behind it is. There are twice as many slots
as before when they do not suffice, so that their number follows what the bytes allow and not the count of all messages.
"""

from __future__ import annotations

from collections.abc import Iterator

from raytrade.core.events import Channel
from raytrade.core.members import BOOK, TRADE
from raytrade.core.message import Message

SLOTS_MIN = 1024


class MessageRing:
    """Holds at most `bytes_max` bytes and `items_max` messages; the oldest go first."""

    def __init__(self, bytes_max: int, items_max: int) -> None:
        self.bytes_max = bytes_max
        self.items_max = items_max
        self.bytes_held = 0
        self.newest: dict[tuple[str, Channel], tuple[int, Message]] = {}
        """Of each stream the last message (of trades: the last trade) and its index, even when the ring let it go."""
        self._slots: list[Message | None] = [None] * min(SLOTS_MIN, items_max)
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
        held = self._end - self._start
        if held >= self.items_max:
            self._drop()
        elif held == len(self._slots):
            self._grow()
        self._slots[self._end % len(self._slots)] = message
        if message.kind <= TRADE or message.channel is BOOK:
            self.newest[message.instrument, message.channel] = (self._end, message)
        self._end += 1
        self.bytes_held += len(message.raw)
        while self.bytes_held > self.bytes_max:
            self._drop()

    def _grow(self) -> None:
        """Move the messages, all slots being taken, into twice as many; a reading under way keeps the old ones."""
        size = len(self._slots)
        more = min(2 * size, self.items_max)
        oldest = self._start % size
        held = self._slots[oldest:] + self._slots[:oldest]
        slots: list[Message | None] = [None] * more
        first = self._start % more
        unwrapped = min(size, more - first)
        slots[first : first + unwrapped] = held[:unwrapped]
        slots[: size - unwrapped] = held[unwrapped:]
        self._slots = slots

    def _drop(self) -> None:
        slot = self._start % len(self._slots)
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
        slots = self._slots
        size = len(slots)
        for index in indices:
            message = slots[index % size]
            if message is not None and index >= self._start:
                yield message
