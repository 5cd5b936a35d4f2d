"""The one place where the program reads a clock."""

from __future__ import annotations

import time

from raytrade.core.clock import Nanos


class SystemClock:
    """Wall-clock time of this host."""

    def now_ns(self) -> Nanos:
        """Give nanoseconds since the Unix epoch."""
        return time.time_ns()
