from __future__ import annotations

import pytest

from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.message import join
from raytrade.errors import MalformedBatch
from raytrade.links.batch import BatchHeader, encode_batch
from raytrade.links.opening import NOWHERE, OpenLink
from raytrade.links.reader import LinkReader, ReaderSettings
from tests.unit.links.streams import delta, ids

TEMPLATE = OpenLink(link=0, reader="", filters=("v:*",), positions={"v:A/book": 5})
SETTINGS = ReaderSettings(silence_ns_max=SECOND, retry_ns=500 * MILLISECOND)


def batch(link: int, index: int, next_index: int = 0, *numbers: int) -> bytes:
    messages = [delta("A", number) for number in numbers]
    return encode_batch(BatchHeader(link, index, next_index, 0, len(messages)), join(messages))


def opened(now_ns: int = 0) -> tuple[LinkReader, int]:
    """Give a reader whose first link is open and up, and the number of that link."""
    reader = LinkReader("w", 100, SETTINGS)
    link = reader.wish("me", TEMPLATE, now_ns).link
    reader.opened(77, now_ns)
    assert reader.receive(batch(link, 0, 3, 1, 2), now_ns) is not None
    assert reader.is_up
    return reader, link


def test_the_first_wish_is_for_a_writer_not_met() -> None:
    reader = LinkReader("w", 100, SETTINGS)
    assert reader.must_open(0)
    wish = reader.wish("me", TEMPLATE, 0)
    assert (wish.reader, wish.link, wish.writer, wish.next_index) == ("me", 101, 0, NOWHERE)
    assert (wish.filters, wish.positions) == (("v:*",), {"v:A/book": 5})


def test_trying_again_takes_its_time() -> None:
    reader = LinkReader("w", 100, SETTINGS)
    reader.wish("me", TEMPLATE, 0)
    assert not reader.must_open(500 * MILLISECOND - 1)
    assert reader.must_open(500 * MILLISECOND)
    reader.opened(77, 0)
    assert not reader.must_open(2 * SECOND - 1)
    assert reader.must_open(2 * SECOND)


def test_batches_come_in_order() -> None:
    reader, link = opened()
    assert ids(reader.receive(batch(link, 1, 4, 3), 1) or []) == [("A", 3)]
    assert reader.receive(batch(link, 2, 4), 2) == []
    counts = reader.counts
    assert (counts.batches, counts.messages, counts.openings) == (3, 3, 1)


def test_the_next_wish_goes_on_where_the_last_batch_ended() -> None:
    reader, link = opened()
    reader.receive(batch(link, 1, 9, 3), 1)
    wish = reader.wish("me", TEMPLATE, 2)
    assert (wish.link, wish.writer, wish.next_index) == (link + 1, 77, 9)


def test_a_repeated_batch_is_passed_over() -> None:
    reader, link = opened()
    assert reader.receive(batch(link, 0, 3, 1, 2), 1) is None
    assert reader.is_up
    assert reader.counts.repeated == 1


def test_a_missing_batch_breaks_the_link() -> None:
    reader, link = opened()
    assert reader.receive(batch(link, 2, 9, 5), 1) is None
    assert not reader.is_up
    assert reader.counts.out_of_order == 1
    assert reader.must_open(2 * SECOND)
    assert reader.wish("me", TEMPLATE, 2 * SECOND).next_index == 3


def test_batches_of_another_opening_are_foreign() -> None:
    reader, link = opened()
    for other in (link - 1, link + 1):
        assert reader.receive(batch(other, 1), 1) is None
    assert (reader.counts.foreign, reader.is_up) == (2, True)


def test_what_is_no_batch_is_refused() -> None:
    reader, link = opened()
    with pytest.raises(MalformedBatch):
        reader.receive(batch(link, 1)[:-1], 1)
    reader.lost()
    assert not reader.is_up


def test_silence_is_loss() -> None:
    reader, link = opened()
    assert not reader.must_open(SECOND)
    reader.receive(batch(link, 1), SECOND)
    assert not reader.must_open(2 * SECOND)
    assert reader.must_open(2 * SECOND + 1)
    assert not reader.is_up


def test_forgetting_asks_for_images_whatever_still_comes() -> None:
    reader, link = opened()
    reader.forget()
    assert reader.receive(batch(link, 1, 4, 3), 1) is None
    assert not reader.is_up
    assert reader.must_open(1)
    for _ in range(2):
        wish = reader.wish("me", TEMPLATE, 1)
        assert (wish.next_index, wish.positions) == (NOWHERE, {})
        reader.opened(77, 1)
    reader.receive(batch(wish.link, 0, 12, 6), 2)
    again = reader.wish("me", TEMPLATE, 3)
    assert (again.next_index, again.positions) == (12, TEMPLATE.positions)


def test_refreshing_keeps_the_link_and_its_place() -> None:
    reader, _ = opened()
    reader.refresh({"v:B", "v:A"})
    assert reader.is_up
    assert reader.must_open(1)
    wish = reader.wish("me", TEMPLATE, 1)
    assert (wish.fresh, wish.writer, wish.next_index) == (("v:A", "v:B"), 77, 3)
    reader.opened(77, 1)
    assert not reader.must_open(2)
    assert reader.wish("me", TEMPLATE, 3).fresh == ()
