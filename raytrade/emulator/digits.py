"""Integers as the digits a venue prints.

Invariant: the text of a number is exact; nothing passes through a float. Called by the dialects
(wire text) and by the journal (canonical text).
"""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=1 << 17)
def fixed_text(value: int, scale: int, printed: int) -> str:
    """Print `value` / 10**`scale` with exactly `printed` digits after the point (>= `scale`)."""
    if scale == 0:
        return f"{value}.{'0' * printed}" if printed else str(value)
    whole, part = divmod(value, 10**scale)
    return f"{whole}.{part:0{scale}d}{'0' * (printed - scale)}"


@functools.lru_cache(maxsize=1 << 17)
def canonical_text(value: int, scale: int) -> str:
    """Print `value` / 10**`scale` without exponent and without trailing zeros."""
    text = fixed_text(value, scale, scale)
    return text.rstrip("0").rstrip(".") if "." in text else text
