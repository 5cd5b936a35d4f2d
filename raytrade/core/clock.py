"""Time as an argument: machines are told the time, only shells read a clock."""

from __future__ import annotations

from typing import Protocol

Nanos = int
"""Nanoseconds: since the Unix epoch for `ts_*_ns` and `now_ns`, a plain duration elsewhere."""

MILLISECOND: Nanos = 1_000_000
SECOND: Nanos = 1_000_000_000


class Clock(Protocol):
    """What a shell reads the time from."""

    def now_ns(self) -> Nanos:
        """Give the time now."""
        ...


class ManualClock:
    """A clock that stands still until it is moved; for tests and simulation."""

    def __init__(self, now_ns: Nanos = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> Nanos:
        """Give the time it was last set to."""
        return self._now_ns

    def advance(self, duration_ns: Nanos) -> None:
        """Move forward by `duration_ns`."""
        self._now_ns += duration_ns
