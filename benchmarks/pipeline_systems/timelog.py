"""Times shared between processes: memory-mapped files that one process writes and another reads while it is written."""

from __future__ import annotations

import mmap
from array import array
from pathlib import Path


class SentLog:
    """When each update was handed to the sockets; item `n` is the time of update `n`, 0 before."""

    def __init__(self, path: Path, capacity: int) -> None:
        self._view = _map(path, capacity)

    def stamp(self, first: int, count: int, now_ns: int) -> None:
        view = self._view
        for number in range(first, first + count):
            view[number] = now_ns

    def times(self, first: int, count: int) -> list[int]:
        return self._view[first : first + count].tolist()


class AppliedLog:
    """What a strategy has applied and when: the count first, then (id, time) pairs."""

    def __init__(self, path: Path, capacity: int) -> None:
        self._view = _map(path, 2 * capacity + 2)
        self._count = self._view[0]
        self._capacity = capacity

    def append(self, number: int, now_ns: int) -> None:
        count = self._count
        if count == self._capacity:
            return
        view = self._view
        view[2 * count + 2] = number
        view[2 * count + 3] = now_ns
        self._count = view[0] = count + 1

    def last_id(self) -> int:
        """Give the id written last; 0 before the first."""
        count = self._view[0]
        return self._view[2 * count] if count else 0

    def pairs(self) -> list[tuple[int, int]]:
        count = self._view[0]
        flat = array("q", self._view[2 : 2 * count + 2].tobytes())
        return list(zip(flat[::2], flat[1::2], strict=True))


def _map(path: Path, items: int) -> memoryview[int]:
    size = items * 8
    with path.open("a+b") as file:
        if file.seek(0, 2) < size:
            file.truncate(size)
        return memoryview(mmap.mmap(file.fileno(), size)).cast("q")
