"""The checksums against the venues' own numbers."""

from __future__ import annotations

from zlib import crc32

from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.prices import Quantizer

ASKS = (
    "45285.2 0.00100000, 45286.4 1.54571953, 45286.6 1.54571109, 45289.6 1.54560911, 45290.2 0.15890660, "
    "45291.8 1.54553491, 45294.7 0.04454749, 45296.1 0.35380000, 45297.5 0.09945542, 45299.5 0.18772827"
)
BIDS = (
    "45283.5 0.10000000, 45283.4 1.54582015, 45282.1 0.10000000, 45281.0 0.10000000, 45280.3 1.54592586, "
    "45279.0 0.07990000, 45277.6 0.03310103, 45277.5 0.30000000, 45277.3 1.54602737, 45276.6 0.15445238"
)
KRAKEN_VECTOR = 3310070434
"""Of the vendor's documentation."""


def pairs(text: str) -> list[tuple[str, str]]:
    """Read ``price size, price size, ...``."""
    rows = [row.split() for row in text.split(",")] if text else []
    return [(price, size) for price, size in rows]


def book_of(bids: str, asks: str) -> L2Book:
    """Build a book from text."""
    quantizer = Quantizer()
    bid_levels, ask_levels = quantizer.levels(pairs(bids), pairs(asks))
    book = L2Book("venue:X")
    scales = {"price_scale": quantizer.prices.scale, "size_scale": quantizer.sizes.scale}
    book.apply(BookSnapshot(instrument="venue:X", id_last=1, bids=bid_levels, asks=ask_levels, **scales))
    return book


def test_kraken_vector() -> None:
    assert CHECKSUMS["kraken"](book_of(BIDS, ASKS)) == KRAKEN_VECTOR


def test_kraken_looks_at_ten_levels_only() -> None:
    deeper = book_of(BIDS + ", 45000.0 1.00000000", ASKS + ", 46000.0 2.00000000")
    assert CHECKSUMS["kraken"](deeper) == KRAKEN_VECTOR


def test_kraken_sees_each_digit() -> None:
    assert CHECKSUMS["kraken"](book_of(BIDS.replace("1.54582015", "1.54582016"), ASKS)) != KRAKEN_VECTOR


def test_okx_of_an_empty_book_is_0() -> None:
    assert CHECKSUMS["okx"](book_of("", "")) == 0


def test_okx_leaves_a_missing_side_out_and_writes_canonical_text() -> None:
    book = book_of("10.50 7.0, 10 2", "11 9")
    assert CHECKSUMS["okx"](book) == crc32(b"10.5:7:11:9:10:2")


def test_a_level_added_and_removed_changes_nothing() -> None:
    book = book_of(BIDS, ASKS)
    for size in (5, 0):
        delta = BookDelta(
            instrument="venue:X",
            id_prev=1,
            id_last=2,
            bids=(452840, size),
            asks=(),
            price_scale=1,
            size_scale=8,
        )
        book.apply(delta)
    assert CHECKSUMS["kraken"](book) == KRAKEN_VECTOR
