from __future__ import annotations

import msgspec
import pytest

from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Flag,
    Gap,
    GapKind,
    LineDown,
    LineUp,
    Resynced,
    Side,
    Stalled,
    Trade,
)
from raytrade.core.message import HEADER, Kind, Message, decode, encode, join, message_of, parse, split
from raytrade.errors import MalformedBatch

DELTA = BookDelta(
    instrument="kraken:BTC/USD",
    id_prev=4,
    id_last=7,
    bids=(100, 5, 99, 0),
    asks=(101, 1),
    price_scale=1,
    size_scale=8,
    ts_venue_ns=11,
    ts_recv_ns=12,
    epoch=13,
    state_hash=2**64 - 1,
    flags=Flag.CHECKED,
)
TRADE = Trade(
    instrument="kraken:BTC/USD",
    trade_id="ab-17",
    price=5,
    size=6,
    price_scale=0,
    size_scale=18,
    aggressor=Side.SELL,
    sequence=9,
)
GAP = Gap(
    instrument="okx:A",
    channel=Channel.TRADES,
    kind=GapKind.RESET,
    id_prev=5,
    id_last=0,
    cause="ids restarted",
    lines=("a", "b"),
    epoch=3,
)
EVENTS: list[Event] = [
    DELTA,
    BookSnapshot(instrument="v:A", id_last=3, bids=(1, 2), asks=(), price_scale=0, size_scale=0, depth=1000),
    TRADE,
    GAP,
    Resynced(instrument="v:A", channel=Channel.BOOK, id_last=8, epoch=2),
    LineUp(venue="v", ts_recv_ns=1),
    LineDown(venue="v", cause="closed ✂", ts_recv_ns=1),
    Stalled(instrument="v:A", channel=Channel.BOOK, cause="silence", ts_recv_ns=4),
]


def read(event: Event, line: str = "c1/v-1") -> Message:
    return parse(encode(event, line))


def patched(event: Event, offset: int, value: int) -> bytes:
    raw = bytearray(encode(event, "l"))
    raw[offset] = value
    return bytes(raw)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_is_read_is_what_was_written(event: Event) -> None:
    message = read(event)
    assert decode(message) == event
    assert message.line == "c1/v-1"
    assert encode(decode(message), message.line) == message.raw


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("line", ["c1/v-1", "l" * 300])
def test_a_message_made_of_an_event_is_the_one_read_from_its_bytes(event: Event, line: str) -> None:
    wide = [msgspec.structs.replace(event, bids=(10**37, 1))] if isinstance(event, BookDelta | BookSnapshot) else []
    for made in (event, *wide):
        message = message_of(made, line)
        assert message == parse(encode(made, line)) == parse(message.raw)
        assert type(message.flags) is int


def test_the_header_is_read_without_the_levels() -> None:
    message = read(DELTA)
    assert message.stream == ("kraken:BTC/USD", Channel.BOOK)
    assert (message.kind, message.id_prev, message.id_last, message.epoch) == (Kind.DELTA, 4, 7, 13)
    assert (message.bid_count, message.ask_count, message.state_hash) == (2, 1, 2**64 - 1)
    assert (message.ts_venue_ns, message.ts_recv_ns) == (11, 12)
    assert message.levels() == ((100, 5, 99, 0), (101, 1))


def test_a_trade_carries_its_sequence_as_ids() -> None:
    message = read(TRADE)
    assert (message.id_prev, message.id_last, message.stream) == (8, 9, ("kraken:BTC/USD", Channel.TRADES))
    assert message.tail() == b"ab-17"


def test_flags_can_be_changed_in_place() -> None:
    message = read(DELTA)
    marked = message.flagged(Flag.UNAPPLIED)
    assert marked.flags == Flag.CHECKED | Flag.UNAPPLIED
    assert parse(marked.raw) == marked
    assert marked.unflagged(Flag.UNAPPLIED) == message


def test_wide_values_are_a_matter_of_storage() -> None:
    wide = msgspec.structs.replace(DELTA, bids=(10**37, 10**20), flags=Flag.SPLICE)
    message = read(wide)
    assert message.flags == Flag.SPLICE | Flag.WIDE
    assert parse(message.flagged(Flag.UNAPPLIED).raw).levels() == (wide.bids, wide.asks)
    assert decode(message) == wide


def test_an_event_that_claims_to_be_wide_and_is_not_is_written_narrow() -> None:
    message = read(msgspec.structs.replace(DELTA, flags=Flag.WIDE))
    assert message.flags == 0
    assert message.levels() == (DELTA.bids, DELTA.asks)


def test_long_names_are_cut_between_characters() -> None:
    message = read(LineUp(venue="v" * 254 + "é"), "l" * 300)
    assert (message.instrument, message.line) == ("v" * 254, "l" * 255)


def test_split_and_join() -> None:
    messages = [read(event, f"line {number}") for number, event in enumerate(EVENTS)]
    assert split(join(messages)) == messages
    assert split(b"") == []


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [
        (0, 0, "claims"),
        (4, 0, "not a message"),
        (4, 11, "not a message"),
        (5, 2, "not a message"),
        (6, 19, "scales"),
        (7, 255, "scales"),
        (8, 255, "claims"),
        (10, Flag.WIDE, "claims"),
        (HEADER.size - 1, 1, "claims"),
        (HEADER.size, 0xFF, "not a message"),
    ],
)
def test_a_bad_header_is_refused(offset: int, value: int, problem: str) -> None:
    with pytest.raises(MalformedBatch, match=problem):
        parse(patched(DELTA, offset, value))


def test_every_truncation_is_refused() -> None:
    raw = encode(DELTA, "l")
    for length in range(len(raw)):
        with pytest.raises(MalformedBatch):
            parse(raw[:length])
        with pytest.raises(MalformedBatch):
            parse(raw + raw[: length + 1])
        if length:
            with pytest.raises(MalformedBatch):
                split(raw + raw[:length])


def test_a_trade_without_a_price_or_side_is_refused() -> None:
    side, bids = HEADER.size - 12, HEADER.size - 8
    for raw in (patched(TRADE, side, 3), patched(TRADE, bids, 0)):
        with pytest.raises(MalformedBatch, match="trade with"):
            decode(parse(raw))


@pytest.mark.parametrize("event", [GAP, *EVENTS[-2:]], ids=lambda event: type(event).__name__)
def test_a_note_with_a_bad_tail_is_refused(event: Event) -> None:
    message = read(event)
    for tail in (b"", b"\xc1", b"\x93\x09\xa0\x90", b"\x05"):
        raw = HEADER.pack(message.body_start + len(tail), *HEADER.unpack_from(message.raw)[1:])
        raw += message.raw[HEADER.size : message.body_start] + tail
        with pytest.raises(MalformedBatch, match="tail"):
            decode(parse(raw))
