"""Subscriber and viewer without Ray: bounded queues, gaps for who is slow, the newest state for who only looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from raytrade.actors import following
from raytrade.actors import viewer as viewing
from raytrade.actors.subscriber import Subscriber, SubscriberPlan
from raytrade.actors.viewer import Viewer, ViewerPlan
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, GapKind, Side, Trade
from raytrade.core.message import Message, decode, encode, join, parse, split
from raytrade.links.policy import Policy

NAME = "hitbtc-v2:ETHBTC"
SCALES: dict[str, Any] = {"price_scale": 2, "size_scale": 0}


class Links:
    """Stands for `Upstreams`: hands on what the test gives."""

    newest: Links

    def __init__(self, name: str, template: Any, thread: Any, on_batch: Any, on_change: Any) -> None:
        self.thread, self.on_batch, self.on_change = thread, on_batch, on_change
        self.template = template
        self.writers: list[list[str]] = []
        self.filters: list[tuple[str, ...]] = []
        Links.newest = self

    def set_writers(self, names: list[str]) -> None:
        self.writers.append(names)

    def set_filters(self, filters: tuple[str, ...]) -> None:
        self.filters.append(filters)

    def tick(self, now_ns: int) -> None:
        pass

    def receive(self, dedup: str, data: bytes, now_ns: int) -> list[Message]:
        return split(data)

    def request_images(self, instruments: set[str], now_ns: int) -> None:
        pass

    def up(self) -> list[str]:
        return ["d"]

    def problems(self) -> dict[str, str]:
        return {}


@pytest.fixture(autouse=True)
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "Upstreams", Links)


def image(id_last: int) -> BookSnapshot:
    return BookSnapshot(instrument=NAME, id_last=id_last, bids=(100, id_last), asks=(101, 1), **SCALES)


def deltas(first: int, last: int) -> list[Event]:
    return [
        BookDelta(instrument=NAME, id_prev=n - 1, id_last=n, bids=(100, n), asks=(), **SCALES)
        for n in range(first, last + 1)
    ]


def give(actor: Subscriber | Viewer, *events: Event) -> None:
    actor.receive_batch("d", join(parse(encode(event, "d")) for event in events))


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (value := holds()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return value


def taken(actor: Subscriber, count: int) -> list[Event]:
    events: list[Event] = []

    def enough() -> bool:
        events.extend(decode(message) for message in split(actor.take(1_000_000)))
        return len(events) >= count

    until(enough)
    return events


def test_a_subscriber_gives_everything_once_in_pieces() -> None:
    actor = Subscriber(SubscriberPlan(name="s", dedups=["d"]))
    give(actor, image(5), *deltas(6, 20))
    give(actor, *deltas(10, 25))
    until(lambda: actor.status()["queue_bytes"] > 0)
    first = split(actor.take(1))
    assert len(first) == 1, "a piece holds at least one message"
    rest = taken(actor, 20)
    assert [event.id_last for event in rest if isinstance(event, BookDelta)] == list(range(6, 26))
    assert actor.take(1_000_000) == b""
    assert actor.status()["overruns"] == 0


def test_a_driver_that_does_not_take_gets_a_gap_and_images() -> None:
    actor = Subscriber(SubscriberPlan(name="s", dedups=["d"], queue_bytes_max=2_000))
    give(actor, image(5), *deltas(6, 8))
    assert len(taken(actor, 4)) == 4
    give(actor, *deltas(9, 200))
    until(lambda: actor.status()["overruns"] == 1)
    assert Links.newest.writers == [["d"], []], "it follows nobody until the driver is back"
    assert actor.status()["queue_bytes"] == 0
    (gap,) = taken(actor, 1)
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.instrument, gap.channel, gap.id_prev) == (GapKind.SLOW_CONSUMER, NAME, Channel.BOOK, 8)
    assert Links.newest.writers == [["d"], [], ["d"]]
    give(actor, image(300), *deltas(301, 303))
    assert [getattr(event, "id_last", 0) for event in taken(actor, 4)] == [300, 301, 302, 303]


def test_a_viewer_keeps_the_newest_state_only() -> None:
    actor = Viewer(ViewerPlan(name="v", dedups=["d"]))
    wish = Links.newest.template
    assert (wish.policy, wish.filters) == (Policy.CONFLATE, viewing.NOTHING), "left behind where it is slow"
    assert wish.spacing_ns > 0
    assert actor.ladder(NAME, 5)["is_live"] is False
    trade = Trade(instrument=NAME, trade_id="7", sequence=7, price=100, size=3, aggressor=Side.SELL, **SCALES)
    give(actor, image(5), *deltas(6, 9), trade)
    shown = until(lambda: (ladder := actor.ladder(NAME, 5))["id_last"] == 9 and ladder["trades"] and ladder)
    assert (shown["is_live"], shown["bids"], shown["asks"]) == (True, [("1", "9")], [("1.01", "1")])
    assert [(one["price"], one["aggressor"]) for one in shown["trades"]] == [("1", "sell")]
    unknown = actor.ladder("hitbtc-v2:NOTHING", 5)
    assert (unknown["is_live"], unknown["bids"], unknown["trades"]) == (False, [], [])
    assert Links.newest.filters == [(NAME,), (NAME, "hitbtc-v2:NOTHING")]
    assert actor.ladder(NAME, 5)["is_live"] is False, "until the links that were opened anew bring an image"
    give(actor, image(20), *deltas(21, 22))
    until(lambda: actor.ladder(NAME, 5)["is_live"] and actor.ladder(NAME, 5)["id_last"] == 22)
    actor.receive_batch("d", join([parse(encode(image(40), "d")).flagged(Flag.CONFLATED)]))
    until(lambda: actor.ladder(NAME, 5)["is_live"] and actor.ladder(NAME, 5)["id_last"] == 40)


def test_a_viewer_forgets_what_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "FORGOTTEN_NS", 0)
    actor = Viewer(ViewerPlan(name="v", dedups=["d"]))
    for name in (NAME, "hitbtc-v2:BTCUSD"):
        actor.ladder(name, 5)
    assert Links.newest.filters == [(NAME,), ("hitbtc-v2:BTCUSD",)]
    give(actor, image(5))
    assert actor.status()["follows"] == ["hitbtc-v2:BTCUSD"]
