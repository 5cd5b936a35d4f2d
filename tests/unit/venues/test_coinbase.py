"""Coinbase Advanced Trade: one counter for the whole connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, Side, Trade
from raytrade.venues.protocol import Reconnect, Refused, VenueMachine
from tests.unit.venues.lines import OPENED_NS, feed, ids, line, only, sent

BTC, ETH = "BTC-USD", "ETH-USD"
SENT = "2026-08-09T21:05:48.483587501Z"


def book_event(kind: str, symbol: str, *levels: tuple[str, str, str]) -> dict[str, Any]:
    updates = [
        {
            "side": side,
            "event_time": "2026-08-09T21:05:48.170326Z",
            "price_level": price,
            "new_quantity": size,
        }
        for side, price, size in levels
    ]
    return {"type": kind, "product_id": symbol, "updates": updates}


def frame(sequence: int, *events: dict[str, Any], channel: str = "l2_data") -> dict[str, Any]:
    return {"channel": channel, "timestamp": SENT, "sequence_num": sequence, "events": list(events)}


def live() -> VenueMachine:
    machine = line("coinbase-advanced", BTC, ETH)
    feed(machine, frame(0, book_event("snapshot", BTC, ("bid", "10.5", "1"), ("offer", "11", "2"))))
    feed(machine, frame(1, book_event("snapshot", ETH, ("bid", "5", "1"), ("offer", "6", "2"))))
    return machine


def test_subscribes_one_channel_a_message_heartbeats_first() -> None:
    machine = line("coinbase-advanced", BTC, ETH, is_open=False)
    machine.receive_open(OPENED_NS)
    requests = [json.loads(text) for text in sent(machine.commands())]
    assert [request["channel"] for request in requests] == ["heartbeats", "level2", "market_trades"]
    assert all(request["product_ids"] == [BTC, ETH] and request["type"] == "subscribe" for request in requests)


def test_book_messages_carry_the_counter_of_the_connection() -> None:
    machine = line("coinbase-advanced", BTC, ETH)
    events = feed(
        machine,
        frame(0, channel="subscriptions"),
        frame(1, book_event("snapshot", BTC, ("bid", "10.5", "1"), ("offer", "11", "2"))),
        frame(2, channel="heartbeats"),
        frame(3, book_event("update", BTC, ("bid", "10.5", "0"), ("offer", "10.75", "3"))),
    )
    snapshot, delta = events
    assert isinstance(snapshot, BookSnapshot) and isinstance(delta, BookDelta)
    assert (snapshot.id_last, snapshot.epoch, snapshot.depth) == (1, OPENED_NS, 0)
    assert (delta.id_prev, delta.id_last, delta.bids, delta.asks) == (1, 3, (1050, 0), (1075, 3))
    assert delta.ts_venue_ns == 1786309548170326000


def test_a_jump_breaks_every_book_once() -> None:
    machine = live()
    events = feed(
        machine,
        frame(5, book_event("update", BTC, ("bid", "10.5", "3"))),
        frame(6, book_event("update", ETH, ("bid", "5", "3"))),
    )
    gaps = {gap.instrument.partition(":")[2]: (gap.id_prev, gap.id_last, gap.cause) for gap in only(Gap, events)}
    assert gaps == {BTC: (0, 4, "sequence_num"), ETH: (1, 4, "sequence_num")}
    assert ids(events) == [(4, 5), (4, 6)]
    requests = [json.loads(text) for text in sent(machine.commands())]
    assert sorted((request["type"], *request["product_ids"]) for request in requests) == [
        ("subscribe", BTC),
        ("subscribe", ETH),
        ("unsubscribe", BTC),
        ("unsubscribe", ETH),
    ]
    assert feed(machine, frame(9, channel="heartbeats")) == []  # no second gap before a snapshot


def test_a_book_is_whole_again_with_its_snapshot() -> None:
    machine = live()
    feed(machine, frame(5, channel="heartbeats"))
    events = feed(
        machine,
        frame(6, book_event("snapshot", BTC, ("bid", "10", "1"))),
        frame(7, book_event("update", BTC, ("bid", "10", "2"))),
        frame(9, channel="heartbeats"),
    )
    assert ids(events) == [(-1, 6), (6, 7)]
    assert [gap.instrument for gap in only(Gap, events)] == ["coinbase-advanced:BTC-USD"]


def test_an_undecodable_frame_shows_as_a_jump() -> None:
    machine = live()
    assert feed(machine, frame(2, book_event("update", BTC, ("bid", "NaN", "3")))) == []
    assert machine.commands() == []
    events = feed(machine, frame(3, channel="heartbeats"))
    assert {(gap.id_prev, gap.id_last) for gap in only(Gap, events)} == {(0, 2), (1, 2)}


def test_events_of_one_symbol_in_one_frame_are_one_delta() -> None:
    machine = live()
    updates = (book_event("update", BTC, ("bid", "10.5", size)) for size in ("3", "4"))
    (delta,) = feed(machine, frame(2, *updates))
    assert isinstance(delta, BookDelta)
    assert delta.bids == (105, 3, 105, 4)


def test_trades_are_emitted_oldest_first_with_the_takers_side() -> None:
    machine = live()
    rows = [
        {"product_id": BTC, "trade_id": str(number), "price": "11", "size": "1", "time": SENT, "side": side}
        for number, side in ((9, "SELL"), (8, "BUY"))
    ]
    events = feed(
        machine,
        frame(2, {"type": "snapshot", "trades": rows}, channel="market_trades"),
        frame(3, {"type": "update", "trades": rows}, channel="market_trades"),
    )
    assert [event.sequence for event in only(Trade, events)] == [8, 9, 8, 9]
    assert [event.aggressor for event in only(Trade, events)] == [Side.SELL, Side.BUY] * 2
    assert [event.flags for event in only(Trade, events)] == [Flag.HISTORY, Flag.HISTORY, 0, 0]
    counts = machine.statistics().instruments[BTC]
    assert (counts.trades, counts.trades_history) == (2, 2)


def test_a_trade_id_that_is_no_number_has_no_sequence() -> None:
    row = {"product_id": BTC, "trade_id": "x" * 30, "price": "1", "size": "1", "time": SENT, "side": "?"}
    trades = {"type": "update", "trades": [row]}
    (event,) = feed(live(), frame(2, trades, channel="market_trades"))
    assert isinstance(event, Trade)
    assert (event.trade_id, event.sequence, event.aggressor) == ("x" * 30, 0, Side.NONE)


def test_an_error_refuses_what_is_not_served() -> None:
    machine = line("coinbase-advanced", BTC, ETH)
    feed(machine, frame(0, book_event("snapshot", BTC, ("bid", "10", "1"))))
    feed(machine, {"type": "error", "message": "ETH-USD is not a valid product"})
    assert machine.commands() == [Refused(ETH, "ETH-USD is not a valid product")]


def test_a_line_without_heartbeats_is_dead() -> None:
    machine = live()
    deadline_ns = machine.deadline_ns()
    assert deadline_ns == OPENED_NS + 1 + 10_000_000_000
    machine.receive_timeout(deadline_ns)
    assert machine.commands() == [Reconnect("silent for 10 s")]


@pytest.mark.parametrize("field", ["sequence_num", "events"])
def test_a_missing_field_is_counted(field: str) -> None:
    machine = live()
    bad = frame(2, book_event("update", BTC, ("bid", "1", "3")))
    del bad[field]
    assert feed(machine, bad) == []
    assert machine.statistics().undecodable == 1
