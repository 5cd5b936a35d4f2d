"""`SpillFiles`: records on disk in files without a name: whoever dies leaves nothing behind, the kernel frees them.

The price: a recorder that is killed finds nothing of them again. It asks the dedups' rings for what its files lack,
and what the rings have let go is a `Gap`.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path

SEGMENT_BYTES = 16 * 1024 * 1024
"""A file is given back when all of it was read; so little more than what waits is held."""


class _Segment:
    __slots__ = ("descriptor", "read", "sizes", "written")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.read = self.written = 0
        self.sizes: deque[int] = deque()


class SpillFiles:
    """Under `directory`, which is made when it is needed."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments: deque[_Segment] = deque()

    def append(self, record: bytes) -> bool:
        """Keep a record; False if the disk does not take it."""
        try:
            segment = self._segment()
            at = segment.written
            view = memoryview(record)
            while view:
                count = os.pwrite(segment.descriptor, view, at)
                view, at = view[count:], at + count
        except OSError:
            return False
        segment.written = at
        segment.sizes.append(len(record))
        return True

    def _segment(self) -> _Segment:
        if not self._segments or self._segments[-1].written >= self._segment_bytes:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._segments.append(_Segment(_nameless(self._directory)))
        return self._segments[-1]

    def take(self) -> bytes:
        """Give the oldest record and forget it."""
        segment = self._segments[0]
        size = segment.sizes.popleft()
        record = os.pread(segment.descriptor, size, segment.read)
        segment.read += size
        if not segment.sizes:
            os.close(self._segments.popleft().descriptor)
        return record

    def close(self) -> None:
        """Give all files back."""
        while self._segments:
            os.close(self._segments.popleft().descriptor)


def _nameless(directory: Path) -> int:
    """Open a file that has no name, or had one only for a moment where the file system cannot do without."""
    with suppress(OSError, AttributeError):
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".spill-")
    os.unlink(name)
    return descriptor
