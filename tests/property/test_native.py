"""The accelerator gives what Python gives, or None, and leaves alone what it gives None for.

Where it is not installed the same properties hold of the Python code alone, which is the reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrade.core import book, packing, prices
from raytrade.core import message as messages
from raytrade.core.book import _HalfBook
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event
from raytrade.core.message import (
    Message,
    _parse,
    _split,
    _write_book,
    encode,
    join,
    message_of,
    parse,
    split,
    split_checked,
)
from raytrade.core.native import NATIVE
from raytrade.core.packing import unpack_levels
from raytrade.errors import DecodeError, MalformedBatch
from raytrade.venues import binance
from raytrade.venues.binance import BINANCE_SPOT
from raytrade.venues.binance_futures import BINANCE_USDM
from raytrade.venues.protocol import Endpoint, Subscription
from tests.property.test_codec import BOOK, EVENTS, IDS, NAMES, RUNS, SIGNED

HUGE = st.integers(-(2**130), 2**130)
ODD = st.one_of(SIGNED, HUGE, st.booleans(), st.floats(allow_nan=False), st.none())
VALUES = st.lists(st.one_of(st.integers(-3, 30), SIGNED, HUGE), max_size=12).map(tuple)


def outcome(work: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What a call gives, or how it fails."""
    try:
        return "gives", work(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is must be the same on both sides
        return type(error).__name__, str(error)


def exactly(message: Message) -> list[tuple[type, Any]]:
    """Every field with its type: 1 is not True, and a Kind is not an int."""
    return [(type(value), value) for value in msgspec.structs.astuple(message)]


def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the accelerator off wherever it was taken in."""
    monkeypatch.setattr(messages, "_codec", None)
    for module in (book, packing, prices, binance):
        monkeypatch.setattr(module, "NATIVE", None)


# Messages.


@given(EVENTS, NAMES)
def test_a_message_is_read_alike(event: Event, line: str) -> None:
    raw = encode(event, line)
    assert exactly(parse(raw)) == exactly(_parse(raw))


@given(st.one_of(st.builds(BookDelta, id_prev=SIGNED, **BOOK), st.builds(BookSnapshot, depth=IDS, **BOOK)), NAMES)
def test_a_book_event_is_written_alike(event: Event, line: str) -> None:
    theirs = outcome(_write_book, event, line)
    ours = outcome(message_of, event, line)
    assert ours[0] == theirs[0]
    assert (exactly(ours[1]) == exactly(theirs[1])) if ours[0] == "gives" else ours == theirs


FIELDS = [field for field in BookDelta.__struct_fields__ if field not in ("instrument", "bids", "asks")]
PLAIN: dict[str, Any] = dict.fromkeys(FIELDS, 1) | {"instrument": "v:s", "bids": (1, 2), "asks": ()}


@given(st.sampled_from(FIELDS), ODD, VALUES, st.text(max_size=300))
def test_an_odd_field_is_written_alike_or_fails_alike(field: str, value: Any, levels: Any, name: str) -> None:
    event = BookDelta(**PLAIN | {field: value, "bids": levels, "instrument": name})
    theirs, ours = outcome(_write_book, event, "line"), outcome(message_of, event, "line")
    assert ours == theirs


@given(RUNS, st.binary(max_size=7))
def test_runs_come_apart_alike(run: list[tuple[Event, str]], before: bytes) -> None:
    payload = join(parse(encode(*each)) for each in run)
    expected = [exactly(message) for message in _split(payload)]
    assert [exactly(message) for message in split(payload)] == expected
    assert [exactly(message) for message in split_checked(before + payload, len(before))] == expected


@given(RUNS, st.data())
def test_damage_is_told_alike(run: list[tuple[Event, str]], data: st.DataObject) -> None:
    payload = bytearray(join(parse(encode(*each)) for each in run))
    for _ in range(data.draw(st.integers(0, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    for damaged in (bytes(payload), cut):
        assert outcome(split, damaged) == outcome(_split, damaged)
        assert outcome(parse, damaged) == outcome(_parse, damaged)


@given(st.binary(max_size=300))
def test_noise_is_told_alike(noise: bytes) -> None:
    assert outcome(split, noise) == outcome(_split, noise)
    assert outcome(parse, noise)[0] == MalformedBatch.__name__


@given(st.binary(max_size=80), st.integers(0, 90), st.integers(0, 6), st.integers(0, 2**32))
def test_levels_are_read_alike(raw: bytes, start: int, bids: int, asks: int) -> None:
    asks = asks if asks < 6 else asks % 6
    with pytest.MonkeyPatch.context() as patch:
        ours = outcome(unpack_levels, raw, start, bids, asks, False)
        in_python(patch)
        assert outcome(unpack_levels, raw, start, bids, asks, False) == ours


# Books.


class Half:
    """A side of a book moved by Python alone."""

    def __init__(self, sign: int) -> None:
        self.half = _HalfBook(sign)

    def apply(self, levels: tuple[int, ...]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            in_python(patch)
            self.half.apply(levels)


LEVELS = st.lists(
    st.tuples(st.one_of(st.integers(-5, 25), HUGE, SIGNED), st.sampled_from([0, 0, 1, 7, 2**70, -3])), max_size=40
)


@given(st.sampled_from([1, -1]), st.lists(LEVELS, max_size=6))
def test_a_side_moves_alike(sign: int, moves: list[list[tuple[int, int]]]) -> None:
    ours, theirs = _HalfBook(sign), Half(sign)
    for rows in moves:
        levels = tuple(value for row in rows for value in row)
        ours.apply(levels)
        theirs.apply(levels)
        assert list(ours.sizes.items()) == list(theirs.half.sizes.items())
        assert ours.keys == theirs.half.keys == sorted(ours.keys)


@given(VALUES, st.sampled_from([1, -1]))
def test_an_odd_number_of_values_fails_alike(values: tuple[int, ...], sign: int) -> None:
    ours, theirs = _HalfBook(sign), Half(sign)
    assert outcome(ours.apply, values) == outcome(theirs.apply, values)
    assert (ours.keys, ours.sizes) == (theirs.half.keys, theirs.half.sizes)


# Prices out of JSON.

EVEN = st.integers(0, 99_999).map(lambda number: f"{number // 100}.{number % 100:02d}")
TEXTS = [
    "",
    ".",
    "1.",
    ".5",
    "-1.00",
    "1e5",
    "1.00 ",
    "\u0661.00",
    "NaN",
    "0.00",
    "00.10",
    "7",
    "3.25",
    "8.125",
    "9" * 19,
]
TEXTS += ["9" * 20 + ".50", "9" * 21, "1." + "1" * 18, "1." + "1" * 19, "12345678901234567.89", "123456789012345678.9"]
DECIMALS = st.sampled_from(TEXTS)
SIDES: st.SearchStrategy[Any] = st.one_of(
    st.lists(st.tuples(EVEN, EVEN), max_size=4),
    st.lists(st.tuples(EVEN, EVEN), max_size=4),
    st.integers(60, 70).map(lambda count: [("1.25", f"{at}.50") for at in range(count)]),
    st.lists(st.tuples(DECIMALS, DECIMALS), max_size=3),
    st.sampled_from([[["1.00"]], [["1.00", "2.00", "3.00"]], [[]], [[1, 2]], {}, None, [["1.00", "2.00"], []]]),
)
SPACING = st.sampled_from([(",", ":"), (", ", ": ")])


@given(SIDES, SIDES, SPACING, st.integers(0, 3), st.integers(0, 3))
def test_sides_are_read_alike(bids: Any, asks: Any, spacing: Any, price_scale: int, size_scale: int) -> None:
    raws = [msgspec.Raw(json.dumps(side, separators=spacing).encode()) for side in (bids, asks)]
    ours, theirs = (prices.Quantizer(price_scale, size_scale) for _ in range(2))
    found = outcome(ours.json_levels, *raws)
    with pytest.MonkeyPatch.context() as patch:
        in_python(patch)
        assert outcome(theirs.json_levels, *raws) == found
    assert (ours.prices.scale, ours.sizes.scale) == (theirs.prices.scale, theirs.sizes.scale)


NUMBERS = st.one_of(
    st.integers(0, 50), IDS, st.integers(-(2**70), 2**70), st.floats(0, 100), st.none(), st.just("7"), st.booleans()
)
SYMBOLS = st.one_of(st.sampled_from(["BTCUSDT", "ETH-USDT", "a b", "", "\u20ac", 'q"q', "b\\s"]), st.text(max_size=4))
PAYLOADS = st.fixed_dictionaries(
    {"e": st.sampled_from(["depthUpdate", "depthUpdate", "depthUpdate", "kline"])},
    optional={
        "E": NUMBERS,
        "T": NUMBERS,
        "s": SYMBOLS,
        "U": NUMBERS,
        "u": NUMBERS,
        "pu": NUMBERS,
        "b": SIDES,
        "a": SIDES,
        "x": NUMBERS,
    },
)
REST = st.sampled_from([{}, {"pu": 3}, {"pu": 3, "T": 8}, {"T": 0}])
GOOD = st.builds(
    lambda names, bids, asks, rest: (
        {"e": "depthUpdate", "E": 9, "s": names[0], "U": names[1], "u": names[1] + 3} | {"b": bids, "a": asks} | rest
    ),
    st.sampled_from([("BTCUSDT", 0), ("BTCUSDT", 7), ("ETHUSDT", 2**62), ("ETHUSDT", 10**18 - 1)]),
    SIDES,
    SIDES,
    REST,
)


def read_all(spec: Any, frames: list[bytes]) -> Any:
    machine = spec.machine(spec.name, Endpoint(url="ws://x", subscriptions=(Subscription("BTCUSDT"),)))
    machine.receive_open(1)
    for at, frame in enumerate(frames):
        machine.receive_frame(frame, 1000 + at)
    scales = {name: (found.prices.scale, found.sizes.scale) for name, found in machine._quantizers.items()}
    return machine.events(), machine.commands(), msgspec.to_builtins(machine.statistics()), scales


@pytest.mark.parametrize("spec", [BINANCE_SPOT, BINANCE_USDM], ids=lambda spec: spec.name)
@given(
    st.lists(st.tuples(st.one_of(GOOD, GOOD, PAYLOADS), SPACING, st.booleans(), st.integers(0, 300)), max_size=5),
    st.booleans(),
)
def test_depth_frames_are_read_alike(spec: Any, drawn: list[Any], is_cut: bool) -> None:
    frames = []
    for payload, spacing, is_wrapped, cut in drawn:
        whole = {"stream": "btcusdt@depth", "data": payload} if is_wrapped else payload
        text = json.dumps(whole, separators=spacing).encode()
        frames.append(text[:cut] if is_cut else text)
        if not is_cut and cut > 250:
            frames.append(text.replace(b'"e"', b'"x"' if cut > 275 else b'"e":"depthUpdate","e"'))
    ours = read_all(spec, frames)
    with pytest.MonkeyPatch.context() as patch:
        in_python(patch)
        assert read_all(spec, frames) == ours


@given(st.binary(max_size=60), st.integers(0, 400))
def test_a_damaged_frame_is_read_alike(noise: bytes, at: int) -> None:
    good = b'{"stream":"b","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["1.0","2.0"]],"a":[]}}'
    frames = [good, good[:at] + noise + good[at:], good[:at] + noise, good[:at] + noise + good[at + len(noise) :]]
    ours = read_all(BINANCE_SPOT, frames)
    with pytest.MonkeyPatch.context() as patch:
        in_python(patch)
        assert read_all(BINANCE_SPOT, frames) == ours


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_the_usual_frame_is_read_at_once(is_wrapped: bool) -> None:
    """It gives what it says; and where the accelerator is there, it is the accelerator that reads it."""
    frame = (
        b'{"e":"depthUpdate","E":5,"s":"BTCUSDT","U":8,"u":9,"b":[["1.10","2.5"]],"a":[["1.30","0.0"],["1.40","7.0"]]}'
    )
    if is_wrapped:
        frame = b'{"stream":"btcusdt@depth@100ms","data":' + frame + b"}"
    machine = BINANCE_SPOT.machine("v", Endpoint(url="ws://x", subscriptions=(Subscription("BTCUSDT"),)))
    with pytest.MonkeyPatch.context() as patch:
        for ts_recv_ns in (1, 2):
            machine.receive_frame(frame, ts_recv_ns)
            if NATIVE is not None:
                patch.setattr(binance, "_frames", None)
    first, second = machine.events()
    expected = {"instrument": "v:BTCUSDT", "id_prev": 7, "id_last": 9, "bids": (110, 25), "asks": (130, 0, 140, 70)}
    scales = {"price_scale": 2, "size_scale": 1}
    assert first == BookDelta(**expected, **scales, ts_venue_ns=5_000_000, ts_recv_ns=1)  # type: ignore[arg-type]
    assert second == msgspec.structs.replace(first, ts_recv_ns=2)


def test_the_usual_work_is_not_given_back() -> None:
    """Of each function one plain case: the result is right, and the accelerator does not leave it to Python."""
    sizes, keys = {5: 1}, [-5]
    event = BookDelta(**PLAIN)
    message = _write_book(event, "l")
    side = msgspec.Raw(b'[["1.5","2"]]')
    if NATIVE is not None:
        assert NATIVE.move_side(sizes, keys, -1, (6, 2, 5, 0)) is True
        assert (sizes, keys) == ({6: 2}, [-6])
        assert NATIVE.even_sides(side, side, 1, 0) == [(15, 2), (15, 2)]
        assert messages._codec is not None
        assert messages._codec.parse(message.raw) == messages._codec.message_of(event, "l") == message
        assert messages._codec.split(b"x" + message.raw, 1) == ([message], True)
        assert NATIVE.read_levels(message.raw, message.body_start, 1, 0) == ((1, 2), ())
    assert message.levels() == ((1, 2), ())
    assert prices.Quantizer(1, 0).json_levels(side, side) == [(15, 2), (15, 2)]


# Of the accelerator alone.

TARGETS: list[Callable[..., Any]] = []
if NATIVE is not None:
    codec = NATIVE.Codec(Message, BookDelta, BookSnapshot, (None,), (Channel.BOOK,))
    TARGETS = [
        NATIVE.depth_update,
        NATIVE.even_sides,
        NATIVE.move_side,
        NATIVE.read_levels,
        codec.parse,
        codec.split,
        codec.message_of,
    ]
ANYTHING = st.one_of(ODD, st.binary(max_size=90), st.text(max_size=5), VALUES, VALUES.map(list), st.just({}))


@given(st.lists(ANYTHING, max_size=5))
def test_no_arguments_do_harm(arguments: list[Any]) -> None:
    """Wrong ones are refused; without the accelerator Python refuses what is no message."""
    for target in TARGETS:
        kind, given = outcome(target, *arguments)
        assert kind == "TypeError" or given in (None, True) or isinstance(given, tuple | list)
    for argument in arguments:
        if isinstance(argument, bytes):
            with pytest.raises(MalformedBatch):
                _parse(argument)
            with pytest.raises((DecodeError, msgspec.MsgspecError)):
                prices.Quantizer(0, 0).json_levels(msgspec.Raw(argument), msgspec.Raw(b"x"))
