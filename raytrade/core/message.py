"""Messages: the bytes of one event, as they cross links, rest in rings and pass through arbiters unchanged.

A message is a fixed little-endian header, two names, the levels as 64-bit integers (128-bit when the flag
`WIDE` is set) and a tail. It carries its own scales and names, so that it can be cut out of one batch and
forwarded in another without touching a byte. `Message` is the header read once; the levels are read only by
those who need them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import cast

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Digest,
    Event,
    Flag,
    Gap,
    GapKind,
    Held,
    Levels,
    LineDown,
    LineUp,
    Resynced,
    Side,
    Stalled,
    Trade,
)
from raytrade.core.native import NATIVE, members_by_value
from raytrade.core.packing import WIDE_BYTES, name_bytes, name_text, pack_levels, unpack_levels
from raytrade.core.prices import FRACTION_DIGITS_MAX
from raytrade.errors import MalformedBatch

SCHEMA_VERSION = 2
"""Version of this layout; carried in every batch, see `raytrade.links`."""

MESSAGE_BYTES_MAX = 64 * 1024 * 1024

# length, kind, channel, price scale, size scale, bytes of the instrument's name, bytes of the line's name, flags,
# id_prev, id_last, epoch, ts_venue_ns, ts_recv_ns, state_hash, depth, number of bids, number of asks
HEADER = struct.Struct("<I6BH5qQ3I")
_HEADER_BYTES = HEADER.size
_pack_header = HEADER.pack
_unpack_header = HEADER.unpack_from
_FLAGS = struct.Struct("<H")
_FLAGS_OFFSET = 10
_WIDE = int(Flag.WIDE)
_LEVEL_BYTES = 16


class Kind(IntEnum):
    """Which event a message holds."""

    SNAPSHOT = 1
    DELTA = 2
    TRADE = 3
    GAP = 4
    RESYNCED = 5
    LINE_UP = 6
    LINE_DOWN = 7
    STALLED = 8
    HELD = 9
    DIGEST = 10


_KINDS = {int(kind): kind for kind in Kind}
_CHANNELS = {int(channel): channel for channel in Channel}
_SIDES = {int(side): side for side in Side}


class Message(msgspec.Struct, frozen=True, gc=False):
    """The header of one message beside its bytes; fields as in `raytrade.core.events`."""

    kind: Kind
    channel: Channel
    flags: int
    instrument: str
    line: str
    id_prev: int
    id_last: int
    epoch: int
    ts_venue_ns: Nanos
    ts_recv_ns: Nanos
    state_hash: int
    depth: int
    price_scale: int
    size_scale: int
    bid_count: int
    ask_count: int
    body_start: int
    raw: bytes

    @property
    def stream(self) -> tuple[str, Channel]:
        """Which stream the message belongs to."""
        return self.instrument, self.channel

    def levels(self) -> tuple[Levels, Levels]:
        """Read the flat levels of both sides."""
        is_wide = bool(self.flags & _WIDE)
        return unpack_levels(self.raw, self.body_start, self.bid_count, self.ask_count, is_wide)

    def tail(self) -> bytes:
        """Give the bytes behind the levels."""
        width = WIDE_BYTES if self.flags & _WIDE else 8
        return self.raw[self.body_start + 2 * width * (self.bid_count + self.ask_count) :]

    def flagged(self, flag: int) -> Message:
        """Give a copy with one more flag set."""
        return self._with_flags(self.flags | flag)

    def unflagged(self, flag: int) -> Message:
        """Give a copy without the flag."""
        return self._with_flags(self.flags & ~flag)

    def _with_flags(self, flags: int) -> Message:
        raw = self.raw[:_FLAGS_OFFSET] + _FLAGS.pack(flags) + self.raw[_FLAGS_OFFSET + _FLAGS.size :]
        return msgspec.structs.replace(self, flags=flags, raw=raw)


_members = members_by_value(Kind), members_by_value(Channel)
_codec = None if NATIVE is None else NATIVE.Codec(Message, BookDelta, BookSnapshot, *_members)


def encode_book(event: BookSnapshot | BookDelta, line: str) -> bytes:
    """Write a book event received on `line`."""
    return _book_message(event, line).raw


def _book_message(event: BookSnapshot | BookDelta, line: str) -> Message:
    if _codec is not None and (message := _codec.message_of(event, line)) is not None:
        return cast(Message, message)
    return _write_book(event, line)


def _write_book(event: BookSnapshot | BookDelta, line: str) -> Message:
    body, flags = pack_levels(event.bids + event.asks, event.flags)
    flags = int(flags)
    name, source = name_bytes(event.instrument), name_bytes(line)
    if type(event) is BookDelta:
        kind, id_prev, depth = Kind.DELTA, event.id_prev, 0
    else:
        kind, id_prev, depth = Kind.SNAPSHOT, 0, event.depth  # type: ignore[union-attr]
    bid_count, ask_count = len(event.bids) // 2, len(event.asks) // 2
    body_start = _HEADER_BYTES + len(name) + len(source)
    header = _pack_header(
        body_start + len(body),
        kind,
        0,
        event.price_scale,
        event.size_scale,
        len(name),
        len(source),
        flags,
        id_prev,
        event.id_last,
        event.epoch,
        event.ts_venue_ns,
        event.ts_recv_ns,
        event.state_hash,
        depth,
        bid_count,
        ask_count,
    )
    return Message(
        kind,
        Channel.BOOK,
        flags,
        name_text(name),
        name_text(source),
        id_prev,
        event.id_last,
        event.epoch,
        event.ts_venue_ns,
        event.ts_recv_ns,
        event.state_hash,
        depth,
        event.price_scale,
        event.size_scale,
        bid_count,
        ask_count,
        body_start,
        b"".join((header, name, source, body)),
    )


def encode_trade(event: Trade, line: str) -> bytes:
    """Write a trade received on `line`; its aggressor stands where a snapshot has its depth."""
    body, flags = pack_levels((event.price, event.size), event.flags)
    name, source, tail = name_bytes(event.instrument), name_bytes(line), event.trade_id.encode()
    header = HEADER.pack(
        HEADER.size + len(name) + len(source) + len(body) + len(tail),
        Kind.TRADE,
        Channel.TRADES,
        event.price_scale,
        event.size_scale,
        len(name),
        len(source),
        flags,
        max(event.sequence - 1, 0),
        event.sequence,
        0,
        event.ts_venue_ns,
        event.ts_recv_ns,
        0,
        event.aggressor,
        1,
        0,
    )
    return b"".join((header, name, source, body, tail))


_PLAIN = {Resynced: Kind.RESYNCED, LineUp: Kind.LINE_UP, Held: Kind.HELD, Digest: Kind.DIGEST}
Note = Gap | Resynced | LineUp | LineDown | Stalled | Held | Digest


def _encode_note(kind: Kind, line: str, event: Note, tail: object) -> bytes:
    subject = event.venue if isinstance(event, LineUp | LineDown) else event.instrument
    channel = Channel.BOOK if isinstance(event, LineUp | LineDown) else event.channel
    id_prev = event.id_prev if isinstance(event, Gap | Digest) else 0
    id_last = event.id_last if isinstance(event, Gap | Resynced | Held | Digest) else 0
    epoch = event.epoch if isinstance(event, Gap | Resynced) else 0
    name, source, text = name_bytes(subject), name_bytes(line), msgspec.msgpack.encode(tail)
    length = HEADER.size + len(name) + len(source) + len(text)
    names = (0, 0, len(name), len(source), 0)
    times = (0, event.ts_recv_ns, 0, 0, 0, 0)
    return b"".join((HEADER.pack(length, kind, channel, *names, id_prev, id_last, epoch, *times), name, source, text))


def encode(event: Event, line: str) -> bytes:
    """Write any event; `line` is the connection (or the arbiter) it came from."""
    match event:
        case BookDelta() | BookSnapshot():
            return encode_book(event, line)
        case Trade():
            return encode_trade(event, line)
        case Gap():
            return _encode_note(Kind.GAP, line, event, (int(event.kind), event.cause, event.lines))
        case LineDown():
            return _encode_note(Kind.LINE_DOWN, line, event, event.cause)
        case Stalled():
            return _encode_note(Kind.STALLED, line, event, event.cause)
        case Resynced() | LineUp() | Held() | Digest():
            return _encode_note(_PLAIN[type(event)], line, event, None)


def message_of(event: Event, line: str) -> Message:
    """Give what `parse` would give of the written event."""
    if type(event) is BookDelta or type(event) is BookSnapshot:
        return _book_message(event, line)
    return parse(encode(event, line))


def parse(raw: bytes) -> Message:
    """Read the header of exactly one message.

    Raises:
        MalformedBatch: the bytes are not one whole message.
    """
    if _codec is not None and (message := _codec.parse(raw)) is not None:
        return cast(Message, message)
    return _parse(raw)


def _parse(raw: bytes) -> Message:
    try:
        (
            length,
            kind,
            channel,
            price_scale,
            size_scale,
            name_length,
            line_length,
            flags,
            id_prev,
            id_last,
            epoch,
            ts_venue_ns,
            ts_recv_ns,
            state_hash,
            depth,
            bid_count,
            ask_count,
        ) = _unpack_header(raw)
        name_end = _HEADER_BYTES + name_length
        body_start = name_end + line_length
        level_bytes = 2 * WIDE_BYTES if flags & _WIDE else _LEVEL_BYTES
        if length != len(raw) or body_start + level_bytes * (bid_count + ask_count) > length:
            raise MalformedBatch(f"message of {len(raw)} bytes claims {length}")
        if price_scale > FRACTION_DIGITS_MAX or size_scale > FRACTION_DIGITS_MAX:
            raise MalformedBatch(f"message with scales {price_scale} and {size_scale}")
        return Message(
            _KINDS[kind],
            _CHANNELS[channel],
            flags,
            name_text(raw[_HEADER_BYTES:name_end]),
            name_text(raw[name_end:body_start]),
            id_prev,
            id_last,
            epoch,
            ts_venue_ns,
            ts_recv_ns,
            state_hash,
            depth,
            price_scale,
            size_scale,
            bid_count,
            ask_count,
            body_start,
            raw,
        )
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise MalformedBatch(f"not a message: {error!r}") from None


def split(payload: bytes) -> list[Message]:
    """Cut a run of messages apart.

    Raises:
        MalformedBatch: the bytes are not whole messages.
    """
    if _codec is not None and (found := _codec.split(payload, 0)) is not None:
        return found[0]
    return _split(payload)


def split_checked(data: bytes, start: int) -> list[Message]:
    """Cut the run of messages apart that begins at `start`, and see that `decode` will understand each.

    Raises:
        MalformedBatch: the bytes are not whole messages, or a tail is not what its kind demands.
    """
    if _codec is not None and (found := _codec.split(data, start)) is not None:
        messages, are_books = found
        if are_books:
            return messages
    else:
        messages = _split(data[start:])
    for message in messages:
        if message.kind > Kind.DELTA:
            check(message)
    return messages


def _split(payload: bytes) -> list[Message]:
    messages: list[Message] = []
    at, end = 0, len(payload)
    while at < end:
        length = int.from_bytes(payload[at : at + 4], "little")
        if length < _HEADER_BYTES or at + length > end:
            raise MalformedBatch(f"message at byte {at} claims {length} bytes of {end - at}")
        messages.append(_parse(payload[at : at + length]))
        at += length
    return messages


def join(messages: Iterable[Message]) -> bytes:
    """Put messages into one run of bytes."""
    return b"".join([message.raw for message in messages])


def decode(message: Message) -> Event:
    """Build the event of a message.

    Raises:
        MalformedBatch: its tail is not what its kind demands.
    """
    match message.kind:
        case Kind.DELTA:
            return _decode_delta(message)
        case Kind.SNAPSHOT:
            return _decode_snapshot(message)
        case Kind.TRADE:
            return _decode_trade(message)
        case _:
            return _decode_note(message)


def _decode_delta(message: Message) -> BookDelta:
    bids, asks = message.levels()
    return BookDelta(
        instrument=message.instrument,
        id_prev=message.id_prev,
        id_last=message.id_last,
        bids=bids,
        asks=asks,
        price_scale=message.price_scale,
        size_scale=message.size_scale,
        ts_venue_ns=message.ts_venue_ns,
        ts_recv_ns=message.ts_recv_ns,
        epoch=message.epoch,
        state_hash=message.state_hash,
        flags=message.flags & ~_WIDE,
    )


def _decode_snapshot(message: Message) -> BookSnapshot:
    bids, asks = message.levels()
    return BookSnapshot(
        instrument=message.instrument,
        id_last=message.id_last,
        bids=bids,
        asks=asks,
        price_scale=message.price_scale,
        size_scale=message.size_scale,
        ts_venue_ns=message.ts_venue_ns,
        ts_recv_ns=message.ts_recv_ns,
        epoch=message.epoch,
        depth=message.depth,
        state_hash=message.state_hash,
        flags=message.flags & ~_WIDE,
    )


def _decode_trade(message: Message) -> Trade:
    if (message.bid_count, message.ask_count) != (1, 0) or message.depth not in _SIDES:
        raise MalformedBatch(f"trade with {message.bid_count} prices and side {message.depth}")
    (price, size), _ = message.levels()
    return Trade(
        instrument=message.instrument,
        trade_id=message.tail().decode(errors="replace"),
        price=price,
        size=size,
        price_scale=message.price_scale,
        size_scale=message.size_scale,
        aggressor=_SIDES[message.depth],
        sequence=message.id_last,
        ts_venue_ns=message.ts_venue_ns,
        ts_recv_ns=message.ts_recv_ns,
        flags=message.flags & ~_WIDE,
    )


def check(message: Message) -> None:
    """See that `decode` will understand the message; what `parse` has looked at is not looked at again.

    Raises:
        MalformedBatch: it will not.
    """
    if message.kind > Kind.TRADE:
        _decode_note(message)
    elif message.kind is Kind.TRADE and (message.bid_count, message.ask_count) != (1, 0):
        raise MalformedBatch(f"trade with {message.bid_count} bids and {message.ask_count} asks")
    elif message.kind is Kind.TRADE and message.depth not in _SIDES:
        raise MalformedBatch(f"trade of side {message.depth}")


_GAP_TAIL = msgspec.msgpack.Decoder(tuple[int, str, tuple[str, ...]])
_TEXT_TAIL = msgspec.msgpack.Decoder(str)


def _decode_note(message: Message) -> Note:
    name, channel, ts_recv_ns = message.instrument, message.channel, message.ts_recv_ns
    try:
        match message.kind:
            case Kind.GAP:
                kind, cause, lines = _GAP_TAIL.decode(message.tail())
                return Gap(
                    instrument=name,
                    channel=channel,
                    kind=GapKind(kind),
                    id_prev=message.id_prev,
                    id_last=message.id_last,
                    cause=cause,
                    lines=lines,
                    ts_recv_ns=ts_recv_ns,
                    epoch=message.epoch,
                )
            case Kind.RESYNCED:
                return Resynced(
                    instrument=name,
                    channel=channel,
                    id_last=message.id_last,
                    ts_recv_ns=ts_recv_ns,
                    epoch=message.epoch,
                )
            case Kind.HELD:
                return Held(instrument=name, channel=channel, id_last=message.id_last, ts_recv_ns=ts_recv_ns)
            case Kind.DIGEST:
                ids = {"id_prev": message.id_prev, "id_last": message.id_last}
                return Digest(instrument=name, channel=channel, ts_recv_ns=ts_recv_ns, **ids)
            case Kind.LINE_UP:
                return LineUp(venue=name, ts_recv_ns=ts_recv_ns)
            case Kind.LINE_DOWN:
                return LineDown(venue=name, cause=_TEXT_TAIL.decode(message.tail()), ts_recv_ns=ts_recv_ns)
            case _:
                cause = _TEXT_TAIL.decode(message.tail())
                return Stalled(instrument=name, channel=channel, cause=cause, ts_recv_ns=ts_recv_ns)
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedBatch(f"tail of a {message.kind.name} message: {error}") from None
