"""The checksums venues send with their books, computed from an `L2Book`; unsigned 32 bit.

Pure functions of the book, so that a machine checks its own book and an arbiter a merged one with the same
code. A checksum over the top levels does not see a lost deep level: it proves a book wrong, never the whole
book right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest
from zlib import crc32

from raytrade.core.book import L2Book
from raytrade.core.events import Side
from raytrade.core.prices import format_decimal

KRAKEN_LEVELS = 10
OKX_LEVELS = 25


def kraken(book: L2Book) -> int:
    """Checksum of Kraken spot (docs "Book checksum", v1 and v2, read 2026-07-21).

    CRC32 over the best 10 asks, then the best 10 bids: price, then size, as digits without point and
    leading zeros. Numbers are sent in the market's fixed precision, which the book's scales are as long as
    only its book messages have been read into them: an integer in that scale is exactly the digits wanted.
    """
    rows = book.levels(Side.SELL, KRAKEN_LEVELS) + book.levels(Side.BUY, KRAKEN_LEVELS)
    return crc32("".join([f"{price}{size}" for price, size in rows]).encode())


def okx(book: L2Book) -> int:
    """Checksum of OKX and OKCoin (docs "Checksum"; sent as signed 32 bit, always 0 since 2026-06-23).

    CRC32 over ``bid price:bid size:ask price:ask size:...`` of the best 25 levels a side, a missing side
    left out. The venue hashes its own text, which carries no trailing zeros: canonical decimals gave 16,804
    of 16,804 recorded checksums.
    """
    sides = zip_longest(_texts(book, Side.BUY), _texts(book, Side.SELL), fillvalue="")
    return crc32(":".join([text for row in sides for text in row if text]).encode())


def _texts(book: L2Book, side: Side) -> list[str]:
    price_scale, size_scale = book.price_scale, book.size_scale
    return [f"{_text(price, price_scale)}:{_text(size, size_scale)}" for price, size in book.levels(side, OKX_LEVELS)]


_text = lru_cache(maxsize=65_536)(format_decimal)  # the same levels are written again for every message


CHECKSUMS: dict[str, Callable[[L2Book], int]] = {"kraken": kraken, "okx": okx}
"""By the name in `raytrade.venues.protocol.ChannelSpec.checksum`."""
