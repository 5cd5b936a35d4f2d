"""The bytes of messages and batches: what was written is read again, and damage is nothing but `MalformedBatch`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
from raytrade.core.message import decode, encode, join, parse, split
from raytrade.errors import MalformedBatch, VersionSkew
from raytrade.links.batch import BatchHeader, decode_batch, encode_batch

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NAMES = TEXT.filter(lambda name: len(name.encode()) <= 255)
IDS = st.integers(0, 2**63 - 1)
SIGNED = st.integers(-(2**63), 2**63 - 1)
SCALES = st.integers(0, 18)
PRICES = st.one_of(st.integers(0, 1000), IDS, st.integers(0, 10**38 - 1))
LEVELS = st.lists(st.tuples(PRICES, PRICES), max_size=8).map(lambda rows: tuple(v for row in rows for v in row))
FLAGS = st.sets(st.sampled_from([flag for flag in Flag if flag is not Flag.WIDE])).map(sum)

BOOK: dict[str, Any] = {
    "instrument": NAMES,
    "id_last": SIGNED,
    "bids": LEVELS,
    "asks": LEVELS,
    "price_scale": SCALES,
    "size_scale": SCALES,
    "ts_venue_ns": SIGNED,
    "ts_recv_ns": SIGNED,
    "epoch": SIGNED,
    "state_hash": st.integers(0, 2**64 - 1),
    "flags": FLAGS,
}
NOTE: dict[str, Any] = {"instrument": NAMES, "channel": st.sampled_from(Channel), "ts_recv_ns": SIGNED}
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(BookDelta, id_prev=SIGNED, **BOOK),
    st.builds(BookSnapshot, depth=st.integers(0, 2**32 - 1), **BOOK),
    st.builds(
        Trade,
        instrument=NAMES,
        trade_id=TEXT,
        price=PRICES,
        size=PRICES,
        price_scale=SCALES,
        size_scale=SCALES,
        aggressor=st.sampled_from(Side),
        sequence=IDS,
        ts_venue_ns=SIGNED,
        ts_recv_ns=SIGNED,
        flags=FLAGS,
    ),
    st.builds(
        Gap,
        kind=st.sampled_from(GapKind),
        id_prev=SIGNED,
        id_last=SIGNED,
        cause=TEXT,
        lines=st.lists(TEXT, max_size=3).map(tuple),
        epoch=SIGNED,
        **NOTE,
    ),
    st.builds(Resynced, id_last=SIGNED, epoch=SIGNED, **NOTE),
    st.builds(LineUp, venue=NAMES, ts_recv_ns=SIGNED),
    st.builds(LineDown, venue=NAMES, cause=TEXT, ts_recv_ns=SIGNED),
    st.builds(Stalled, cause=TEXT, **NOTE),
)
RUNS = st.lists(st.tuples(EVENTS, NAMES), max_size=6)


def batch_of(run: list[tuple[Event, str]]) -> bytes:
    return encode_batch(BatchHeader(2**64 - 1, 2, 3, -4, len(run)), b"".join(encode(*each) for each in run))


def read(data: bytes) -> None:
    """Read everything there is to read."""
    try:
        for message in decode_batch(data)[1]:
            event = decode(message)
            assert decode(parse(encode(event, message.line))) == event
    except (MalformedBatch, VersionSkew):
        pass


@given(EVENTS, NAMES)
def test_what_is_read_is_what_was_written(event: Event, line: str) -> None:
    message = parse(encode(event, line))
    assert decode(message) == event
    assert message.line == line
    assert message.ts_recv_ns == event.ts_recv_ns


@given(RUNS)
def test_runs_come_apart_as_they_were_joined(run: list[tuple[Event, str]]) -> None:
    messages = [parse(encode(*each)) for each in run]
    assert split(join(messages)) == messages
    header, received = decode_batch(batch_of(run))
    assert (header.count, received) == (len(run), messages)


@given(EVENTS, st.sets(st.sampled_from([flag for flag in Flag if flag is not Flag.WIDE])))
def test_a_flag_is_a_flag_and_nothing_else(event: Event, flags: set[Flag]) -> None:
    message = parse(encode(event, "l"))
    marked = message
    for flag in flags:
        marked = marked.flagged(flag)
    assert parse(marked.raw) == marked
    assert marked.levels() == message.levels()
    assert marked.unflagged(sum(flags)) == message.unflagged(sum(flags))


@given(RUNS, st.data())
def test_truncated_bytes_are_refused(run: list[tuple[Event, str]], data: st.DataObject) -> None:
    whole = batch_of(run)
    end = data.draw(st.integers(0, len(whole) - 1))
    try:
        decode_batch(whole[:end])
    except MalformedBatch:
        return
    raise AssertionError("a part of a batch was taken for a batch")


@given(RUNS, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits_raise_nothing_else(run: list[tuple[Event, str]], flips: list[tuple[int, int]]) -> None:
    raw = bytearray(batch_of(run))
    for at, bit in flips:
        raw[at % len(raw)] ^= 1 << bit
    read(bytes(raw))


@given(EVENTS, st.data())
def test_flipped_header_bits_raise_nothing_else(event: Event, data: st.DataObject) -> None:
    raw = bytearray(encode(event, "line"))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, min(len(raw), 90) - 1))] = data.draw(st.integers(0, 255))
    read(encode_batch(BatchHeader(1, 2, 3, 4, 1), bytes(raw)))


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    read(data)
    read(encode_batch(BatchHeader(1, 2, 3, 4, 1), data))
