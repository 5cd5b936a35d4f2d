"""`MessageRing`: the last messages of a writer, numbered without holes; every link of the writer is a place in it.

A reader that is slow only lets its own place fall behind; when the ring has gone past it, the reader gets images
and a gap. So one bound (bytes and items) covers all readers of a writer, and none delays another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from raytrade.core.message import Message


class MessageRing:
    """Holds at most `bytes_max` bytes and `items_max` messages; the oldest go first."""

    def __init__(self, bytes_max: int, items_max: int) -> None:
        self.bytes_max = bytes_max
        self.items_max = items_max
        self.bytes_held = 0
        self._messages: deque[Message] = deque()
        self._start = 0

    @property
    def start(self) -> int:
        """Index of the oldest message held."""
        return self._start

    @property
    def end(self) -> int:
        """Index that the next message will get."""
        return self._start + len(self._messages)

    def append(self, message: Message) -> None:
        """Add a message, letting go of the oldest beyond the bounds."""
        messages = self._messages
        messages.append(message)
        self.bytes_held += len(message.raw)
        while self.bytes_held > self.bytes_max or len(messages) > self.items_max:
            self.bytes_held -= len(messages.popleft().raw)
            self._start += 1

    def read(self, index: int) -> Iterator[Message]:
        """Give the messages from `index` on (from the oldest, if that one is gone)."""
        behind = self.end - max(index, self._start)
        if behind < len(self._messages) // 2:
            return reversed(list(islice(reversed(self._messages), behind)))
        return islice(self._messages, len(self._messages) - behind, None)
