"""`L2Book` against the plainest model of a book: two dictionaries of exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.book import L2Book
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Levels, Side

Half = dict[Fraction, Fraction]
SIDES = (Side.BUY, Side.SELL)
LEVELS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=12)


class Step(NamedTuple):
    """One event, in its own scales; or a cut."""

    kind: str
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]]
    scales: tuple[int, int]
    depth: int


STEPS = st.builds(
    Step,
    st.sampled_from(["delta"] * 6 + ["snapshot", "cut", "unapplied"]),
    st.tuples(LEVELS, LEVELS),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 6),
)


def flat(levels: list[tuple[int, int]]) -> Levels:
    return tuple(value for row in levels for value in row)


class Model:
    """Two dictionaries."""

    def __init__(self) -> None:
        self.halves: tuple[Half, Half] = ({}, {})

    def apply(self, step: Step) -> None:
        for half, rows, best_first in zip(self.halves, step.sides, (True, False), strict=True):
            if step.kind == "snapshot":
                half.clear()
            if step.kind == "cut":
                for price in sorted(half, reverse=best_first)[step.depth :]:
                    del half[price]
            elif step.kind != "unapplied":
                for ticks, lots in rows:
                    half[Fraction(ticks, 10 ** step.scales[0])] = Fraction(lots, 10 ** step.scales[1])
                for price in [key for key, size in half.items() if not size]:
                    del half[price]

    def levels(self, side: Side) -> list[tuple[Fraction, Fraction]]:
        half = self.halves[side is Side.SELL]
        return [(price, half[price]) for price in sorted(half, reverse=side is Side.BUY)]


def apply(book: L2Book, step: Step) -> None:
    if step.kind == "cut":
        book.cut(step.depth)
        return
    bids, asks = (flat(rows) for rows in step.sides)
    price_scale, size_scale = step.scales
    if step.kind == "snapshot":
        book.apply(
            BookSnapshot(
                instrument="v:A", id_last=9, bids=bids, asks=asks, price_scale=price_scale, size_scale=size_scale
            )
        )
    else:
        flags = Flag.UNAPPLIED if step.kind == "unapplied" else Flag.NONE
        book.apply(delta(bids, asks, (price_scale, size_scale), flags))


def delta(bids: Levels, asks: Levels, scales: tuple[int, int], flags: int = 0) -> BookDelta:
    return BookDelta(
        instrument="v:A",
        id_prev=1,
        id_last=2,
        bids=bids,
        asks=asks,
        price_scale=scales[0],
        size_scale=scales[1],
        flags=flags,
    )


def exact(book: L2Book, side: Side) -> list[tuple[Fraction, Fraction]]:
    price, size = 10**book.price_scale, 10**book.size_scale
    return [(Fraction(row[0], price), Fraction(row[1], size)) for row in book.levels(side)]


def built(steps: list[Step]) -> L2Book:
    book = L2Book("v:A")
    for step in steps:
        apply(book, step)
    return book


@given(st.lists(STEPS, max_size=25))
def test_the_book_is_the_model(steps: list[Step]) -> None:
    book, model = L2Book("v:A"), Model()
    for step in steps:
        apply(book, step)
        model.apply(step)
        book.validate()
        for side in SIDES:
            levels = model.levels(side)
            assert exact(book, side) == levels
            assert [(Fraction(p), Fraction(s)) for p, s in book.texts(side, 3)] == levels[:3]
        assert len(book) == sum(len(model.levels(side)) for side in SIDES)


@given(st.lists(STEPS, max_size=12), st.integers(1, 6))
def test_what_cut_gives_makes_the_same_cut_elsewhere(steps: list[Step], depth: int) -> None:
    book, other = built(steps), built(steps)
    bids, asks = book.cut(depth)
    other.apply(delta(bids, asks, (book.price_scale, book.size_scale)))
    assert other.state_hash(0) == book.state_hash(0)
    other.validate()


@given(st.lists(STEPS, max_size=12), st.lists(STEPS, max_size=12))
def test_a_difference_turns_one_book_into_the_other(left_steps: list[Step], right_steps: list[Step]) -> None:
    left, right = built(left_steps), built(right_steps)
    right.apply(delta((), (), (left.price_scale, left.size_scale)))
    bids, asks = left.difference(right)
    left.apply(delta(bids, asks, (right.price_scale, right.size_scale)))
    left.validate()
    assert [exact(left, side) for side in SIDES] == [exact(right, side) for side in SIDES]
    assert left.difference(right) == ((), ())


@given(st.lists(STEPS, max_size=12), st.tuples(st.integers(0, 18), st.integers(0, 18)), st.integers(0, 30))
def test_the_hash_is_the_same_in_every_scale(steps: list[Step], scales: tuple[int, int], count: int) -> None:
    book, finer = built(steps), built(steps)
    finer.apply(delta((), (), scales))
    assert finer.state_hash(count) == book.state_hash(count)


@given(st.lists(STEPS, max_size=12))
def test_an_image_is_the_book(steps: list[Step]) -> None:
    book, copy = built(steps), L2Book("v:A")
    copy.apply(book.snapshot())
    copy.validate()
    assert copy.state_hash(0) == book.state_hash(0)
    assert [copy.levels(side) for side in SIDES] == [book.levels(side) for side in SIDES]
