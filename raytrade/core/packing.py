"""The parts of a message as bytes: names, and levels as 64-bit integers (128-bit ones where a value does not fit)."""

from __future__ import annotations

import struct
from functools import lru_cache

from raytrade.core.events import Flag, Levels
from raytrade.core.native import NATIVE

WIDE_BYTES = 16
NAME_BYTES_MAX = 255
_WIDE = int(Flag.WIDE)


@lru_cache(maxsize=1024)
def _packer(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}q")


def pack_levels(values: Levels, flags: int) -> tuple[bytes, int]:
    """Write the values; whether they are wide is known here alone, whatever the flags say."""
    try:
        return _packer(len(values)).pack(*values), flags & ~_WIDE
    except struct.error:
        wide = b"".join(value.to_bytes(WIDE_BYTES, "little", signed=True) for value in values)
        return wide, flags | _WIDE


def unpack_levels(raw: bytes, start: int, bid_count: int, ask_count: int, is_wide: bool) -> tuple[Levels, Levels]:
    """Read the flat levels of both sides, which begin at `start`."""
    if not is_wide and NATIVE is not None:
        sides = NATIVE.read_levels(raw, start, bid_count, ask_count)
        if sides is not None:
            return sides
    count, cut = 2 * (bid_count + ask_count), 2 * bid_count
    values = _unpack_wide(raw, start, count) if is_wide else _packer(count).unpack_from(raw, start)
    return values[:cut], values[cut:]


def _unpack_wide(raw: bytes, start: int, count: int) -> Levels:
    end = start + count * WIDE_BYTES
    return tuple(
        int.from_bytes(raw[at : at + WIDE_BYTES], "little", signed=True) for at in range(start, end, WIDE_BYTES)
    )


@lru_cache(maxsize=65_536)
def name_bytes(name: str) -> bytes:
    """Write a name; what is too long is cut off between two characters."""
    text = name.encode()
    if len(text) > NAME_BYTES_MAX:
        text = text[:NAME_BYTES_MAX].decode(errors="ignore").encode()
    return text


@lru_cache(maxsize=65_536)
def name_text(name: bytes) -> str:
    """Read a name."""
    return name.decode()
