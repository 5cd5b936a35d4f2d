"""The dialects by themselves: any request gets an answer, and none is an exception."""

from __future__ import annotations

import json
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.emulator import VENUES
from raytrade.emulator.dialect import Reply, Session, Subscribe, iso_time
from raytrade.emulator.digits import canonical_text, fixed_text
from raytrade.emulator.frames import encode_frame
from raytrade.emulator.market import Level, SymbolBook
from raytrade.emulator.venues import DIALECTS
from raytrade.emulator.venues.kraken import checksum_of

WORDS = [
    *("method", "params", "id", "op", "args", "type", "channel", "product_ids", "symbol", "depth"),
    *("subscribe", "unsubscribe", "SUBSCRIBE", "subscribeOrderbook", "subscriptions", "name", "l2"),
    *(
        "symbols",
        "req_id",
        "book",
        "level2",
        "orderbook.50.X",
        "x@depth",
        "X",
        "ping",
        "heartbeats",
    ),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("venue", VENUES)
@settings(max_examples=150, deadline=None)
@given(values.map(json.dumps) | st.text(max_size=20))
def test_any_request_is_answered(venue: str, text: str) -> None:
    dialect = DIALECTS[venue](("X", "Y"))
    session = Session("/", {"snapshot": "-1"})
    for action in dialect.receive(session, text, lambda symbol: symbol == "X"):
        if isinstance(action, Reply):
            json.loads(f"{action.text}{'' if action.tail is None else '0' + action.tail}")
        elif isinstance(action, Subscribe):
            assert action.topic.symbol in ("X", "")


@pytest.mark.parametrize("venue", VENUES)
def test_addresses_of_other_venues_are_unknown(venue: str) -> None:
    dialect = DIALECTS[venue](("X",))
    assert dialect.open(Session("/no/such/path", {}), lambda symbol: True) is None


@given(st.integers(0, 10**15), st.integers(0, 9))
def test_digits_are_exact(value: int, scale: int) -> None:
    text = fixed_text(value, scale, scale + 2)
    assert int(text.replace(".", "")) == value * 100
    short = canonical_text(value, scale)
    whole, _, part = short.partition(".")
    assert int(whole + part.ljust(scale, "0")) == value
    assert not part.endswith("0") and "e" not in short


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65_536, b"\x81\x7f")],
)
def test_frames_have_the_right_head(size: int, head: bytes) -> None:
    frame = encode_frame(b"x" * size)
    assert frame.startswith(head) and frame.endswith(b"x" * size)
    assert len(frame) - size == {0: 2, 125: 2, 126: 4, 65_536: 10}[size]


def test_times_are_printed_in_utc() -> None:
    assert iso_time(1_700_000_000_123_456_789, 9) == "2023-11-14T22:13:20.123456789Z"
    assert iso_time(1_700_000_000_123_456_789, 3) == "2023-11-14T22:13:20.123Z"
    assert iso_time(time.time_ns(), 6).endswith("Z")


def test_the_checksum_covers_ten_levels_asks_first() -> None:
    book = SymbolBook("X", 1)
    levels = [Level(True, 100 - n, 5 + n) for n in range(12)]
    levels += [Level(False, 101 + n, 7 + n) for n in range(12)]
    book.apply(levels, 2)
    asks = "".join(f"{101 + n}{7 + n}" for n in range(10))
    bids = "".join(f"{100 - n}{5 + n}" for n in range(10))
    assert checksum_of(book) == zlib.crc32((asks + bids).encode())
