"""The state of a book read off columns: levels by price, folded row by row in the order of the stream.

The inverse of nothing and cheaper than `L2Book`: prices and sizes stay the 16 bytes that the tables hold, the last size
of a price wins, and only when a hash is asked for are the best levels looked up. The hash is that of
`raytrade.core.book.L2Book.state_hash`, so that a recording can be held against a live book.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from raytrade.core.book import GUARD_LEVELS

_NOTHING = b"\0" * 16
_CROWDED = 4096
"""A side with so many prices is cleared of removed levels when it is hashed."""


class FoldedBook:
    """Both sides of one book; `is_whole` from the first snapshot on."""

    def __init__(self) -> None:
        self.is_whole = False
        self._sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})

    def clear(self) -> None:
        """A snapshot begins."""
        self.is_whole = True
        for side in self._sides:
            side.clear()

    def fold(self, side: np.ndarray, price: np.ndarray, size: np.ndarray) -> None:
        """Take level rows in their order: `side` 1 for bids, 2 for asks; prices and sizes as 16-byte values."""
        for code, levels in enumerate(self._sides, start=1):
            mine = side == code
            if mine.any():
                levels.update(zip(price[mine].tolist(), size[mine].tolist(), strict=True))

    def levels(self, number: int) -> list[tuple[int, int]]:
        """Give price and size of every level of the bids (0) or asks (1), the best first, with 18 digits each."""
        found = [(_integer(price), _integer(size)) for price, size in self._sides[number].items() if size != _NOTHING]
        return sorted(found, reverse=number == 0)

    def state_hash(self) -> int:
        """Give the hash of the best levels."""
        rows = [self._best(number) for number in (0, 1)]
        return crc32(repr(rows).encode())

    def _best(self, number: int) -> list[tuple[int, int]]:
        levels = self._sides[number]
        if not levels:
            return []
        prices = np.frombuffer(b"".join(levels), "<u8").reshape(-1, 2)
        sizes = np.frombuffer(b"".join(levels.values()), "<u8").reshape(-1, 2)
        is_there = (sizes[:, 0] | sizes[:, 1]) != 0
        order = np.lexsort((prices[:, 0], prices[:, 1].view(np.int64)))
        order = order[is_there[order]]
        best = order[::-1][:GUARD_LEVELS] if number == 0 else order[:GUARD_LEVELS]
        if len(levels) > _CROWDED and len(order) < len(levels) // 2:
            kept = {price: size for price, size in levels.items() if size != _NOTHING}
            found = self._values(levels, prices, best)
            levels.clear()
            levels.update(kept)
            return found
        return self._values(levels, prices, best)

    @staticmethod
    def _values(levels: dict[bytes, bytes], prices: np.ndarray, best: np.ndarray) -> list[tuple[int, int]]:
        keys = [prices[at].tobytes() for at in best.tolist()]
        return [(_integer(key), _integer(levels[key])) for key in keys]


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "little", signed=True)
