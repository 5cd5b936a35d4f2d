"""`SpillQueue`: what a consumer's links brought and it has not used yet: some in memory, then on disk, in order.

Between a recorder's links and its arbiter: links are read at once, however slow the disk is, so that neither a
writer nor another reader ever waits for it. Bounded in memory and on disk; when both are full `put` takes nothing,
the links are read no further, and what their writers' rings let go is a `Gap` like any other.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.message import Message, join, split

CALM_NS = 10 * SECOND
"""A queue that goes to disk again within this time is still behind for the same reason: that is told once."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A batch of a link, or (`is_up` is not None) word that the link has come up or was lost."""

    writer: str
    ts_ns: Nanos
    messages: list[Message]
    is_up: bool | None = None


class SpillStore(Protocol):
    """Keeps records in order, outside of memory."""

    def append(self, record: bytes) -> bool:
        """Keep a record; False if there is no room for it."""
        ...

    def take(self) -> bytes:
        """Give the oldest record and forget it; only called while there is one."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""


class SpillCounts(msgspec.Struct):
    """What waits now, and what had to wait so far; `refused`: how often there was no room at all."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    disk_records: int = 0
    disk_bytes_max: int = 0
    records_spilled: int = 0
    episodes: int = 0
    refused: int = 0


_Record = tuple[str, int, bytes]
_decoder = msgspec.msgpack.Decoder(_Record)


class SpillQueue:
    """First in, first out; once something is on disk all that follows goes there until it is empty."""

    def __init__(self, store: SpillStore, memory_bytes_max: int, disk_bytes_max: int) -> None:
        self.counts = SpillCounts()
        self._store = store
        self._memory_bytes_max = memory_bytes_max
        self._disk_bytes_max = disk_bytes_max
        self._memory: deque[tuple[int, Arrived]] = deque()
        self._sizes: deque[int] = deque()
        self._spilled_ns: Nanos | None = None
        self._notes: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._memory) or bool(self._sizes)

    def put(self, arrived: Arrived) -> bool:
        """Take what arrived; False if there is no room, and then nothing is taken."""
        counts = self.counts
        size = sum(len(message.raw) for message in arrived.messages) + len(arrived.writer)
        has_room = not self._memory or counts.memory_bytes + size <= self._memory_bytes_max
        if not self._sizes and has_room:
            self._memory.append((size, arrived))
            counts.memory_bytes += size
            return True
        if not self._spill(arrived):
            counts.refused += 1
            return False
        return True

    def _spill(self, arrived: Arrived) -> bool:
        counts = self.counts
        state = 2 if arrived.is_up is None else int(arrived.is_up)
        head = msgspec.msgpack.encode((arrived.writer, arrived.ts_ns * 4 + state, join(arrived.messages)))
        if counts.disk_bytes + len(head) > self._disk_bytes_max or not self._store.append(head):
            return False
        if not self._sizes:
            self._begin(arrived.ts_ns)
        self._sizes.append(len(head))
        counts.disk_records += 1
        counts.records_spilled += 1
        counts.disk_bytes += len(head)
        counts.disk_bytes_max = max(counts.disk_bytes_max, counts.disk_bytes)
        return True

    def _begin(self, now_ns: Nanos) -> None:
        if self._spilled_ns is None or now_ns - self._spilled_ns > CALM_NS:
            self.counts.episodes += 1
            held = self.counts.memory_bytes
            self._notes.append(f"the recording is {held} bytes behind its links: what follows waits on disk")
        self._spilled_ns = now_ns

    def take(self) -> Arrived | None:
        """Give what has waited longest."""
        counts = self.counts
        if self._memory:
            size, arrived = self._memory.popleft()
            counts.memory_bytes -= size
            return arrived
        if not self._sizes:
            return None
        counts.disk_bytes -= self._sizes.popleft()
        counts.disk_records -= 1
        writer, stamp, payload = _decoder.decode(self._store.take())
        ts_ns, state = divmod(stamp, 4)
        self._spilled_ns = max(self._spilled_ns or 0, ts_ns)
        return Arrived(writer, ts_ns, split(payload), None if state == 2 else bool(state))

    def notes(self) -> list[str]:
        """Drain what is to be logged: one line for each time of being behind."""
        drained, self._notes = self._notes, []
        return drained

    def close(self) -> None:
        """Leave nothing behind."""
        self._store.close()


class MemoryStore:
    """Keeps records in memory: for a queue that may not go to disk, and for the simulation."""

    def __init__(self) -> None:
        self._records: deque[bytes] = deque()

    def append(self, record: bytes) -> bool:
        """Keep a record."""
        self._records.append(record)
        return True

    def take(self) -> bytes:
        """Give the oldest record and forget it."""
        return self._records.popleft()

    def close(self) -> None:
        """Forget all."""
        self._records.clear()
