"""What the reader of a hop keeps account of, in a module that Ray's workers can import."""

from __future__ import annotations

import struct
import time

STAMP = struct.Struct("<q")
"""A message begins with the time at which it was sent."""
WARM = 50
"""Messages that come before those that are counted: connections, first pages, imports."""


class Tally:
    """The reader's account: delays and CPU from the first message that counts."""

    def __init__(self) -> None:
        self.delays: list[int] = []
        self.seen = 0
        self._cpu_s = 0.0

    def take(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self.seen += 1
        if self.seen > WARM:
            self.delays.append(now_ns - STAMP.unpack_from(data)[0])
        elif self.seen == WARM:
            self._cpu_s = time.process_time()

    def result(self) -> tuple[list[int], float]:
        return self.delays, time.process_time() - self._cpu_s


class RayReader:
    """The reader as a synchronous actor."""

    def __init__(self) -> None:
        self._tally = Tally()

    def receive(self, data: bytes) -> None:
        self._tally.take(data)

    def result(self) -> tuple[list[int], float]:
        return self._tally.result()
