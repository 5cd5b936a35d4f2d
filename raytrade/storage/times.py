"""Instants as people write them, read into nanoseconds since the Unix epoch without a float in between."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from raytrade.core.clock import Nanos
from raytrade.errors import ConfigError

Instant = int | str | datetime
"""Nanoseconds, ISO 8601 text or a datetime; without a zone it is UTC."""

INSTANT_NS_MAX: Nanos = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FRACTION = re.compile(r"(?<=\d)[.,](\d{1,9})(?=$|[Zz+-])")


def instant_ns(value: Instant) -> Nanos:
    """Give an instant in nanoseconds.

    Raises:
        ConfigError: it cannot be read, or does not fit in 63 bits.
    """
    nanos = _read(value)
    if abs(nanos) > INSTANT_NS_MAX:
        raise ConfigError("", str(value), "time out of range")
    return nanos


def _read(value: Instant) -> Nanos:
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _MICROSECOND * 1000
    if isinstance(value, int):
        return value
    if value.removeprefix("-").isdecimal() and len(value) != len("YYYYMMDD"):
        return int(value)
    fraction = _FRACTION.search(value)
    whole = value if fraction is None else value[: fraction.start()] + value[fraction.end() :]
    try:
        moment = datetime.fromisoformat(whole.strip().replace(".", "?").replace(",", "?"))
    except ValueError:
        problem = "not a time: write 2024-08-08T12:00:00.5Z, 2024-08-08 or nanoseconds since 1970"
        raise ConfigError("", repr(value), problem) from None
    return _read(moment) + (int(fraction[1].ljust(9, "0")) if fraction is not None else 0)


def interval_ns(start: Instant | None, end: Instant | None) -> tuple[Nanos, Nanos]:
    """Give the half-open interval ``[start, end)``; None is unbounded on that side.

    Raises:
        ConfigError: a time cannot be read, or the interval ends before it starts.
    """
    first = -INSTANT_NS_MAX if start is None else instant_ns(start)
    last = INSTANT_NS_MAX if end is None else instant_ns(end)
    if last < first:
        raise ConfigError("", f"{start} to {end}", "the interval ends before it starts")
    return first, last


def instant_text(instant: Nanos) -> str:
    """Write an instant as ISO 8601 in UTC, with nine fractional digits."""
    seconds, nanos = divmod(instant, 1_000_000_000)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return str(instant)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
