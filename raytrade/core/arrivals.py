"""`ArrivalLog`: every copy that reached an arbiter, and which of them went out; blocks of bytes, not objects.

The owner notes what comes (`note`, one call a batch) and what the arbiter gives out (`give`); `cut` turns both into a
block now and then, so that a copy costs one slice of its header. Blocks rest in a bounded deque until whoever keeps the
log fetches them (`since`); what nobody fetched in time is lost, and the numbers of the blocks say so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from zlib import crc32

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Flag
from raytrade.core.message import Kind, Message

CUT_EVERY_NS = 100 * MILLISECOND
BLOCK_COPIES_MAX = 8192
LOG_BYTES_MAX = 32 * 1024 * 1024

HEAD_START, HEAD_END = 4, 60
"""What is kept of a message's header (`raytrade.core.message.HEADER`): from its kind to its state hash."""

COPY = Struct("<HHIB")
"""Beside each head: numbers of line and instrument in the block's lists, CRC32 of the body, what became of it."""

LOST, WON, WON_LATE = 0, 1, 2
"""What became of a copy; `WON_LATE`: it was held back first, or is not the copy as it came (a splice)."""

_DATA = frozenset((Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE))
_KEPT = _DATA | {Kind.LINE_UP, Kind.LINE_DOWN}
_PASSED_OVER = int(Flag.IMAGE | Flag.HISTORY)
"""What is made by the sender of a link, or sent again by the venue, is no copy."""


class ArrivalBlock(msgspec.Struct, frozen=True, array_like=True):
    """Copies in the order of their arrival. `batches`: how many came at which time of the arbiter's own host."""

    replica: str
    incarnation: int
    number: int
    lines: list[str]
    instruments: list[str]
    batches: list[tuple[int, Nanos]]
    heads: bytes
    copies: bytes


encode_block = msgspec.msgpack.Encoder().encode
decode_block = msgspec.msgpack.Decoder(ArrivalBlock).decode


class ArrivalLog:
    """The log of one arbiter; `incarnation` tells this start of it from all others."""

    def __init__(self, replica: str, incarnation: int, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.replica = replica
        self.incarnation = incarnation
        self._bytes_max = bytes_max
        self._noted: list[tuple[Nanos, list[Message]]] = []
        self._noted_count = 0
        self._given: list[Message] = []
        self._cut_ns: Nanos = 0
        self._blocks: deque[bytes] = deque()
        self._bytes_held = 0
        self._next = 0

    def note(self, messages: list[Message], now_ns: Nanos) -> None:
        """Take what came in one batch."""
        self._noted.append((now_ns, messages))
        self._noted_count += len(messages)

    def give(self, messages: list[Message]) -> None:
        """Take what went out."""
        self._given += messages

    def cut(self, now_ns: Nanos, *, is_due: bool = False) -> None:
        """Make a block of what has piled up, if it is time or `is_due`."""
        is_full = self._noted_count >= BLOCK_COPIES_MAX
        if not (self._noted or self._given) or not (is_full or is_due or now_ns - self._cut_ns >= CUT_EVERY_NS):
            return
        self._cut_ns = now_ns
        block = self._block(now_ns)
        self._noted, self._noted_count, self._given = [], 0, []
        if block is not None:
            data = encode_block(block)
            self._next += 1
            self._blocks.append(data)
            self._bytes_held += len(data)
            while self._bytes_held > self._bytes_max and len(self._blocks) > 1:
                self._bytes_held -= len(self._blocks.popleft())

    def _block(self, now_ns: Nanos) -> ArrivalBlock | None:
        won = {id(message): message for message in self._given if message.kind in _DATA}
        rows = _Rows()
        batches: list[tuple[int, Nanos]] = []
        for arrived_ns, messages in self._noted:
            before = len(rows.heads)
            for message in messages:
                if message.kind in _KEPT and not message.flags & _PASSED_OVER:
                    rows.add(message, LOST if won.pop(id(message), None) is None else WON)
            batches.append((len(rows.heads) - before, arrived_ns))
        late = [message for message in won.values() if not message.flags & _PASSED_OVER]
        for message in late:
            rows.add(message, WON_LATE)
        batches.append((len(late), now_ns))
        if not rows.heads:
            return None
        return ArrivalBlock(
            replica=self.replica,
            incarnation=self.incarnation,
            number=self._next,
            lines=list(rows.lines),
            instruments=list(rows.instruments),
            batches=[batch for batch in batches if batch[0]],
            heads=b"".join(rows.heads),
            copies=b"".join(rows.copies),
        )

    def since(self, incarnation: int, number: int, bytes_max: int = 4 * 1024 * 1024) -> list[bytes]:
        """Give the blocks from `number` on, as many as fit; all that are there to one who knew another incarnation."""
        first = self._next - len(self._blocks)
        start = max(number - first, 0) if incarnation == self.incarnation else 0
        found: list[bytes] = []
        room = bytes_max
        for at in range(start, len(self._blocks)):
            room -= len(self._blocks[at])
            if found and room < 0:
                break
            found.append(self._blocks[at])
        return found


class _Rows:
    """The copies of one block."""

    __slots__ = ("copies", "heads", "instruments", "lines")

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.instruments: dict[str, int] = {}
        self.heads: list[bytes] = []
        self.copies: list[bytes] = []

    def add(self, message: Message, outcome: int, pack: Callable[..., bytes] = COPY.pack) -> None:
        line, instrument = self.lines.get(message.line), self.instruments.get(message.instrument)
        if line is None:
            line = self.lines[message.line] = len(self.lines)
        if instrument is None:
            instrument = self.instruments[message.instrument] = len(self.instruments)
        raw = message.raw
        self.heads.append(raw[HEAD_START:HEAD_END])
        self.copies.append(pack(line, instrument, crc32(raw[message.body_start :]), outcome))
