from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from raytrade.core.book import BookState, L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Levels, Side
from raytrade.errors import InvariantError


def snapshot(bids: Levels, asks: Levels, **others: Any) -> BookSnapshot:
    fields: dict[str, Any] = {"id_last": 1, "price_scale": 0, "size_scale": 0} | others
    return BookSnapshot(instrument="v:A", bids=bids, asks=asks, **fields)


def delta(bids: Levels, asks: Levels, **others: Any) -> BookDelta:
    fields: dict[str, Any] = {"id_prev": 1, "id_last": 2, "price_scale": 0, "size_scale": 0} | others
    return BookDelta(instrument="v:A", bids=bids, asks=asks, **fields)


def book_of(bids: Levels, asks: Levels, **others: Any) -> L2Book:
    book = L2Book("v:A")
    book.apply(snapshot(bids, asks, **others))
    book.validate()
    return book


def test_an_empty_book_has_no_top() -> None:
    book = L2Book("v:A")
    assert (book.state, book.top(), len(book), book.is_crossed()) == (BookState.SYNCING, None, 0, False)
    assert book.levels(Side.BUY) == []


def test_a_snapshot_makes_it_live_and_replaces_everything() -> None:
    book = book_of((1, 1), (2, 1))
    book.apply(
        snapshot((10, 1, 12, 2, 9, 0), (15, 3, 14, 4), id_last=5, depth=50, epoch=7, ts_venue_ns=8, ts_recv_ns=9)
    )
    assert book.levels(Side.BUY) == [(12, 2), (10, 1)]
    assert book.levels(Side.SELL) == [(14, 4), (15, 3)]
    assert book.levels(Side.SELL, 1) == [(14, 4)]
    assert (book.id_last, book.depth, book.epoch, book.ts_venue_ns, book.ts_recv_ns) == (5, 50, 7, 8, 9)


def test_the_last_of_two_sizes_at_one_price_counts() -> None:
    book = book_of((10, 1, 10, 2), (11, 1))
    assert book.levels(Side.BUY) == [(10, 2)]
    book.apply(delta((10, 0, 10, 3), (11, 1, 11, 0)))
    assert (book.levels(Side.BUY), book.levels(Side.SELL)) == ([(10, 3)], [])
    book.validate()


def test_a_delta_sets_and_removes() -> None:
    book = book_of((10, 1, 9, 1), (11, 1, 12, 1))
    book.apply(delta((10, 0, 8, 5, 7, 0), (11, 9)))
    assert book.levels(Side.BUY) == [(9, 1), (8, 5)]
    assert book.levels(Side.SELL) == [(11, 9), (12, 1)]
    assert (book.id_last, len(book)) == (2, 4)
    assert (book.size_at(Side.BUY, 8), book.size_at(Side.BUY, 10), book.size_at(Side.SELL, 11)) == (5, 0, 9)
    book.validate()


def test_an_unapplied_delta_changes_nothing() -> None:
    book = book_of((10, 1), (11, 1))
    book.apply(delta((10, 0), (), flags=Flag.UNAPPLIED, id_last=9))
    assert (book.levels(Side.BUY), book.id_last) == ([(10, 1)], 1)


def test_the_top_is_of_a_live_book_with_both_sides() -> None:
    book = book_of((105, 20), (107, 30), price_scale=1, size_scale=2)
    top = book.top()
    assert top is not None
    assert (top.bid, top.ask, top.bid_size, top.ask_size, top.mid, top.spread) == (10.5, 10.7, 0.2, 0.3, 10.6, 0.2)
    book.invalidate()
    assert (book.state, book.top()) == (BookState.STALE, None)
    book.revalidate()
    assert book.top() == top
    book.apply(delta((105, 0), (), price_scale=1, size_scale=2))
    assert book.top() is None


def test_only_what_was_live_becomes_stale_and_back() -> None:
    book = L2Book("v:A")
    book.invalidate()
    book.revalidate()
    assert book.state is BookState.SYNCING


def test_a_finer_event_refines_the_book_and_a_coarser_one_is_refined() -> None:
    book = book_of((10, 1), (11, 1))
    book.apply(delta((105, 25), (), price_scale=1, size_scale=2))
    assert (book.price_scale, book.size_scale) == (1, 2)
    assert book.levels(Side.BUY) == [(105, 25), (100, 100)]
    book.apply(delta((10, 0), (11, 0, 12, 3)))
    assert book.levels(Side.BUY) == [(105, 25)]
    assert book.levels(Side.SELL) == [(120, 300)]
    assert book.texts(Side.SELL) == [("12", "3")]
    assert book.decimals(Side.BUY) == [(Decimal("10.5"), Decimal("0.25"))]
    book.validate()


def test_cut_keeps_the_best_and_tells_what_went() -> None:
    book = book_of((10, 1, 9, 1, 8, 1), (11, 1, 12, 1))
    other = book_of((10, 1, 9, 1, 8, 1), (11, 1, 12, 1))
    bids, asks = book.cut(1)
    assert (book.levels(Side.BUY), book.levels(Side.SELL)) == ([(10, 1)], [(11, 1)])
    assert (set(bids[::2]), bids[1::2], asks) == ({8, 9}, (0, 0), (12, 0))
    other.apply(delta(bids, asks))
    assert other.state_hash(0) == book.state_hash(0)
    assert book.cut(1) == ((), ())
    book.validate()


def test_crossed() -> None:
    assert not book_of((10, 1), (11, 1)).is_crossed()
    assert book_of((11, 1), (11, 1)).is_crossed()
    assert not book_of((11, 1), ()).is_crossed()


def test_a_snapshot_of_the_book_is_the_book() -> None:
    book = book_of((10, 1, 9, 2), (11, 1), id_last=5, price_scale=3, depth=7, epoch=2)
    image = book.snapshot()
    assert (image.flags, image.id_last, image.depth, image.epoch, image.bids) == (Flag.IMAGE, 5, 7, 2, (10, 1, 9, 2))
    copy = L2Book("v:A")
    copy.apply(image)
    assert copy.snapshot() == image
    assert book.snapshot(Flag.NONE).flags == 0


def test_the_hash_sees_levels_within_its_depth_only() -> None:
    book = book_of((10, 1, 9, 1), (11, 1))
    other = book_of((10, 1, 9, 2), (11, 1))
    assert book.state_hash(1) == other.state_hash(1)
    assert book.state_hash() != other.state_hash()
    assert book_of((10, 1), ()).state_hash() != book_of((), (10, 1)).state_hash()


def test_a_difference_cannot_be_written_coarser() -> None:
    fine, coarse = book_of((105, 1), (), price_scale=1), book_of((10, 1), ())
    assert coarse.difference(fine) == ((100, 0, 105, 1), ())
    with pytest.raises(InvariantError, match="coarser"):
        fine.difference(coarse)


def test_validate_sees_damage() -> None:
    book = book_of((10, 1, 9, 1), ())
    book._bids.keys.reverse()
    with pytest.raises(InvariantError, match="disagree"):
        book.validate()
    book = book_of((10, 1), ())
    book._bids.sizes[10] = 0
    with pytest.raises(InvariantError, match="without size"):
        book.validate()
