"""Where Arrow takes its memory from, for processes that do nothing but read recordings."""

from __future__ import annotations

import pyarrow as pa


def keep_memory() -> None:
    """Have Arrow take memory from the C library, which keeps what is freed for the next batch.

    Arrow's own allocators give it back to the system at once, and each batch of a replay pays for its pages anew:
    reading takes a third longer. For the whole process, so only where the process is ours.
    """
    pa.set_memory_pool(pa.system_memory_pool())
