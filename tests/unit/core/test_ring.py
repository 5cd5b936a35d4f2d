from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrade.core.events import LineDown
from raytrade.core.message import Message, encode, parse
from raytrade.core.ring import MessageRing


def message(number: int, padding: int = 0) -> Message:
    return parse(encode(LineDown(venue="v", cause="." * padding, ts_recv_ns=number), "line"))


def numbers(messages: object) -> list[int]:
    assert hasattr(messages, "__iter__")
    return [each.ts_recv_ns for each in messages]


def filled(items: int, items_max: int = 8) -> MessageRing:
    ring = MessageRing(10_000, items_max)
    for number in range(items):
        ring.append(message(number))
    return ring


@pytest.mark.parametrize("items", [0, 1, 7, 8, 9, 15, 16, 17, 100])
def test_the_oldest_go_first(items: int) -> None:
    ring = filled(items)
    assert (ring.start, ring.end) == (max(0, items - 8), items)
    for index in range(items + 2):
        assert numbers(ring.read(index)) == list(range(max(index, ring.start), items))
    assert numbers(ring.read_back()) == list(range(ring.start, items))[::-1]


def test_bytes_are_bounded_too() -> None:
    each = len(message(0).raw)
    ring = MessageRing(3 * each, 100)
    for number in range(10):
        ring.append(message(number))
        assert ring.bytes_held <= ring.bytes_max
    assert (ring.start, ring.end, ring.bytes_held) == (7, 10, 3 * each)


def test_slots_follow_what_is_held_and_not_what_has_passed() -> None:
    each = len(message(0).raw)
    ring = MessageRing(1500 * each, 1_000_000)
    for number in range(20_000):
        ring.append(message(number))
    assert (ring.start, ring.end) == (18_500, 20_000)
    assert len(ring._slots) == 2048
    assert sum(slot is not None for slot in ring._slots) == 1500
    assert numbers(ring.read(0)) == list(range(18_500, 20_000))


@pytest.mark.parametrize("dropped", [0, 1, 700, 1023, 1024, 5000])
@pytest.mark.parametrize("items_max", [1025, 1600, 2048, 3000])
def test_growing_keeps_the_order_wherever_the_oldest_rests(dropped: int, items_max: int) -> None:
    each = len(message(0).raw)
    ring = MessageRing(1024 * each, items_max)
    for number in range(1024 + dropped):
        ring.append(message(number))
    ring.bytes_max = 10_000 * each
    reading = ring.read(0)
    assert next(reading).ts_recv_ns == dropped
    for number in range(1024 + dropped, 6000 + dropped):
        ring.append(message(number))
    assert ring.end - ring.start == items_max
    assert numbers(ring.read(0)) == list(range(6000 + dropped - items_max, 6000 + dropped))
    assert numbers(reading) == []


def test_a_message_larger_than_the_ring_is_not_held() -> None:
    ring = MessageRing(200, 100)
    ring.append(message(0))
    ring.append(message(1, padding=500))
    assert (ring.start, ring.end, ring.bytes_held) == (2, 2, 0)
    ring.append(message(2))
    assert numbers(ring.read(0)) == [2]


def test_reading_goes_on_while_messages_are_added() -> None:
    ring = filled(6, items_max=4)
    reading = ring.read(2)
    assert next(reading).ts_recv_ns == 2
    ring.append(message(6))
    ring.append(message(7))
    assert numbers(reading) == [4, 5]
    assert numbers(ring.read(0)) == [4, 5, 6, 7]


def test_dropped_messages_are_let_go() -> None:
    ring = filled(100, items_max=50)
    ring.bytes_max = 2 * len(message(0).raw)
    ring.append(message(100))
    held = [slot for slot in ring._slots if slot is not None]
    assert sorted(numbers(held)) == [99, 100]


@given(st.lists(st.integers(0, 120), max_size=60), st.integers(1, 9), st.integers(60, 900))
def test_the_ring_is_the_end_of_the_list(paddings: list[int], items_max: int, bytes_max: int) -> None:
    ring = MessageRing(bytes_max, items_max)
    everything = [message(number, padding) for number, padding in enumerate(paddings)]
    for each in everything:
        ring.append(each)
        assert ring.bytes_held == sum(len(held.raw) for held in ring.read(0)) <= bytes_max
        assert ring.end - ring.start <= items_max
    assert list(ring.read(0)) == everything[ring.start :]
    assert ring.end == len(everything)
