from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raytrade.core.prices import (
    CACHE_ENTRIES_MAX,
    FRACTION_DIGITS_MAX,
    POWERS,
    DecimalColumn,
    FinerScale,
    Quantizer,
    format_decimal,
    read_even,
    rescale,
    split_decimal,
)
from raytrade.errors import DecodeError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0", ("0", "")),
        ("1.50", ("1", "50")),
        ("7.", ("7", "")),
        ("0012.3", ("0012", "3")),
        ("1.5" + "0" * 40, ("1", "5")),
        ("0" * 6000 + "12", ("12", "")),
        ("0" * 6000, ("0", "")),
        ("9" * 20 + "." + "9" * 18, ("9" * 20, "9" * 18)),
    ],
)
def test_split_decimal(text: str, parts: tuple[str, str]) -> None:
    assert split_decimal(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", ".", ".5", "-1", "+1", "1e5", "1,5", " 1", "1 ", "1.2.3", "NaN", "Infinity", "١", "1_0", "0x1", "1.-2"],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="not a price or size"):
        split_decimal(text)


@pytest.mark.parametrize("text", ["9" * 21, "1." + "1" * 19, "1" + "0" * 20])
def test_what_cannot_be_recorded_exactly_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="too many digits"):
        split_decimal(text)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [(0, 0, "0"), (0, 8, "0"), (5, 1, "0.5"), (6160200, 2, "61602"), (10, 3, "0.01"), (123456, 4, "12.3456")],
)
def test_format_decimal(value: int, scale: int, text: str) -> None:
    assert format_decimal(value, scale) == text


@given(st.integers(0, 10**38 - 1), st.integers(0, FRACTION_DIGITS_MAX))
def test_format_is_exact_and_canonical(value: int, scale: int) -> None:
    text = format_decimal(value, scale)
    assert Fraction(text) == Fraction(value, POWERS[scale])
    assert "." not in text or not text.endswith("0")


def test_rescale() -> None:
    assert rescale((3, 4, 5, 6), 10, 100) == (30, 400, 50, 600)
    assert rescale((), 10, 100) == ()


def test_a_column_remembers_and_asks_for_a_finer_scale() -> None:
    column = DecimalColumn(2)
    assert (column["1.5"], column["1.50"], column["01.5"]) == (150, 150, 150)
    with pytest.raises(FinerScale) as caught:
        column["1.255"]
    assert caught.value.scale == 3
    column.refine(3)
    assert not column
    assert column["1.5"] == 1500


def test_a_column_stays_bounded() -> None:
    column = DecimalColumn()
    for number in range(CACHE_ENTRIES_MAX + 10):
        assert column[str(number)] == number
        assert len(column) <= CACHE_ENTRIES_MAX


def test_a_quantizer_reads_all_sides_in_one_scale() -> None:
    quantizer = Quantizer()
    bids, asks = quantizer.levels([("1.5", "2")], [("1.75", "0.001"), ("2", "0")])
    assert (quantizer.prices.scale, quantizer.sizes.scale) == (2, 3)
    assert bids == (150, 2000)
    assert asks == (175, 1, 200, 0)


def test_scales_never_shrink() -> None:
    quantizer = Quantizer(2, 3)
    assert quantizer.levels([("1", "1")]) == [(100, 1000)]
    assert (quantizer.prices.scale, quantizer.sizes.scale) == (2, 3)


@pytest.mark.parametrize("row", [("x", "1"), ("1", ""), ("1.25", "y")])
def test_a_bad_level_is_refused(row: tuple[str, str]) -> None:
    with pytest.raises(DecodeError):
        Quantizer().levels([("1", "1"), row])


PLAIN = st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{1,10})?\Z")


@given(st.lists(st.lists(st.tuples(PLAIN, PLAIN), max_size=6), min_size=1, max_size=3))
def test_levels_are_the_decimals_that_were_written(sides: list[list[tuple[str, str]]]) -> None:
    quantizer = Quantizer()
    for _ in range(2):
        flat = quantizer.levels(*sides)
        for side, levels in zip(sides, flat, strict=True):
            prices = [Decimal(value).scaleb(-quantizer.prices.scale) for value in levels[::2]]
            sizes = [Decimal(value).scaleb(-quantizer.sizes.scale) for value in levels[1::2]]
            assert list(zip(prices, sizes, strict=True)) == [(Decimal(price), Decimal(size)) for price, size in side]


EVEN = st.from_regex(r"\A[0-9.]{0,26}\Z") | st.sampled_from(
    ["1_0.25", " 1.25", "+1.25", "-1.25", "\u0661.25", "1e2.25"]
)


@given(st.lists(PLAIN | EVEN, min_size=1, max_size=6), st.integers(0, 18))
def test_texts_read_together_are_read_as_one_by_one(texts: list[str], scale: int) -> None:
    """What the quick reading gives is what the careful one gives; what that refuses, it does not take."""
    together = read_even(texts, scale)
    if together is None:
        return
    column = DecimalColumn(scale)
    assert together == [column[text] for text in texts]


def test_texts_of_one_width_are_read_together() -> None:
    assert read_even(["0.00147", "12.50000", "0.00000"], 5) == [147, 1_250_000, 0]
    assert read_even(["0.00147", "12.5"], 5) is None


PAIR_LISTS = st.lists(st.tuples(PLAIN | EVEN, PLAIN | EVEN), max_size=5)


@given(PAIR_LISTS, PAIR_LISTS, st.integers(0, 3), st.integers(0, 3))
@example([("1.25", "7")], [], 2, 0)
@example([("1.25", "7.5")], [("1", "2.5")], 2, 1)
def test_json_is_read_as_its_texts_are(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]], price_scale: int, size_scale: int
) -> None:
    """Values, scales and refusals are the same, whichever way the sides are read."""
    known, quick = Quantizer(price_scale, size_scale), Quantizer(price_scale, size_scale)
    raw = [msgspec.Raw(msgspec.json.encode(side)) for side in (bids, asks)]
    try:
        expected = known.levels(bids, asks)
    except DecodeError:
        with pytest.raises(DecodeError):
            quick.json_levels(*raw)
        return
    assert quick.json_levels(*raw) == expected
    assert (quick.prices.scale, quick.sizes.scale) == (known.prices.scale, known.sizes.scale)


@pytest.mark.parametrize("side", [b'[["1","2"],["3"]]', b"[[1,2]]", b'"1"', b'[["1","2","3"]]', b"{}", b"null"])
def test_json_that_is_no_side_is_refused(side: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Quantizer().json_levels(msgspec.Raw(side), msgspec.Raw(b"[]"))
