from __future__ import annotations

import pytest

from raytrade.arbitration import SnapshotWanted
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND
from raytrade.core.events import RETIRED, Channel, Side, Trade
from raytrade.core.message import Kind
from raytrade.strategy import BaseStrategy, Context, EngineSettings, Fill, Note, Rejection, StrategyFailed
from tests.unit.strategy.streams import (
    BTC,
    ETH,
    HIT,
    T0,
    Diary,
    Rig,
    delta,
    held,
    line_down,
    line_up,
    message,
    resynced,
    snapshot,
    stalled,
    trade,
)


def live(*globs: str, diary: Diary | None = None) -> tuple[Rig, Diary]:
    """An engine with two replicas and a book at id 10, told of two lines."""
    diary = diary or Diary()
    rig = Rig(diary, *globs)
    rig.up("a", "b")
    for replica in ("a", "b"):
        rig.receive(replica, line_up("osaka/1"), line_up("tokyo/1"), snapshot(10))
    rig.receive("a", delta(11))
    rig.receive("b", delta(11))
    return rig, diary


# State first, once, in order.


def test_late_join_starts_from_the_image() -> None:
    diary = Diary()
    rig = Rig(diary, observed=True)
    rig.up("a")
    rig.receive("a", snapshot(10), delta(11, bids=(100, 9)), delta(12, asks=(101, 0)))
    assert diary.names()[:2] == ["start", "quality"]
    assert diary.of("book") == [(BTC, 10), (BTC, 11), (BTC, 12)]
    top = rig.book.top()
    assert top is not None and (top.bid_lots, top.ask_ticks) == (9, 102)
    assert [fact[:4] for fact in rig.seen] == [
        (Kind.SNAPSHOT, BTC, 0, 10),
        (Kind.DELTA, BTC, 10, 11),
        (Kind.DELTA, BTC, 11, 12),
    ]
    assert not rig.of(SnapshotWanted)


def test_deltas_without_an_image_are_kept_and_a_snapshot_is_asked_for() -> None:
    diary = Diary()
    rig = Rig(diary)
    rig.up("a")
    rig.receive("a", delta(11), delta(12, bids=(98, 1)))
    assert rig.book.state is BookState.SYNCING and not diary.of("book")
    assert [wanted.instrument for wanted in rig.of(SnapshotWanted)] == [BTC]
    rig.receive("a", snapshot(11))
    assert diary.of("book") == [(BTC, 11), (BTC, 12)]
    assert rig.engine.statistics().instruments[BTC].counts.unapplied == 1


def test_two_replicas_give_each_update_once() -> None:
    rig, diary = live()
    for number in range(12, 32):
        first, second = ("a", "b") if number % 3 else ("b", "a")
        rig.receive(first, delta(number, bids=(90, number)), trade(number))
        rig.receive(second, delta(number, bids=(90, number)), trade(number))
    assert [last for _, last in diary.of("book")] == list(range(10, 32))
    assert diary.of("trade") == list(range(12, 32))
    assert rig.book.size_at(Side.BUY, 90) == 31
    statistics = rig.engine.statistics()
    counts = statistics.instruments[BTC].counts
    assert (counts.updates, counts.snapshots, counts.trades, counts.last_id) == (21, 1, 20, 31)
    assert counts.last_trade_id == 31 and counts.gaps == counts.unapplied == 0
    assert statistics.latency.total == 21
    assert statistics.replicas["a"].wins + statistics.replicas["b"].wins == 41
    assert statistics.instruments[BTC].book_hash == rig.book.state_hash()


def test_one_replica_dying_is_not_noticed() -> None:
    rig, diary = live()
    rig.receive("a", delta(12), delta(13))
    rig.receive("b", delta(12))
    rig.down("a")
    rig.receive("b", delta(13), delta(14), delta(15))
    assert [last for _, last in diary.of("book")] == list(range(10, 16))
    assert not diary.of("stalled") and not diary.of("gap") and rig.book.state is BookState.LIVE
    rig.up("a")
    rig.receive("a", snapshot(14), delta(15), delta(16))
    assert rig.book.id_last == 16


def test_what_one_replica_lacks_comes_from_the_other() -> None:
    rig, diary = live()
    rig.receive("a", delta(12), delta(14), delta(15))
    rig.receive("b", delta(12), delta(13), delta(14))
    rig.wait()
    assert [last for _, last in diary.of("book")] == list(range(10, 16))
    assert not diary.of("gap")


# Gaps and stalls.


def test_gap_then_resync() -> None:
    rig, diary = live()
    rig.receive("a", delta(13))
    rig.receive("b", delta(13))
    rig.wait()
    assert diary.of("gap") == [(11, 12)]
    assert rig.book.state is BookState.STALE and rig.book.top() is None
    assert diary.of("quality")[-1].value == 0 and diary.of("quality")[-1].reason == "gap"
    assert rig.of(SnapshotWanted)
    shown = len(diary.of("book"))
    rig.receive("a", delta(14))
    assert len(diary.of("book")) == shown
    rig.receive("a", snapshot(13, bids=(97, 3)))
    assert diary.of("book")[shown:] == [(BTC, 13), (BTC, 14)]
    assert diary.of("quality")[-1].value == 1
    top = rig.book.top()
    assert top is not None and top.bid == 97
    counts = rig.engine.statistics().instruments[BTC].counts
    assert (counts.gaps, counts.resyncs, counts.unapplied) == (1, 1, 1)


def test_losing_every_replica_stalls_until_the_chain_goes_on() -> None:
    rig, diary = live()
    rig.down("a")
    assert not diary.of("stalled")
    rig.down("b")
    assert diary.of("stalled") == [(BTC, Channel.BOOK)]
    assert rig.book.top() is None and diary.of("quality")[-1].reason == "stalled"
    rig.up("b")
    rig.receive("b", delta(12))
    assert rig.book.state is BookState.LIVE and diary.of("book")[-1] == (BTC, 12)
    assert diary.of("quality")[-1].value == 1
    counts = rig.engine.statistics().instruments[BTC].counts
    assert (counts.stalls, counts.resyncs, counts.gaps) == (1, 1, 0)


def test_a_stall_behind_the_replicas_needs_the_word_of_all() -> None:
    rig, diary = live()
    rig.receive("a", stalled())
    assert rig.book.state is BookState.LIVE
    rig.receive("b", stalled(), stalled())
    assert diary.of("stalled") == [(BTC, Channel.BOOK)]
    assert rig.book.top() is None and diary.of("quality")[-1].reason == "stalled"
    rig.receive("a", delta(12))
    assert rig.book.state is BookState.LIVE and diary.of("quality")[-1].value == 1
    rig.receive("b", delta(12))
    assert len(diary.of("stalled")) == 1 and diary.of("book")[-1] == (BTC, 12)


def test_the_replica_that_is_left_is_believed() -> None:
    rig, diary = live()
    rig.receive("a", stalled())
    rig.down("b")
    assert diary.of("stalled") == [(BTC, Channel.BOOK)]


def test_word_that_nothing_was_lost_ends_a_stall() -> None:
    rig, diary = live()
    for replica in ("a", "b"):
        rig.receive(replica, stalled())
    rig.receive("a", resynced(11))
    assert rig.book.state is BookState.LIVE
    assert diary.of("quality")[-1].value == 1


def test_trades_can_stall_without_the_book() -> None:
    rig, diary = live()
    rig.receive("a", trade(1), stalled(channel=Channel.TRADES))
    assert diary.of("stalled") == [(BTC, Channel.TRADES)]
    assert rig.book.state is BookState.LIVE
    rig.receive("a", trade(2))
    assert diary.of("trade") == [1, 2] and rig.engine.statistics().instruments[BTC].counts.stalls == 1


# Quality.


def test_quality_follows_the_lines_of_the_venue() -> None:
    rig, diary = live()
    rig.receive("a", line_down("tokyo/1"))
    rig.receive("b", line_down("tokyo/1"))
    last = diary.of("quality")[-1]
    assert (last.instrument, last.value, last.copies_left) == (BTC, 0.5, 1)
    rig.receive("a", line_up("tokyo/1"))
    rig.receive("b", line_up("tokyo/1"))
    assert (diary.of("quality")[-1].value, diary.of("quality")[-1].copies_left) == (1.0, 2)
    told = len(diary.of("quality"))
    rig.receive("a", line_down("osaka/9", venue="hitbtc"))
    assert len(diary.of("quality")) == told, "another venue's line is nothing to this book"


def test_a_line_counts_when_it_delivers() -> None:
    diary = Diary()
    rig = Rig(diary)
    rig.up("a")
    rig.receive("a", snapshot(10))
    assert (diary.of("quality")[-1].value, diary.of("quality")[-1].copies_left) == (1.0, 0)
    rig.receive("a", delta(11, line="osaka/1"), delta(12, line="tokyo/1"))
    assert diary.of("quality")[-1].copies_left == 2
    rig.receive("a", line_down("lima/1"))
    assert diary.of("quality")[-1].value == pytest.approx(2 / 3), "it was up before it was lost"
    rig.receive("a", delta(13, line="lima/1"))
    assert diary.of("quality")[-1].copies_left == 2, "what was under way does not bring it back"


# Filters, timers, start and stop.


def test_filter_takes_only_what_is_wanted() -> None:
    rig, diary = live("binance-*:BTC*/book", "hitbtc:*")
    rig.receive("a", trade(1), snapshot(5, instrument=ETH), snapshot(7, instrument=HIT))
    assert diary.of("trade") == []
    assert {name for name, _ in diary.of("book")} == {BTC, HIT}
    assert set(rig.engine.books) == {BTC, HIT}


def test_timer() -> None:
    diary = Diary(timer_interval_ns=SECOND)
    rig = Rig(diary)
    rig.up("a")
    assert rig.engine.deadline_ns() == T0 + SECOND
    rig.wait(2 * SECOND)
    assert diary.of("timer") == [SECOND, 2 * SECOND]
    rig.engine.receive_timeout(T0 + 5 * SECOND + 1)
    assert diary.of("timer")[2:] == [5 * SECOND + 1], "missed times are not made up for"
    assert rig.engine.deadline_ns() == T0 + 6 * SECOND


def test_stop_is_the_last_callback_and_clears_orders() -> None:
    rig, diary = live(diary=Diary(timer_interval_ns=SECOND))
    assert diary.context is not None
    diary.context.limit(BTC, Side.BUY, "90", "1")
    rig.engine.stop(rig.now_ns)
    assert diary.entries[-1] == ("stop", rig.now_ns)
    assert not diary.context.orders and not rig.engine.is_running
    rig.receive("a", delta(12))
    rig.engine.stop(rig.now_ns)
    assert diary.names().count("stop") == 1 and diary.entries[-1][0] == "stop"
    assert rig.book.id_last == 12 and rig.engine.deadline_ns() is None


# Orders through the context.


class Buyer(Diary):
    def on_book(self, context: Context, book: L2Book) -> None:
        super().on_book(context, book)
        if context.position(BTC) == 0 and not context.orders:
            context.market(BTC, Side.BUY, "0.3")
            self.entries.append(("ordered", None))


def test_fills_come_after_the_callback_that_caused_them() -> None:
    diary = Buyer()
    rig = Rig(diary)
    rig.receive("a", snapshot(10))
    assert diary.names() == ["start", "quality", "book", "ordered", "fill"]
    (fill,) = rig.of(Fill)
    assert diary.of("fill") == [fill] and str(fill.price) == "101" and fill.book_id == 10
    statistics = rig.engine.statistics()
    assert (statistics.fills, statistics.rejections, statistics.orders) == (1, 0, 0)


def test_resting_order_fills_before_on_book() -> None:
    rig, diary = live()
    assert diary.context is not None
    diary.context.limit(BTC, Side.BUY, "98", "1")
    rig.receive("a", delta(12, asks=(98, 3)))
    assert diary.names()[-2:] == ["fill", "book"]
    assert str(diary.of("fill")[0].quantity) == "0.3"


class Stubborn(BaseStrategy):
    def on_start(self, context: Context) -> None:
        context.market(BTC, Side.BUY, "1")

    def on_rejection(self, context: Context, rejection: Rejection) -> None:
        context.market(BTC, Side.BUY, "1")


def test_answering_refusals_in_circles_ends() -> None:
    rig = Rig(Stubborn(), settings=EngineSettings(cascade_max=50))
    rig.receive("a", snapshot(10))
    (failed,) = rig.of(StrategyFailed)
    assert "followed from answers" in failed.error and len(rig.of(Rejection)) <= 53


# Notes and gauges.


class Talker(BaseStrategy):
    def on_book(self, context: Context, book: L2Book) -> None:
        context.log("saw", id_last=book.id_last, book=book.state, text="free", ok=True)
        context.record(f"gauge {book.id_last}", book.id_last)


def test_notes_and_gauges_are_bounded() -> None:
    rig = Rig(Talker(), settings=EngineSettings(notes_max=2, gauges_max=2))
    rig.up("a")
    rig.receive("a", snapshot(10))
    (note,) = rig.of(Note)
    assert note.fields == {"id_last": 10, "book": "BookState.LIVE", "text": "free", "ok": True}
    assert (note.strategy, note.ts_note_ns) == ("test", rig.now_ns)
    for number in (11, 12, 13):
        rig.engine.receive("a", delta(number), rig.now_ns)
    assert [note.fields["id_last"] for note in rig.engine.commands() if isinstance(note, Note)] == [12, 13]
    statistics = rig.engine.statistics()
    assert statistics.notes_dropped == 1 and statistics.gauges == {"gauge 10": 10.0, "gauge 11": 11.0}


# A strategy that raises.


class Faulty(Diary):
    def __init__(self, where: str) -> None:
        super().__init__(timer_interval_ns=SECOND)
        self.where = where

    def on_start(self, context: Context) -> None:
        super().on_start(context)
        if self.where == "on_start":
            raise ValueError("no")

    def on_book(self, context: Context, book: L2Book) -> None:
        super().on_book(context, book)
        context.limit(BTC, Side.BUY, "90", "1")
        if self.where == "on_book" and book.id_last == 11:
            raise KeyError("price")

    def on_trade(self, context: Context, trade: Trade) -> None:
        super().on_trade(context, trade)
        if self.where == "on_trade":
            raise RuntimeError("line one\nline two")


@pytest.mark.parametrize("where", ["on_start", "on_book", "on_trade"])
def test_a_strategy_that_raises_is_stopped_and_the_books_go_on(where: str) -> None:
    diary = Faulty(where)
    rig = Rig(diary)
    rig.up("a")
    rig.receive("a", snapshot(10), delta(11), trade(1), delta(12), trade(2))
    (failed,) = rig.of(StrategyFailed)
    assert failed.callback == where and failed.strategy == "test"
    assert failed.subject == ("" if where == "on_start" else BTC)
    assert "Traceback" in failed.traceback and where in failed.traceback
    assert T0 <= failed.ts_fail_ns <= rig.now_ns
    told = len(diary.entries)
    rig.receive("a", delta(13))
    rig.wait()
    rig.engine.stop(rig.now_ns)
    assert len(diary.entries) == told
    statistics = rig.engine.statistics()
    assert not statistics.running and statistics.strategy_errors == 1 and statistics.failure.startswith(where)
    assert statistics.orders == 0 and statistics.instruments[BTC].counts.updates == 3


def test_another_engine_is_not_touched() -> None:
    faulty, sound = Rig(Faulty("on_book")), Rig(Diary())
    for rig in (faulty, sound):
        rig.receive("a", snapshot(10), delta(11), delta(12))
    assert not faulty.engine.is_running and sound.engine.is_running
    assert faulty.book.state_hash() == sound.book.state_hash()


# Others.


def test_a_new_engine_starts_from_an_image() -> None:
    rig, _ = live()
    rig.receive("a", delta(12, bids=(95, 2)))
    again = Rig(Diary())
    again.receive("b", message(rig.book.snapshot(), "dedup"), delta(13))
    rig.receive("a", delta(13))
    assert again.engine.book_texts() == rig.engine.book_texts()
    assert again.engine.book_texts()[BTC]["bids"][0] == ("100", "0.5")


def test_book_of_an_unknown_instrument_is_empty() -> None:
    rig, diary = live()
    assert diary.context is not None
    book = diary.context.book(HIT)
    assert book.top() is None and diary.context.books[HIT] is book
    rig.receive("a", snapshot(3, instrument=HIT))
    assert book.top() is not None


def test_same_input_same_output() -> None:
    outputs = []
    for _ in range(2):
        rig = Rig(Buyer())
        rig.receive("a", snapshot(10), delta(11, asks=(101, 9)), trade(4), line_down("osaka/1"))
        outputs.append((rig.commands, rig.engine.statistics()))
    assert outputs[0] == outputs[1]


# Quality.


def test_an_update_held_back_halves_the_quality_until_the_book_moves() -> None:
    rig, diary = live()
    told = len(diary.of("quality"))
    rig.receive("a", held(11))
    rig.receive("b", held(11))
    assert quality(rig) == (0.5, 2)
    assert len(diary.of("quality")) == told + 1, "the second replica says nothing new"
    rig.receive("b", delta(12))
    rig.receive("a", held(11))
    assert quality(rig) == (1.0, 2), "a replica that is behind says nothing new"


def test_a_line_that_one_replica_finds_silent_counts_until_the_other_does_too() -> None:
    rig, _ = live()
    rig.receive("a", line_down("tokyo/1", cause="silent"))
    assert quality(rig) == (1.0, 2)
    rig.receive("b", line_down("tokyo/1", cause="silent"))
    assert quality(rig) == (0.5, 1)
    rig.receive("b", line_up("tokyo/1"))
    assert quality(rig) == (1.0, 2)


def test_a_line_that_was_given_up_is_not_missed() -> None:
    rig, _ = live()
    for replica in ("a", "b"):
        rig.receive(replica, line_up("osaka/1~2"))
    for replica in ("a", "b"):
        rig.receive(replica, line_down("tokyo/1", cause=RETIRED))
    rig.receive("a", delta(12, line="tokyo/1"))
    assert quality(rig) == (1.0, 2)


def quality(rig: Rig) -> tuple[float, int]:
    counts = rig.engine.statistics().instruments[BTC]
    return counts.quality, counts.copies_left
