"""The shm lane: packets, shared batches, strangers, full lanes, ends, and nothing left behind."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import msgspec
import pytest

from raytrade.links.lanes import open_lane
from raytrade.links.local import PACKET_BYTES_MAX, Hello, LocalLane, LocalListener, LocalReceiver, host_id
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Sent

RELINKS = 1000


def never(problem: str | None) -> None:
    pytest.fail(f"a local lane has no pending batches: {problem}")


def connected() -> tuple[LocalListener, LocalLane, LocalReceiver]:
    listener = LocalListener()
    lane = LocalLane(listener.address, listener.token, "writer")
    receiver = listener.accept()
    assert receiver is not None
    return listener, lane, receiver


def close(listener: LocalListener, lane: LocalLane, receiver: LocalReceiver) -> None:
    lane.close()
    receiver.close()
    listener.close()


@pytest.mark.parametrize("size", [1, 200, PACKET_BYTES_MAX, PACKET_BYTES_MAX + 1, 5_000_000])
def test_a_batch_arrives_as_it_was(size: int) -> None:
    ends = connected()
    _, lane, receiver = ends
    data = os.urandom(size)
    assert lane.send(data, never) is Sent.TAKEN
    assert select.select([receiver], (), (), 5)[0]
    assert receiver.read() == [data]
    assert receiver.writer == "writer"
    close(*ends)


def test_batches_keep_their_order_across_both_ways() -> None:
    ends = connected()
    _, lane, receiver = ends
    batches = [bytes([number]) * (PACKET_BYTES_MAX + 1 if number % 3 == 0 else 10) for number in range(9)]
    for data in batches:
        assert lane.send(data, never) is Sent.TAKEN
    assert receiver.read() == batches
    assert receiver.read() == []
    close(*ends)


def test_a_full_lane_says_so_and_takes_the_same_batch_later() -> None:
    ends = connected()
    _, lane, receiver = ends
    data = bytes(PACKET_BYTES_MAX)
    sent = 0
    while lane.send(data, never) is Sent.TAKEN:
        sent += 1
        assert sent < 1000
    got = 0
    while batches := receiver.read():
        got += len(batches)
    assert got == sent
    assert lane.send(data, never) is Sent.TAKEN
    close(*ends)


def test_the_end_is_seen_by_the_other_side() -> None:
    listener, lane, receiver = connected()
    lane.send(b"last", never)
    lane.close()
    assert receiver.read() == [b"last"]
    assert receiver.read() is None
    receiver.close()
    other = LocalLane(listener.address, listener.token, "writer")
    accepted = listener.accept()
    assert accepted is not None
    accepted.close()
    assert other.send(b"nobody", never) is Sent.LOST
    close(listener, other, accepted)


@pytest.mark.parametrize("greeting", [b"", b"rubbish", msgspec.msgpack.encode(Hello("0" * 32, "stranger"))])
def test_a_stranger_is_not_read(greeting: bytes) -> None:
    listener = LocalListener()
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stranger.connect(f"\0{listener.address}")
    stranger.send(greeting or b"\xc0")
    stranger.send(b"batch")
    receiver = listener.accept()
    assert receiver is not None
    assert receiver.read() is None
    assert receiver.writer == ""
    stranger.close()
    receiver.close()
    listener.close()


def test_a_batch_that_its_writer_could_still_change_is_refused() -> None:
    listener, lane, receiver = connected()
    descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"x" * 100)
    lane.send(b"good", never)
    socket.send_fds(lane._socket, [b"M"], [descriptor])
    os.close(descriptor)
    assert receiver.read() == [b"good"]
    close(listener, lane, receiver)


def test_a_thousand_links_leave_nothing_behind() -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(RELINKS):
        ends = connected()
        ends[1].send(bytes(PACKET_BYTES_MAX + 1), never)
        assert ends[2].read()
        close(*ends)
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"local_address": ""}, "call (configured)"),
        ({"host": "elsewhere"}, "call (other host)"),
        ({"local_address": "raytrade-nobody"}, "call (shm: Connection refused)"),
    ],
)
def test_the_fall_back_says_why(changes: dict[str, str], name: str) -> None:
    wish = OpenLink(link=1, reader="r", host=host_id(), local_address="raytrade-x", local_token="t")
    assert open_lane(msgspec.structs.replace(wish, **changes), object(), "writer").name == name
