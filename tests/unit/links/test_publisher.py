from __future__ import annotations

from raytrade.core.clock import MILLISECOND
from raytrade.core.message import Message
from raytrade.links.batch import decode_batch
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Done, Publisher, Sent
from raytrade.links.writer import LinkSettings
from tests.unit.links.streams import STEP_NS, delta, ids, image, images_of

SETTINGS = LinkSettings(in_flight_max=2, heartbeat_ns=20 * STEP_NS)


class FakeLane:
    """Keeps what it is given, and answers as told."""

    name = "fake"

    def __init__(self, answer: Sent = Sent.TAKEN, is_local: bool = False) -> None:
        self.answer = answer
        self.is_local = is_local
        self.is_closed = False
        self.data: list[bytes] = []
        self.done: list[Done] = []

    def send(self, data: bytes, done: Done) -> Sent:
        self.data.append(data)
        self.done.append(done)
        return self.answer

    def close(self) -> None:
        self.is_closed = True

    def messages(self) -> list[Message]:
        return [message for data in self.data for message in decode_batch(data)[1]]


class Owner:
    """Owns a publisher, and hands what lanes report back to it."""

    def __init__(self, *images: Message) -> None:
        self.publisher = Publisher(42, SETTINGS, images_of(*images), self.wake)
        self.now_ns = STEP_NS
        self.woken: list[tuple[int, str | None]] = []

    def wake(self, link: int, problem: str | None) -> None:
        self.woken.append((link, problem))
        self.publisher.sent(link, problem)

    def open(self, link: int, reader: str, lane: FakeLane) -> None:
        self.publisher.open(OpenLink(link=link, reader=reader), lane, self.now_ns)

    def pump(self, *numbers: int) -> None:
        self.publisher.append([delta("A", number) for number in numbers])
        self.publisher.pump(self.now_ns)
        self.now_ns += STEP_NS


def test_every_reader_gets_everything() -> None:
    owner = Owner(image("A", 1))
    first, second = FakeLane(), FakeLane()
    owner.open(1, "one", first)
    owner.pump(2)
    owner.open(2, "two", second)
    owner.pump(3)
    owner.pump(4)
    assert ids(first.messages()) == [("=A", 1), ("A", 2), ("A", 3), ("A", 4)]
    assert ids(second.messages()) == [("=A", 1), ("A", 3), ("A", 4)]
    assert owner.publisher.is_drained()
    assert {name: counts.messages for name, counts in owner.publisher.statistics().items()} == {"one": 4, "two": 3}
    assert owner.publisher.lanes() == {"one": "fake", "two": "fake"}


def test_a_reader_that_opens_again_has_one_link() -> None:
    owner = Owner()
    first, second = FakeLane(), FakeLane()
    owner.open(1, "one", first)
    owner.open(2, "one", second)
    owner.pump(1)
    assert (first.is_closed, first.data, second.is_closed) == (True, [], False)
    assert ids(second.messages()) == [("A", 1)]


def test_pending_batches_are_bounded_until_they_are_taken() -> None:
    owner = Owner()
    lane = FakeLane(Sent.PENDING)
    owner.open(1, "one", lane)
    for number in range(1, 6):
        owner.pump(number)
    assert ids(lane.messages()) == [("A", 1), ("A", 2)]
    assert owner.publisher.due_ns() is None
    lane.done[0](None)
    owner.pump()
    assert ids(lane.messages()) == [("A", number) for number in range(1, 6)]
    assert not owner.publisher.is_drained()
    for done in lane.done[1:]:
        done(None)
    assert owner.publisher.is_drained()


def test_a_problem_closes_the_link() -> None:
    owner = Owner()
    lane = FakeLane(Sent.PENDING)
    owner.open(1, "one", lane)
    owner.pump(1)
    lane.done[0]("the reader died")
    assert lane.is_closed
    owner.pump(2)
    assert len(lane.data) == 1
    lane.done[0](None)
    assert owner.woken == [(1, "the reader died"), (1, None)]


def test_a_lost_reader_closes_the_link() -> None:
    owner = Owner()
    lane, other = FakeLane(Sent.LOST), FakeLane()
    owner.open(1, "one", lane)
    owner.open(2, "two", other)
    owner.pump(1)
    assert lane.is_closed
    assert ids(other.messages()) == [("A", 1)]
    assert list(owner.publisher.statistics()) == ["two"]


def test_a_full_lane_is_offered_the_same_batch_again() -> None:
    owner = Owner()
    lane = FakeLane(Sent.FULL)
    owner.open(1, "one", lane)
    owner.pump(1)
    owner.pump(2)
    assert lane.data[0] == lane.data[1]
    lane.answer = Sent.TAKEN
    lane.data.clear()
    owner.pump(3)
    owner.pump()
    assert ids(lane.messages()) == [("A", 1), ("A", 2), ("A", 3)]


def test_a_local_lane_may_send_more_often() -> None:
    owner = Owner()
    near, far = FakeLane(is_local=True), FakeLane()
    owner.open(1, "near", near)
    owner.open(2, "far", far)
    owner.pump(1)
    owner.now_ns += -STEP_NS + MILLISECOND
    owner.pump(2)
    assert (len(near.data), len(far.data)) == (2, 1)
    assert owner.publisher.due_ns() == STEP_NS + SETTINGS.spacing_ns


def test_closing_closes_all_lanes() -> None:
    owner = Owner()
    lanes = [FakeLane(), FakeLane()]
    for number, lane in enumerate(lanes):
        owner.open(number, f"reader {number}", lane)
    owner.publisher.close()
    assert all(lane.is_closed for lane in lanes)
    assert owner.publisher.due_ns() is None
    assert owner.publisher.is_drained()
