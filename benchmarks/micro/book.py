"""Levels into a book, with a look at the top after each message."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.micro.inputs import Feed, deltas_of, snapshot_of
from benchmarks.micro.rounds import Benchmark, Contender, Work
from raytrade.core.book import L2Book
from raytrade.core.events import BookSnapshot, Levels

Sides = tuple[Any, Any]


def benchmark(feed: Feed) -> Benchmark:
    """Give the benchmark of books."""
    snapshot, deltas = snapshot_of(feed), deltas_of(feed)
    rows = [(_pairs(delta.bids), _pairs(delta.asks)) for delta in deltas]

    def ours() -> Work:
        book = L2Book(snapshot.instrument)
        book.apply(snapshot)

        def work() -> None:
            for delta in deltas:
                book.apply(delta)
                book.top()

        return work

    contenders = [Contender("raytrade, L2Book", ours, "top of the book as an object")]
    missing: list[str] = []
    for label, module, make, best in (
        ("sortedcontainers, two SortedDict", "sortedcontainers", _sorted_dicts, _best_sorted),
        ("order_book 0.6 (C, GPL-3.0)", "order_book", _c_book, _best_c),
    ):
        try:
            library = import_module(module)
        except ImportError:
            missing.append(label)
            continue
        contenders.append(Contender(label, _prepare(library, make, best, snapshot, rows), "the same integers as keys"))
    levels = sum(len(bids) + len(asks) for bids, asks in rows)
    return Benchmark("book", "Book", "level", levels, feed.source, contenders, missing)


def _pairs(levels: Levels) -> list[tuple[int, int]]:
    return list(zip(levels[::2], levels[1::2], strict=True))


def _prepare(
    library: Any,
    make: Callable[[Any], Sides],
    best: Callable[[Any, Any], object],
    snapshot: BookSnapshot,
    rows: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]],
) -> Callable[[], Work]:
    def prepare() -> Work:
        bids, asks = make(library)
        _apply(bids, _pairs(snapshot.bids))
        _apply(asks, _pairs(snapshot.asks))

        def work() -> None:
            for new_bids, new_asks in rows:
                _apply(bids, new_bids)
                _apply(asks, new_asks)
                best(bids, asks)

        return work

    return prepare


def _apply(side: Any, rows: list[tuple[int, int]]) -> None:
    for price, size in rows:
        if size:
            side[price] = size
        elif price in side:
            del side[price]


def _sorted_dicts(library: Any) -> Sides:
    return library.SortedDict(), library.SortedDict()


def _best_sorted(bids: Any, asks: Any) -> object:
    return bids.peekitem(-1) if bids else None, asks.peekitem(0) if asks else None


def _c_book(library: Any) -> Sides:
    book = library.OrderBook()
    return book.bids, book.asks


def _best_c(bids: Any, asks: Any) -> object:
    return bids.index(0) if len(bids) else None, asks.index(0) if len(asks) else None
