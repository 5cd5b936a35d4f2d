"""Messages held back, in the order of their ids and counted in bytes."""

from __future__ import annotations

from bisect import bisect_left, insort

from raytrade.core.message import Message
from raytrade.errors import InvariantError

Entry = tuple[int, int, int, str, Message]
"""id_prev, id_last, order of arrival, line, message."""


class Held:
    """Copies of one range are held once."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.bytes_held = 0
        self._serial = 0

    def __len__(self) -> int:
        return len(self.entries)

    def insert(self, line: str, message: Message) -> bool:
        """Put a message among the others; tells whether it is new."""
        key = (message.id_prev, message.id_last)
        at = bisect_left(self.entries, key)
        if at < len(self.entries) and self.entries[at][:2] == key:
            return False
        self._serial += 1
        insort(self.entries, (*key, self._serial, line, message))
        self.bytes_held += len(message.raw)
        return True

    def reaches(self, start: int, end: int) -> bool:
        """Tell whether what is held leads from `start` to `end` without a hole."""
        for id_prev, id_last, *_ in self.entries:
            if start >= end or id_prev > start:
                break
            start = max(start, id_last)
        return start >= end

    def take(self, at: int) -> Entry:
        """Take one out."""
        entry = self.entries.pop(at)
        self.bytes_held -= len(entry[4].raw)
        return entry

    def validate(self) -> None:
        """Check order and count.

        Raises:
            InvariantError: one of them is wrong.
        """
        if self.entries != sorted(self.entries, key=lambda entry: entry[:3]):
            raise InvariantError("held messages out of order")
        if self.bytes_held != sum(len(entry[4].raw) for entry in self.entries):
            raise InvariantError("held bytes miscounted")
