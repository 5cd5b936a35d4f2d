"""A link of digests tells what there is, and a later opening by ids brings it."""

from __future__ import annotations

from raytrade.core.clock import SECOND
from raytrade.core.events import Channel, Flag, LineUp
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.links.batch import decode_batch
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Done, Publisher, Sent
from raytrade.links.writer import LinkSettings
from tests.unit.links.streams import delta

LINE = parse(encode(LineUp(venue="v"), "c/v"))


class Taken:
    name, is_local = "taken", True

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.bytes = 0

    def send(self, data: bytes, done: Done) -> Sent:
        self.messages += decode_batch(data)[1]
        self.bytes += len(data)
        return Sent.TAKEN

    def close(self) -> None:
        pass


def ranges(lane: Taken) -> list[tuple[int, int]]:
    return [(one.id_prev, one.id_last) for one in lane.messages if one.kind is Kind.DIGEST]


def test_one_range_stands_for_many_messages_and_the_ring_gives_them_by_id() -> None:
    publisher = Publisher(7, LinkSettings(), lambda _: [LINE], lambda *_: None)
    publisher.append([delta("S", number) for number in range(1, 11)])
    lane = Taken()
    publisher.open(OpenLink(link=1, reader="far", digest=True), lane, SECOND)
    publisher.pump(SECOND)
    assert [one.kind for one in lane.messages] == [Kind.LINE_UP, Kind.DIGEST] and ranges(lane) == [(10, 10)]
    publisher.append([delta("S", number) for number in range(11, 211)])
    unapplied = delta("S", 300).flagged(Flag.UNAPPLIED)
    publisher.append([unapplied, LINE])
    publisher.pump(2 * SECOND)
    assert ranges(lane)[1:] == [(10, 210)] and lane.messages[-2].kind is Kind.LINE_UP
    assert lane.bytes < 700

    asked = Taken()
    publisher.open(OpenLink(link=2, reader="far", positions={"v:S/book": 205}), asked, 3 * SECOND)
    publisher.pump(3 * SECOND)
    ids = [one.id_last for one in asked.messages if one.stream == ("v:S", Channel.BOOK)]
    assert ids == [206, 207, 208, 209, 210, 300]


def test_a_ring_that_has_gone_past_a_digest_is_no_loss() -> None:
    publisher = Publisher(7, LinkSettings(ring_items_max=16), lambda _: [], lambda *_: None)
    lane = Taken()
    publisher.open(OpenLink(link=1, reader="far", digest=True), lane, SECOND)
    publisher.append([delta("S", number) for number in range(1, 101)])
    publisher.pump(2 * SECOND)
    assert ranges(lane) == [(84, 100)]
    assert publisher.notes() == []
