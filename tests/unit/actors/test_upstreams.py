"""Links between actors, with everything but Ray: how they heal, what they refuse, and that they leave nothing."""

from __future__ import annotations

import gc
import os
import struct
import threading
from pathlib import Path

import msgspec
import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Channel, Gap, GapKind
from raytrade.core.message import SCHEMA_VERSION, Kind, Message
from raytrade.links import reader
from raytrade.links.batch import BatchHeader, encode_batch
from raytrade.links.policy import Policy
from raytrade.links.writer import LinkSettings
from tests.unit.actors.inside import Registry, Sink, Source, until
from tests.unit.links.streams import message_of

RELINKS = 1000
NAME = "binance-spot:A"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    return Registry(monkeypatch)


def step(number: int, name: str = NAME) -> Message:
    return message_of(
        BookDelta(
            instrument=name, id_prev=number - 1, id_last=number, bids=(1, 2), asks=(), price_scale=0, size_scale=0
        )
    )


def book(number: int, levels: int = 1) -> Message:
    bids = tuple(range(1, 2 * levels + 1))
    return message_of(BookSnapshot(instrument=NAME, id_last=number, bids=bids, asks=(), price_scale=0, size_scale=0))


def hold(gate: threading.Event) -> None:
    gate.wait()


def has(sink: Sink, number: int) -> bool:
    return bool(sink.received) and sink.received[-1].id_last == number


@pytest.mark.parametrize("lane", ["shm", "call"])
def test_a_thousand_openings_leave_nothing_behind(registry: Registry, lane: str) -> None:
    """Every one goes on where the last one ended; descriptors, threads and sockets are what they were."""
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node=lane)
    until(lambda: has(sink, 1), "the image")
    source.give(step(2))
    until(lambda: has(sink, 2), "the first update")

    def held() -> tuple[int, int, int]:
        gc.collect()
        sockets = Path("/proc/net/unix").read_text().count("@raytrade-")
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), sockets

    openings = sink.upstreams.statistics()["w"]

    def relink() -> None:
        until(lambda: not sink.upstreams._opening, "the last opening is answered")
        opened = openings.openings
        sink.thread.call(sink.reopen)
        until(lambda: openings.openings > opened and "w" in sink.upstreams.up(), "open again")

    for _ in range(10):
        relink()
    before = held()
    for number in range(RELINKS):
        source.give(step(3 + number))
        relink()
    until(lambda: has(sink, RELINKS + 2), "the last update")
    assert openings.openings > RELINKS
    until(lambda: held()[0] <= before[0] + 1, "the descriptors of the last link")
    assert held()[1] <= before[1] + 1
    assert [each.id_last for each in sink.received] == list(range(1, RELINKS + 3))
    sink.stop()
    source.die(registry)


@pytest.mark.parametrize("lane", ["shm", "call"])
def test_a_writer_that_dies_and_comes_back_is_followed_from_an_image(registry: Registry, lane: str) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node=lane)
    until(lambda: has(sink, 1), "the image")
    source.give(step(2))
    until(lambda: has(sink, 2), "the first update")
    source.die(registry)
    until(lambda: sink.changes[-1:] == [False], "the loss is noticed")
    again = Source(registry, "w", book(7))
    until(lambda: has(sink, 7), "the image of the new one")
    again.give(step(8))
    until(lambda: has(sink, 8), "what follows it")
    sink.stop()
    again.die(registry)


def test_a_reader_that_dies_lets_its_lane_go(registry: Registry) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"])
    until(lambda: has(sink, 1), "the image")
    sink.stop()
    source.give(step(2))
    until(lambda: not source.publisher.lanes(), "the writer notices")
    again = Sink(registry, "r", ["w"])
    until(lambda: again.received, "the next one has an image")
    again.stop()
    source.die(registry)


def test_a_reader_that_was_paused_goes_on_where_it_was_or_hears_of_the_gap(registry: Registry) -> None:
    settings = LinkSettings(ring_items_max=2_000)
    source, sink = Source(registry, "w", book(1, 5_000), settings=settings), Sink(registry, "r", ["w"])
    until(lambda: has(sink, 1), "the image")
    gate = threading.Event()
    sink.thread.post(hold, gate)
    source.give(*(step(number) for number in range(2, 1_000)))
    gate.set()
    until(lambda: has(sink, 999), "all that it missed")
    assert [each.id_last for each in sink.received] == list(range(1, 1_000))
    gate.clear()
    sink.thread.post(hold, gate)
    for start in range(1_000, 60_000, 1_000):
        source.give(*(step(number) for number in range(start, start + 1_000)))
        source.thread.call(lambda: None)
    gate.set()
    until(lambda: any(each.kind is Kind.GAP for each in sink.received), "the gap")
    until(lambda: has(sink, 59_999), "the image after it")
    assert sink.changes == [True]
    sink.stop()
    source.die(registry)


# What is refused.


def bad_tail() -> Message:
    gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=1, id_last=2, cause="cause")
    good = message_of(gap)
    return msgspec.structs.replace(good, raw=good.raw[:-9] + bytes([0xC1]) * 9)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (bad_tail(), "tail of a GAP message"),
        (step(3, "nowhere:A"), "no venue is known for nowhere:A"),
        (step(3, "loose name"), "no venue is known for loose name"),
    ],
)
@pytest.mark.parametrize("lane", ["shm", "call"])
def test_a_batch_of_nonsense_is_refused_and_the_stream_goes_on(
    registry: Registry, bad: Message, told: str, lane: str
) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node=lane)
    until(lambda: has(sink, 1), "the image")
    source.give(step(2), bad)
    counts = sink.upstreams.statistics()["w"]
    until(lambda: counts.malformed, "it is refused")
    assert told in until(lambda: counts.refused, "what was wrong is told")
    openings = counts.openings
    until(lambda: counts.openings > openings and "w" in sink.upstreams.up(), "the link is opened anew")
    until(lambda: not sink.upstreams._opening, "the opening is answered")
    source.give(step(4))
    until(lambda: has(sink, 4), "the stream goes on")
    assert "w" in sink.upstreams.up()
    sink.stop()
    source.die(registry)


def test_bytes_that_are_no_batch_and_batches_of_others_are_counted(registry: Registry) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node="call")
    until(lambda: has(sink, 1), "the image")
    counts = sink.upstreams.statistics()["w"]
    sink.receive_batch("w", encode_batch(BatchHeader(1, 0, 0, 0, 1), step(9).raw))
    until(lambda: counts.foreign, "a batch of another link")
    sink.receive_batch("stranger", os.urandom(200))
    sink.receive_batch("w", os.urandom(200))
    until(lambda: counts.malformed, "no batch at all")
    source.give(step(2))
    until(lambda: has(sink, 2), "the stream goes on where it was")
    assert [each.id_last for each in sink.received] == [1, 2]
    sink.stop()
    source.die(registry)


def test_a_packet_that_its_writer_could_still_change_is_counted(registry: Registry) -> None:
    import socket

    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"])
    until(lambda: has(sink, 1), "the image")
    (lane,) = [lane for _, lane in source.publisher._links.values()]
    descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"x" * 100)
    socket.send_fds(lane._socket, [b"M"], [descriptor])  # type: ignore[attr-defined]
    os.close(descriptor)
    counts = sink.upstreams.statistics()["w"]
    until(lambda: counts.malformed, "it is refused")
    source.give(step(2))
    until(lambda: has(sink, 2), "the stream goes on")
    sink.stop()
    source.die(registry)


def test_another_schema_is_told_at_both_ends(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    refused: list[str] = []
    source = Source(registry, "w", book(1))
    original = source.open_link

    def open_link(wish: bytes, actor: object) -> int:
        try:
            return original(wish, actor)
        except Exception as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr(source, "open_link", open_link)
    sink = Sink(registry, "r", ["w"])
    problem = until(lambda: sink.upstreams.problems().get("w"), "the reader is told")
    assert problem.startswith("w refuses: ")
    assert f"batch schema {SCHEMA_VERSION + 1}" in problem
    assert refused and refused[0] in problem
    monkeypatch.undo()
    sink.stop()
    source.die(registry)


def test_a_batch_of_another_schema_is_a_clear_problem(registry: Registry) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node="call")
    until(lambda: has(sink, 1), "the image")
    raw = bytearray(encode_batch(BatchHeader(1, 0, 0, 0, 1), step(9).raw))
    struct.pack_into("<H", raw, 4, SCHEMA_VERSION + 1)
    sink.receive_batch("w", bytes(raw))
    problem = until(lambda: sink.upstreams.statistics()["w"].refused, "it is told")
    assert f"batch schema {SCHEMA_VERSION + 1}, this side {SCHEMA_VERSION}" in problem
    sink.stop()
    source.die(registry)


def test_a_link_that_ended_for_good_says_why(registry: Registry) -> None:
    settings = LinkSettings(ring_items_max=100)
    source = Source(registry, "w", book(1), settings=settings)
    sink = Sink(registry, "r", ["w"], policy=Policy.FAIL)
    until(lambda: has(sink, 1), "the image")
    gate = threading.Event()
    sink.thread.post(hold, gate)
    for start in range(2, 40_000, 100):
        source.give(*(step(number) for number in range(start, start + 100)))
        source.thread.call(lambda: None)
    gate.set()
    problem = until(lambda: sink.upstreams.problems().get("w"), "the reason")
    assert "r: " in problem and "policy fail" in problem
    assert until(lambda: sink.changes == [True, False], "it is down")
    assert all(each.kind is not Kind.GAP for each in sink.received)
    assert [each.id_last for each in sink.received] == list(range(1, len(sink.received) + 1))
    sink.stop()
    source.die(registry)


@pytest.mark.parametrize("lane", ["shm", "call"])
def test_who_only_told_what_there_is_sends_what_follows_when_asked(registry: Registry, lane: str) -> None:
    source, sink = Source(registry, "w", book(1)), Sink(registry, "r", ["w"], same_node=lane)
    sink.thread.call(sink.upstreams.set_digests, frozenset({"w"}), {})
    source.give(*(step(number) for number in range(2, 40)))
    until(lambda: sink.received and sink.received[-1].id_last == 39, "the digest of the last one")
    assert all(message.kind is Kind.DIGEST for message in sink.received if message.id_last > 1)
    sink.thread.call(sink.upstreams.set_digests, frozenset(), {f"{NAME}/book": 30})
    until(lambda: sink.received[-1].kind is Kind.DELTA and has(sink, 39), "messages")
    assert [message.id_last for message in sink.received if message.kind is Kind.DELTA] == list(range(31, 40))
    sink.thread.call(sink.upstreams.set_digests, frozenset({"w"}), {})
    until(lambda: sink.changes[-2:] == [False, True], "digests again")
    source.give(step(40))
    until(lambda: sink.received[-1].kind is Kind.DIGEST and has(sink, 40), "told, not sent")
    sink.stop()
    source.die(registry)
