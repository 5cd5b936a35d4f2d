"""Replay: one order, one hash, and an engine that sees what it would have seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Channel, Gap, GapKind, Resynced, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import decode, encode, parse
from raytrade.replay import EventPlayer, Player, StreamHash, StreamKey, Timed, apply, merge
from raytrade.rules import rule_of
from raytrade.strategy.base import BaseStrategy, Context
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.replay_engine import ReplayEngine
from tests.unit.storage.recordings import BTC, ETH, NOON_NS, delta, gap, random_stream, snapshot, trade


def timed(events: list[object]) -> list[Timed]:
    """Give the events with their times in the stream."""
    now_ns, found = 0, []
    for event in events:
        now_ns = max(now_ns, event.ts_recv_ns)  # type: ignore[attr-defined]
        found.append((now_ns, parse(encode(event, "recording"))))  # type: ignore[arg-type]
    return found


def streams(count: int = 6) -> dict[StreamKey, list[Timed]]:
    return {
        (f"binance-spot:S{n}", Channel.BOOK): timed(list(random_stream(n, 100, name=f"binance-spot:S{n}")))
        for n in range(count)
    }


def test_merging_keeps_the_order_of_times_names_and_streams() -> None:
    parts = streams()
    merged = list(merge(parts))
    assert len(merged) == sum(map(len, parts.values()))
    assert [(now_ns, m.instrument) for now_ns, m in merged] == sorted((now_ns, m.instrument) for now_ns, m in merged)
    for (name, _), part in parts.items():
        assert [pair for pair in merged if pair[1].instrument == name] == part


def test_the_order_does_not_depend_on_how_streams_are_given() -> None:
    parts = streams()
    keys = list(parts)
    random.Random(1).shuffle(keys)
    assert list(merge({key: parts[key] for key in keys})) == list(merge(parts))


def test_one_instant_is_ordered_by_name_and_channel() -> None:
    parts = {
        (ETH, Channel.BOOK): timed([snapshot(1, NOON_NS, name=ETH)]),
        (BTC, Channel.TRADES): timed([trade(1, NOON_NS), trade(2, NOON_NS)]),
        (BTC, Channel.BOOK): timed([snapshot(1, NOON_NS), delta(1, 2, NOON_NS)]),
    }
    order = [(message.instrument, message.channel.name, message.id_last) for _, message in merge(parts)]
    assert order == [(BTC, "BOOK", 1), (BTC, "BOOK", 2), (BTC, "TRADES", 1), (BTC, "TRADES", 2), (ETH, "BOOK", 1)]


def test_merging_takes_one_message_at_a_time() -> None:
    taken: list[int] = []

    def endless(name: str) -> Iterator[Timed]:
        for n in range(10**9):
            taken.append(n)
            yield NOON_NS + n, parse(encode(delta(n, n + 1, NOON_NS + n, name=name), "x"))

    merged = merge({(name, Channel.BOOK): endless(name) for name in (BTC, ETH)})
    for _ in range(100):
        next(merged)
    assert len(taken) <= 102
    assert list(merge({})) == []


def digest(messages: list[Timed]) -> str:
    found = StreamHash()
    for now_ns, message in messages:
        found.update(now_ns, message)
    return found.text()


def test_a_hash_names_the_content() -> None:
    messages = list(merge(streams(2)))
    assert digest(messages) == digest(list(merge(streams(2))))
    assert len(digest([])) == 32
    for other in (messages[1:], messages[::-1], [(now_ns + 1, message) for now_ns, message in messages]):
        assert digest(other) != digest(messages)


def test_a_gap_of_trades_says_nothing_of_the_book() -> None:
    book, states = L2Book(BTC), []
    lost = Gap(instrument=BTC, channel=Channel.TRADES, kind=GapKind.VENUE, id_prev=1, id_last=2, cause="")
    whole = Resynced(instrument=BTC, channel=Channel.BOOK, id_last=1)
    for event in (snapshot(1, NOON_NS), lost, gap(1, 2, NOON_NS), whole):
        apply(book, event)
        states.append(book.state)
    assert states == [BookState.LIVE, BookState.LIVE, BookState.STALE, BookState.LIVE]


class Diary(BaseStrategy):
    """Writes down what it is told."""

    timer_interval_ns = 10 * SECOND

    def __init__(self) -> None:
        self.lines: list[tuple[str, Nanos, int]] = []

    def on_book(self, context: Context, book: L2Book) -> None:
        self.lines.append(("book", context.now_ns, book.id_last))

    def on_trade(self, context: Context, trade: Trade) -> None:
        self.lines.append(("trade", context.now_ns, trade.sequence))

    def on_gap(self, context: Context, gap: Gap) -> None:
        self.lines.append(("gap", context.now_ns, gap.id_last))

    def on_timer(self, context: Context, now_ns: Nanos) -> None:
        self.lines.append(("timer", now_ns, 0))

    def on_stop(self, context: Context) -> None:
        self.lines.append(("stop", context.now_ns, 0))


def play(messages: list[Timed]) -> tuple[Diary, StrategyEngine]:
    diary = Diary()
    player = Player(StrategyEngine("diary", diary, Filter("*"), rule_of))
    for now_ns, message in messages:
        player.play(now_ns, message)
    player.finish()
    player.engine.validate()
    return diary, player.engine


def test_an_engine_sees_the_recording_in_its_own_time() -> None:
    second = [NOON_NS + n * SECOND for n in range(60)]
    events = [snapshot(10, second[0]), delta(10, 11, second[1]), trade(1, second[2]), delta(11, 12, second[25])]
    diary, _ = play(timed(list(events)))
    assert diary.lines == [
        ("book", second[0], 10),
        ("book", second[1], 11),
        ("trade", second[2], 1),
        ("timer", second[10], 0),
        ("timer", second[20], 0),
        ("book", second[25], 12),
        ("timer", second[30], 0),
        ("stop", second[30], 0),
    ]


def test_an_engine_ends_with_the_books_of_the_recording() -> None:
    for seed in range(5):
        events = random_stream(seed, 300)
        book = L2Book(BTC)
        for event in events:
            apply(book, decode(parse(encode(event, ""))))
        diary, engine = play(timed(list(events)))
        assert engine.books[BTC].state is book.state
        if book.state is BookState.LIVE:
            assert engine.books[BTC].state_hash(0) == book.state_hash(0)
        lost = sum(isinstance(event, Gap) for event in events)
        assert sum(line[0] == "gap" for line in diary.lines) == lost
        assert diary.lines == play(timed(list(events)))[0].lines


def test_a_leap_of_years_ends() -> None:
    """Between two recordings a timer is not run for every interval."""
    diary, _ = play(timed([snapshot(10, NOON_NS), delta(10, 11, NOON_NS + 10**8 * SECOND)]))
    assert len(diary.lines) < 101_000
    assert diary.lines[-3:][0][0] in ("book", "timer")


def test_nothing_to_play() -> None:
    diary, _ = play([])
    assert diary.lines == [("stop", 0, 0)]


def test_events_without_arbitration_give_what_messages_give() -> None:
    """A recording is merged already: played as events it shows a strategy the same books and gaps at the same times.

    Only a gap is told when it was recorded, where an arbiter first waits for another line to fill it; what comes
    meanwhile is shown as events, and not shown behind an arbiter.
    """
    for seed in range(20):
        messages = timed(list(random_stream(seed, 30 if seed % 2 else 200)))
        is_whole = not any(isinstance(decode(message), Gap) for _, message in messages)
        by_messages, engine = play(messages)
        diary = Diary()
        player = EventPlayer(ReplayEngine("diary", diary, Filter("*"), rule_of))
        for now_ns, message in messages:
            player.play_event(now_ns, decode(message))
        player.finish()
        player.engine.validate()
        lines = [[line[2] for line in one.lines if line[0] == "book"] for one in (diary, by_messages)]
        assert set(lines[1]) <= set(lines[0]) and (not is_whole or diary.lines == by_messages.lines)
        gaps = [[line[2] for line in one.lines if line[0] == "gap"] for one in (diary, by_messages)]
        assert gaps[0] == gaps[1]
        mine, theirs = (one.statistics().instruments[BTC] for one in (player.engine, engine))
        assert (mine.state, mine.book_hash, mine.quality) == (theirs.state, theirs.book_hash, theirs.quality)


def test_a_filter_holds_for_events_too() -> None:
    diary = Diary()
    player = EventPlayer(ReplayEngine("diary", diary, Filter(f"{BTC}/book"), rule_of))
    events: list[Any] = [
        snapshot(1, NOON_NS),
        trade(1, NOON_NS),
        snapshot(1, NOON_NS, name=ETH),
        delta(1, 2, NOON_NS + 1),
    ]
    for event in events:
        player.play_event(event.ts_recv_ns, event)
    assert diary.lines == [("book", NOON_NS, 1), ("book", NOON_NS + 1, 2)]
