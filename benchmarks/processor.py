"""How much of a core a process takes, from /proc."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """The processor time of one process."""

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._before = time.monotonic(), self._seconds()

    def _seconds(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def since(self) -> float:
        """Give the share of a core that was used since the last time this was asked."""
        (began, used), self._before = self._before, (time.monotonic(), self._seconds())
        return (self._before[1] - used) / (self._before[0] - began)

    def over(self, seconds: float) -> tuple[float, float]:
        """Wait, and give (seconds that went by, share of a core that was used)."""
        began, used = time.monotonic(), self._seconds()
        threading.Event().wait(seconds)
        elapsed = time.monotonic() - began
        return elapsed, (self._seconds() - used) / elapsed
