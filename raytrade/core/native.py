"""The C accelerator `raytrade_native` (the folder ``native`` of the repository): used where it is installed.

The Python code of this package is the reference: what the accelerator does not do exactly as it does (it gives None
then), Python does. So nothing but the speed depends on whether it is there. ``RAYTRADE_NATIVE`` in the environment
decides: ``0`` never, ``1`` required, else where it is installed and of the version known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from typing import Any, Protocol, cast

import msgspec

from raytrade.errors import ConfigError

API_VERSION = 1
SWITCH = "RAYTRADE_NATIVE"
_REMEDY = "install it with: pip install ./native (in the repository of raytrade)"

Depth = tuple[str, int, int, int | None, int, tuple[int, ...], tuple[int, ...], tuple[int, int]]
"""A depth frame of Binance: symbol, U, u, pu, ms, bids, asks, and both scales (-1: no level shows it)."""


class MessageCodec(Protocol):
    """Messages out of bytes and out of book events; see native/src/codec.c."""

    def parse(self, raw: bytes) -> Any:
        """Give one message."""

    def split(self, data: bytes, start: int) -> tuple[list[Any], bool] | None:
        """Give the messages from `start` on, and whether all of them are of books."""

    def message_of(self, event: Any, line: str) -> Any:
        """Give the message of a book event."""


class Native(Protocol):
    """What the accelerator offers; each gives None where Python must do the work. See native/src."""

    Codec: Callable[..., MessageCodec]

    def depth_update(self, frame: bytes) -> Depth | None:
        """Read a depth frame of Binance."""

    def even_sides(self, bids: object, asks: object, price_scale: int, size_scale: int) -> list[tuple[int, ...]] | None:
        """Read two sides of raw JSON, all values in these scales."""

    def move_side(self, sizes: dict[int, int], keys: list[int], sign: int, levels: object) -> bool | None:
        """Move one side of a book."""

    def read_levels(
        self, raw: bytes, start: int, bids: int, asks: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Read the levels of a message."""


class Choice(msgspec.Struct, frozen=True):
    """What was found: the accelerator or none, why, and whether that is not what was asked for."""

    native: Native | None
    reason: str
    is_refused: bool = False


def choose(wish: str, find: Callable[[str], Any] = import_module) -> Choice:
    """Look for the accelerator; `wish` is what stands in the environment."""
    if wish not in ("", "0", "1"):
        return Choice(None, f"{wish!r} is neither 0 (never) nor 1 (required)", is_refused=True)
    if wish == "0":
        return Choice(None, f"{SWITCH}=0")
    try:
        module = find("raytrade_native")
    except ImportError:
        return Choice(None, f"raytrade-native is not installed; {_REMEDY}", is_refused=wish == "1")
    version = getattr(module, "API_VERSION", None)
    if version != API_VERSION:
        reason = f"raytrade-native speaks version {version}, this is version {API_VERSION}; {_REMEDY}"
        return Choice(None, reason, is_refused=wish == "1")
    return Choice(cast(Native, module), f"raytrade-native, version {version}")


CHOICE = choose(os.environ.get(SWITCH, ""))
NATIVE = CHOICE.native


def demand(choice: Choice = CHOICE) -> None:
    """See that what was asked for is there; whoever starts a program calls it.

    Raises:
        ConfigError: the accelerator is required and not there, or the switch is none.
    """
    if choice.is_refused:
        raise ConfigError(SWITCH, "", choice.reason)


def members_by_value(members: type[IntEnum]) -> tuple[IntEnum | None, ...]:
    """Give the members of an enumeration, each at its value."""
    by_value = {int(member): member for member in members}
    return tuple(by_value.get(value) for value in range(max(by_value) + 1))
