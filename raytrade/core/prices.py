"""Exact prices and sizes: integers in a decimal scale, read from the venue's own digits.

A value is ``integer / 10**scale``. The scale of an instrument is the largest number of fractional
digits seen so far; it only ever grows. Limits (18 fractional and 20 integer digits) are those of the
`DECIMAL(38, 18)` columns the values are recorded in: what cannot be recorded exactly is refused when
it is read, never rounded.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from raytrade.core.native import NATIVE
from raytrade.errors import DecodeError

FRACTION_DIGITS_MAX = 18
INTEGER_DIGITS_MAX = 20
CACHE_ENTRIES_MAX = 16_384
"""Texts remembered per column: there are two columns per instrument and line, and a collector has hundreds of them."""
POWERS: tuple[int, ...] = tuple(10**digits for digits in range(FRACTION_DIGITS_MAX + 1))
"""Powers of ten by scale."""


def split_decimal(text: str) -> tuple[str, str]:
    """Split plain decimal text into its integer and fractional digits.

    Raises:
        DecodeError: the text is not an unsigned plain decimal number within the limits.
    """
    whole, _, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction.isdigit() or not fraction)):
        raise DecodeError("not a price or size", text[:64])
    if len(fraction) > FRACTION_DIGITS_MAX:
        fraction = fraction.rstrip("0")
    if len(whole) > INTEGER_DIGITS_MAX:
        whole = whole.lstrip("0") or "0"
    if len(fraction) > FRACTION_DIGITS_MAX or len(whole) > INTEGER_DIGITS_MAX:
        raise DecodeError("price or size has too many digits", text[:64])
    return whole, fraction


def format_decimal(value: int, scale: int) -> str:
    """Write ``value / 10**scale`` as canonical text: no exponent, no trailing zeros, no bare point.

    >>> format_decimal(6160200, 2)
    '61602'
    """
    if scale == 0:
        return str(value)
    digits = str(value).rjust(scale + 1, "0")
    fraction = digits[-scale:].rstrip("0")
    return f"{digits[:-scale]}.{fraction}" if fraction else digits[:-scale]


def rescale(levels: tuple[int, ...], price_factor: int, size_factor: int) -> tuple[int, ...]:
    """Multiply the prices and the sizes of flat `levels` (price, size, price, size, ...)."""
    scaled = list(levels)
    scaled[::2] = [price * price_factor for price in levels[::2]]
    scaled[1::2] = [size * size_factor for size in levels[1::2]]
    return tuple(scaled)


class FinerScale(Exception):
    """A text has more fractional digits than the scale holds; `scale` is what it needs."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.scale = scale


class DecimalColumn(dict[str, int]):
    """A bounded memory of texts already read at one scale: `column[text]` is the integer.

    A dictionary, because prices repeat: a hit costs one look-up in C.
    Raises `FinerScale` for a text that needs more digits, `DecodeError` for one that is no number.
    """

    def __init__(self, scale: int = 0) -> None:
        super().__init__()
        self.scale = scale

    def __missing__(self, text: str) -> int:
        whole, _, fraction = text.partition(".")
        digits = whole + fraction
        is_short = len(fraction) == self.scale and 0 < len(whole) <= INTEGER_DIGITS_MAX
        value = int(digits) if is_short and digits.isascii() and digits.isdigit() else self._read(text)
        if len(self) >= CACHE_ENTRIES_MAX:
            self.clear()
        self[text] = value
        return value

    def _read(self, text: str) -> int:
        """Read any text; most have as many digits as the scale, and are read before it comes to this."""
        whole, fraction = split_decimal(text)
        missing = self.scale - len(fraction)
        if missing < 0:
            raise FinerScale(len(fraction))
        return int(whole + fraction) * POWERS[missing]

    def refine(self, scale: int) -> None:
        """Go over to a finer scale, forgetting what was read at the old one."""
        self.clear()
        self.scale = scale


def read_even(texts: list[str], scale: int) -> list[int] | None:
    """Read texts that all have `scale` fractional digits, as most venues write them; None if one has not.

    The checks look at all texts at once, in C: sizes hardly ever repeat, so remembering them gains nothing.
    """
    joined = "".join(texts)
    digits = joined.replace(".", "")
    if len(joined) - len(digits) != len(texts) or not (digits.isascii() and digits.isdigit()):
        return None
    longest, shortest = max(map(len, texts)), min(map(len, texts))
    if longest > INTEGER_DIGITS_MAX + 1 + scale or shortest < scale + 2:
        return None
    point = -scale - 1
    values = [int(text.replace(".", "")) for text in texts if text[point] == "."]
    return values if len(values) == len(texts) else None


_PAIRS = msgspec.json.Decoder(list[tuple[str, str]])
_PUNCTUATION = b'[]".'


@lru_cache(maxsize=(FRACTION_DIGITS_MAX + 1) ** 2)
def _even_side(price_scale: int, size_scale: int) -> re.Pattern[bytes]:
    """Give what valid JSON must match to be a side whose texts all have the digits of the scales."""
    price, size = (
        rb"\d{1,%d}" % INTEGER_DIGITS_MAX + (rb"\.\d{%d}" % scale if scale else b"")
        for scale in (price_scale, size_scale)
    )
    return re.compile(rb'\[(?:\["%s","%s"\],?)*\]' % (price, size))


def _digits(side: bytes) -> tuple[int, ...]:
    return tuple(map(int, side.translate(None, _PUNCTUATION).split(b","))) if len(side) > len("[]") else ()


class Quantizer:
    """Reads one instrument's levels; its two scales grow when the venue writes a finer digit."""

    __slots__ = ("prices", "sizes")

    def __init__(self, price_scale: int = 0, size_scale: int = 0) -> None:
        self.prices = DecimalColumn(price_scale)
        self.sizes = DecimalColumn(size_scale)

    def levels(self, *sides: list[tuple[str, str]]) -> list[tuple[int, ...]]:
        """Read sides of (price, size) texts into flat integer levels, all in one scale.

        Raises:
            DecodeError: a text is no number.
        """
        while True:
            try:
                return [self._side(side) if side else () for side in sides]
            except FinerScale:
                self._refine(sides)

    def json_levels(self, bids: msgspec.Raw, asks: msgspec.Raw) -> list[tuple[int, ...]]:
        """Read two sides as they stand in a frame that is valid JSON: ``[["0.3513","6195.0"],...]``.

        Most venues write the same number of digits each time; that is seen at one look, and no text is made.

        Raises:
            DecodeError: a text is no number.
            msgspec.MsgspecError: a side is no list of pairs of texts.
        """
        if NATIVE is not None:
            sides = NATIVE.even_sides(bids, asks, self.prices.scale, self.sizes.scale)
            if sides is not None:
                return sides
        is_even = _even_side(self.prices.scale, self.sizes.scale).fullmatch
        if is_even(bids) and is_even(asks):
            return [_digits(bytes(bids)), _digits(bytes(asks))]
        return self.levels(_PAIRS.decode(bids), _PAIRS.decode(asks))

    def _side(self, side: list[tuple[str, str]]) -> tuple[int, ...]:
        prices, sizes = self.prices, self.sizes
        flat = [0] * (2 * len(side))
        flat[::2] = [prices[price] for price, _ in side]
        texts = [size for _, size in side]
        flat[1::2] = read_even(texts, sizes.scale) or [sizes[size] for size in texts]
        return tuple(flat)

    def _refine(self, sides: tuple[list[tuple[str, str]], ...]) -> None:
        rows = [row for side in sides for row in side]
        for column, texts in ((self.prices, [row[0] for row in rows]), (self.sizes, [row[1] for row in rows])):
            finest = max(len(split_decimal(text)[1]) for text in texts)
            if finest > column.scale:
                column.refine(finest)
