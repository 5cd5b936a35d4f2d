"""The vocabulary of the stream: what a venue machine emits and what every consumer receives.

Rules that hold for all venues:

* Levels are **flat** tuples ``(price, size, price, size, ...)`` of integers; the value of a price is
  ``price / 10**price_scale``, of a size ``size / 10**size_scale``. Sizes are absolute; 0 removes the level.
* `BookSnapshot` replaces the whole book. `BookDelta` moves it from `id_prev` to `id_last`.
* `Trade.aggressor` is the side that took liquidity.
* `ts_venue_ns` is the venue's event time, 0 where it gives none; `ts_recv_ns` is stamped once at the
  socket and never replaced. Both are nanoseconds since the Unix epoch.
* `epoch` is 0 where ids are the venue's own; where ids are counted on one connection it is the start of
  that connection in nanoseconds, and ids of different epochs cannot be compared.
* `instrument` is ``<venue>:<symbol as the venue writes it>``.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from raytrade.core.clock import Nanos

Levels = tuple[int, ...]
RETIRED = "retired"
"""The cause of the last `LineDown` of a line that is not wanted any more: it does not count as lost."""


class Channel(IntEnum):
    """What a stream carries. Half of every stream's key: hashed as the integer it is, not by its name in Python."""

    BOOK = 0
    TRADES = 1

    __hash__ = int.__hash__


class Side(IntEnum):
    """A side of the book, or of the order that took liquidity."""

    NONE = 0
    BUY = 1
    SELL = 2


class Flag(IntEnum):
    """Remarks on one message, joined with ``|``: plain integers, because each message is asked for some of them."""

    NONE = 0
    WIDE = 1
    """Values are stored in 16 bytes each, because one does not fit in 8."""
    HISTORY = 2
    """A trade from before the subscription, sent again by the venue."""
    UNAPPLIED = 4
    """A delta between a gap and its resync: recorded, but no book may use it."""
    SPLICE = 8
    """The difference between two lines' books at a switch, made by the arbiter."""
    CHECKED = 16
    """`state_hash` holds the venue's own checksum of the book after this message."""
    IMAGE = 32
    """A snapshot that opens a link, made from the sender's book and not sent by the venue."""
    CONFLATED = 64
    """The latest state for a consumer that fell behind and wants no more: what came before was left out on purpose."""


class GapKind(IntEnum):
    """Why a range is missing."""

    VENUE = 0
    """No line delivered it."""
    SLOW_CONSUMER = 1
    """This consumer did not take it in time."""
    RESET = 2
    """The venue started its ids again, or the stream had to be started anew."""
    DOUBT = 3
    """Nothing is missing, but what was given out may be wrong: lines contradict each other, or the book itself."""


class BookSnapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole book at `id_last`, known to `depth` levels a side (0: all of it)."""

    instrument: str
    id_last: int
    bids: Levels
    asks: Levels
    price_scale: int
    size_scale: int
    ts_venue_ns: Nanos = 0
    ts_recv_ns: Nanos = 0
    epoch: int = 0
    depth: int = 0
    state_hash: int = 0
    flags: int = 0


class BookDelta(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Changed levels, moving the book from `id_prev` to `id_last`."""

    instrument: str
    id_prev: int
    id_last: int
    bids: Levels
    asks: Levels
    price_scale: int
    size_scale: int
    ts_venue_ns: Nanos = 0
    ts_recv_ns: Nanos = 0
    epoch: int = 0
    state_hash: int = 0
    flags: int = 0


class Trade(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One public trade. `sequence` is the trade id where it is a rising number, else 0."""

    instrument: str
    trade_id: str
    price: int
    size: int
    price_scale: int
    size_scale: int
    aggressor: Side
    sequence: int = 0
    ts_venue_ns: Nanos = 0
    ts_recv_ns: Nanos = 0
    flags: int = 0


class Gap(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """No copy of the ids in ``(id_prev, id_last]`` was delivered; the book is not usable until `Resynced`.

    `id_last` is 0 where the end is not known (no later message has come). `lines` were up at the time.
    """

    instrument: str
    channel: Channel
    kind: GapKind
    id_prev: int
    id_last: int
    cause: str
    lines: tuple[str, ...] = ()
    ts_recv_ns: Nanos = 0
    epoch: int = 0


class Resynced(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The stream is whole again from `id_last` on."""

    instrument: str
    channel: Channel
    id_last: int
    ts_recv_ns: Nanos = 0
    epoch: int = 0


class LineUp(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line's connection is open and subscribed."""

    venue: str
    ts_recv_ns: Nanos = 0


class LineDown(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line's connection is lost."""

    venue: str
    cause: str
    ts_recv_ns: Nanos = 0


class Stalled(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Every line of the stream is silent or lost: what the book says may be old."""

    instrument: str
    channel: Channel
    cause: str
    ts_recv_ns: Nanos = 0


class Held(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What comes after `id_last` waits for something that is missing: for a while the book may be old."""

    instrument: str
    channel: Channel
    id_last: int
    ts_recv_ns: Nanos = 0


class Digest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The writer has the messages of ``(id_prev, id_last]`` and keeps them until they are asked for."""

    instrument: str
    channel: Channel
    id_prev: int
    id_last: int
    ts_recv_ns: Nanos = 0


Event = BookSnapshot | BookDelta | Trade | Gap | Resynced | LineUp | LineDown | Stalled | Held | Digest
