"""Whether something grows: least squares over times (slopes) and over counts (exponents). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import msgspec


class Line(msgspec.Struct, frozen=True):
    """``y = intercept + slope * x``."""

    slope: float
    intercept: float


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Give the line of least squares.

    Raises:
        ValueError: fewer than two different places.
    """
    if len(set(xs)) < 2:
        raise ValueError("a line needs two places")
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / sum((x - x_mean) ** 2 for x in xs)
    return Line(slope, y_mean - slope * x_mean)


def exponent(counts: Sequence[float], costs: Sequence[float]) -> float:
    """Give `e` of ``cost = c * count ** e`` by least squares of the logarithms: 1 is linear, 0 is no growth.

    Raises:
        ValueError: fewer than two different counts, or one that is not positive.
    """
    return fit_line([log(count) for count in counts], [log(cost) for cost in costs]).slope
