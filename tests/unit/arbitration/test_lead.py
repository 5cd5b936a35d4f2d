"""Streams without common ids: recordings of three connections at once, and each rule by itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from raytrade.arbitration import ArbiterSettings, Rule, StreamRule
from raytrade.arbitration.copies import content_of
from raytrade.arbitration.disagreement import Contradiction, Disagreements
from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Gap, GapKind, LineDown, LineUp, Side
from raytrade.core.message import Kind, decode
from tests.property.lines import NAME, START_NS, STREAM, Arrival, Consumer, Truth, message, run, same
from tests.unit.arbitration.captures import arrivals, expected, lossy_lines

OKX_X3 = "okx-v5/20210722-btc-usd-210924-66000-c-10sym-x3"
OKCOIN_X3 = "okcoin-v3/20210405-eth-usd-10sym-x3"
OKCOIN_SMALL_X3 = "okcoin-v3/20210417-btc-usdt-10sym-x3"
RECORDINGS = (OKX_X3, OKCOIN_X3, OKCOIN_SMALL_X3)
OKX = StreamRule(Rule.LEAD, in_band=True, checksum="okx")
PROVED = StreamRule(Rule.LEAD, in_band=True, checksum="top 2")
LEAD = StreamRule(Rule.LEAD, in_band=True)
SEEDS = 4


@pytest.fixture(autouse=True)
def _checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHECKSUMS, "top 2", lambda book: book.state_hash(2))


# Recordings.


def copies(arriving: list[Arrival]) -> Counter[tuple[str, tuple[int, int, int]]]:
    deltas = [each.message for each in arriving if each.message.kind is Kind.DELTA]
    return Counter((each.instrument, content_of(each, False)) for each in deltas)


def lossy(arriving: list[Arrival], seed: int, share: float) -> list[Arrival]:
    """Lose that share of each connection's deltas, at random, but never the last copy."""
    rng, left, kept = random.Random(seed), copies(arriving), []
    for each in arriving:
        if each.message.kind is Kind.DELTA:
            key = (each.message.instrument, content_of(each.message, False))
            if rng.random() < share and left[key] > 1:
                left[key] -= 1
                continue
        kept.append(each)
    return kept


def check_union(capture: str, arriving: list[Arrival]) -> None:
    books: dict[str, L2Book] = {}
    arbiter, out = run(arriving, OKX, validate=False)
    for _, _, each in out:
        assert each.kind in (Kind.SNAPSHOT, Kind.DELTA)
        assert not each.flags & Flag.UNAPPLIED
        event = decode(each)
        assert isinstance(event, BookSnapshot | BookDelta)
        books.setdefault(each.instrument, L2Book(each.instrument)).apply(event)
    union = Counter(instrument for instrument, _ in copies(arriving))
    for (instrument, channel), counts in arbiter.statistics().items():
        assert channel is Channel.BOOK
        truth = expected(capture)[instrument.partition(":")[2]]
        assert counts.updates == union[instrument]
        assert counts.gaps == counts.checksums_failed == 0
        for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
            assert [list(row) for row in books[instrument].texts(side)] == truth[name]


@pytest.mark.captures
@pytest.mark.parametrize("capture", RECORDINGS)
def test_three_connections_give_the_union(capture: str) -> None:
    arriving = list(arrivals(capture))
    check_union(capture, arriving)
    union = Counter(instrument for instrument, _ in copies(arriving))
    truth = expected(capture)
    assert {instrument.partition(":")[2]: count for instrument, count in union.items()} == {
        symbol: row["union_ids"] for symbol, row in truth.items() if row["union_ids"]
    }


@pytest.mark.captures
@pytest.mark.parametrize("removed", ["1", "2", "3"])
@pytest.mark.parametrize("capture", RECORDINGS)
def test_any_connection_can_be_removed(capture: str, removed: str) -> None:
    check_union(capture, [each for each in arrivals(capture) if each.line != removed])


@pytest.mark.captures
@pytest.mark.parametrize("capture", RECORDINGS)
def test_a_fifth_of_each_connection_can_be_lost(capture: str) -> None:
    for seed in range(SEEDS):
        check_union(capture, lossy(list(arrivals(capture)), seed, 0.2))


@pytest.mark.captures
@pytest.mark.parametrize("capture", ["kraken-v2/20260802-eth-usd", "kraken-v2/20260802-btc-usd"])
def test_a_windowed_book_merges_exactly_from_lines_whose_own_books_are_broken(capture: str) -> None:
    consumer = Consumer(follow_ids=False)
    rule = StreamRule(Rule.LEAD, in_band=True, checksum="kraken")
    arbiter, _ = run(lossy_lines(capture, 1, 0.2), rule, consumer, validate=False)
    ((stream, counts),) = arbiter.statistics().items()
    truth = expected(capture)[stream[0].partition(":")[2]]
    assert not consumer.gaps
    assert counts.updates == truth["deltas_applied"]
    assert all(line.gaps_seen for line in counts.lines.values())
    for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
        assert [list(row) for row in consumer.book.texts(side)] == truth[name]


# Proved by checksum.


def proved(truth: Truth, at: int, line: str = "a", **fields: object) -> Arrival:
    """Give the change that leads to state `at`, as it is delivered 10 ms after it happened."""
    state_hash = truth.book(at).state_hash(2)
    event = truth.delta(at - 1, at, flags=Flag.CHECKED, state_hash=state_hash, epoch=ord(line))
    return Arrival(truth.at_ns(at) + 10 * MILLISECOND, line, message(msgspec.structs.replace(event, **fields), line))


def first(truth: Truth, line: str = "a", at: int | None = None) -> Arrival:
    number = truth.id_start if at is None else at
    state_hash = truth.book(number).state_hash(2)
    event = truth.snapshot(number, flags=Flag.CHECKED, state_hash=state_hash, epoch=ord(line))
    return Arrival(truth.at_ns(number), line, message(event, line))


def by_hand(events: list[tuple[str, int, tuple[int, ...], int]]) -> Iterator[Arrival]:
    """Give checked deltas of the bid side: (line, ms, bids, hash)."""
    for line, ms, bids, state_hash in events:
        ts_ns = START_NS + ms * MILLISECOND
        event = BookDelta(
            instrument=NAME,
            id_prev=ms,
            id_last=ms + 1,
            bids=bids,
            asks=(),
            price_scale=0,
            size_scale=0,
            ts_venue_ns=ts_ns,
            ts_recv_ns=ts_ns,
            epoch=ord(line),
            state_hash=state_hash,
            flags=Flag.CHECKED,
        )
        yield Arrival(ts_ns, line, message(event, line))


def test_bytes_go_out_unchanged() -> None:
    truth = Truth(1, 20)
    arriving = [first(truth), *(proved(truth, at) for at in range(1001, 1021))]
    _, out = run(arriving, PROVED)
    assert [each.message.raw for each in out] == [each.message.raw for each in arriving]


def test_a_deep_change_that_comes_late_is_spliced_in_less_what_was_overwritten() -> None:
    book = L2Book(NAME)
    bids = (99, 1, 98, 1, 97, 1, 96, 1, 95, 1)
    snapshot = BookSnapshot(instrument=NAME, id_last=1, bids=bids, asks=(), price_scale=0, size_scale=0)
    snapshot = msgspec.structs.replace(snapshot, ts_venue_ns=START_NS, epoch=ord("a"))
    book.apply(snapshot)
    same_top = book.state_hash(2)
    snapshot = msgspec.structs.replace(snapshot, state_hash=same_top, flags=Flag.CHECKED)
    deep, later = (96, 7, 95, 7), (95, 5)
    arriving = [
        Arrival(START_NS, "a", message(snapshot, "a")),
        *by_hand([("a", 20, later, same_top)]),
        *(each._replace(now_ns=START_NS + SECOND, line="b") for each in by_hand([("b", 10, deep, same_top)])),
        *(each._replace(now_ns=START_NS + SECOND, line="b") for each in by_hand([("b", 20, later, same_top)])),
    ]
    consumer = Consumer(follow_ids=False)
    arbiter, out = run(arriving, PROVED, consumer)
    splice = out[-1].message
    assert splice.flags & Flag.SPLICE
    assert not splice.flags & Flag.CHECKED
    assert splice.levels() == ((96, 7), ())
    assert consumer.book.levels(Side.BUY) == [(99, 1), (98, 1), (97, 1), (96, 7), (95, 5)]
    counts = arbiter.statistics()[STREAM]
    assert (counts.lines["b"].wins, counts.lines["b"].duplicates) == (1, 1)


def test_a_message_repeated_by_one_line_goes_out_as_often_and_its_copies_do_not() -> None:
    truth = Truth(2, 5)
    repeated = proved(truth, 1001)
    arriving = [first(truth), first(truth, "b"), repeated, repeated]
    copy = proved(truth, 1001, "b")
    arbiter, out = run([*arriving, copy, copy], PROVED)
    assert sum(each.message.kind is Kind.DELTA for each in out) == 2
    assert arbiter.statistics()[STREAM].lines["b"].duplicates == 2


def test_a_loss_on_every_line_is_a_gap_and_the_next_snapshot_restarts() -> None:
    truth = lossy_top()
    arriving = [first(truth), *(proved(truth, at) for at in range(1001, 1201) if at != LOST)]
    back = first(truth, "b", 1150)
    consumer = Consumer(truth, follow_ids=False)
    arbiter, out = run([*arriving, back._replace(now_ns=back.now_ns + SECOND)], PROVED, consumer)
    kinds = [each.message.kind for each in out if each.message.kind is not Kind.DELTA]
    assert kinds == [Kind.SNAPSHOT, Kind.GAP, Kind.SNAPSHOT, Kind.RESYNCED]
    assert consumer.gaps[0].id_prev == LOST - 1
    assert same(consumer.book, truth.book(1200))
    counts = arbiter.statistics()[STREAM]
    assert (counts.gaps, counts.resyncs, counts.snapshots) == (1, 1, 2)


LOST = 1050


def lossy_top() -> Truth:
    """Give a truth in which message LOST changes the best levels, and is not undone for a long time."""
    for seed in range(500):
        truth = Truth(seed, 200)
        trial = truth.book(LOST - 1)
        seen = False
        for at in range(LOST + 1, 1151):
            trial.apply(truth.delta(at - 1, at))
            seen = seen or trial.state_hash(2) == truth.book(at).state_hash(2)
        if not seen:
            return truth
    raise AssertionError("no such truth")


def test_a_snapshot_ahead_waits_for_the_stream_and_then_is_dropped() -> None:
    truth = Truth(5, 60)
    arriving = [first(truth), *(proved(truth, at) for at in range(1001, 1061))]
    early = first(truth, "b", 1030)._replace(now_ns=truth.at_ns(1010))
    consumer = Consumer(truth, follow_ids=False)
    run([*arriving, early], PROVED, consumer)
    assert not consumer.gaps
    assert sum(each.kind is Kind.SNAPSHOT for each in consumer.log) == 1


def test_a_snapshot_that_fails_its_checksum_is_not_adopted() -> None:
    truth = Truth(6, 5)
    good = first(truth)
    bad = msgspec.structs.replace(truth.snapshot(truth.id_start), flags=Flag.CHECKED, state_hash=1)
    arbiter, out = run([Arrival(START_NS - 1, "a", message(bad)), good], PROVED)
    assert [each.message.raw for each in out] == [good.message.raw]
    assert arbiter.statistics()[STREAM].checksums_failed == 1


def down(at_ns: int, line: str = "a") -> Arrival:
    return Arrival(at_ns, line, message(LineDown(venue="sim", cause="cut"), line))


def up(at_ns: int, line: str = "a") -> Arrival:
    return Arrival(at_ns, line, message(LineUp(venue="sim"), line))


@pytest.mark.parametrize("quiet", [True, False])
def test_after_a_time_without_lines_an_equal_book_is_no_gap(quiet: bool) -> None:
    truth = Truth(7, 30)
    before = [first(truth), *(proved(truth, at) for at in range(1001, 1011))]
    number = 1010 if quiet else 1020
    again_ns = truth.at_ns(1020)
    again = first(truth, "a", number)._replace(now_ns=again_ns + 5)
    consumer = Consumer(truth, follow_ids=False)
    _, out = run([*before, down(again_ns - 50 * MILLISECOND), up(again_ns), again], PROVED, consumer)
    notes = [each.message.kind for each in out if each.message.kind not in (Kind.DELTA, Kind.LINE_UP, Kind.LINE_DOWN)]
    lost = [] if quiet else [Kind.GAP, Kind.SNAPSHOT]
    assert notes == [Kind.SNAPSHOT, Kind.STALLED, *lost, Kind.RESYNCED]
    assert same(consumer.book, truth.book(number))


def test_a_clock_set_back_is_a_reset() -> None:
    truth = lossy_top()
    old_ns = 3600 * SECOND
    arriving = [first(truth), *(proved(truth, at) for at in range(1001, 1011))]
    later = [first(truth, "a", 1160), *(proved(truth, at) for at in range(1011, 1201))]
    shifted = []
    for each in later:
        event = decode(each.message)
        event = msgspec.structs.replace(event, ts_venue_ns=event.ts_venue_ns - old_ns)  # type: ignore[union-attr]
        shifted.append(Arrival(each.now_ns + SECOND, "a", message(event, "a")))
    consumer = Consumer(follow_ids=False)
    arbiter, _ = run([*arriving, *shifted], PROVED, consumer)
    assert [msgspec.msgpack.decode(gap.tail())[0] for gap in consumer.gaps] == [GapKind.RESET]
    assert arbiter.statistics()[STREAM].resets == 1
    assert consumer.usable
    assert same(consumer.book, truth.book(1200))


def test_what_a_replica_kept_from_long_ago_says_nothing_of_the_venues_clock() -> None:
    truth = lossy_top()
    arriving = [
        first(truth),
        *(proved(truth, at) for at in range(1001, 1011)),
        first(truth, "b")._replace(now_ns=START_NS),
    ]
    old = []
    for each in (proved(truth, at) for at in range(1011, 1201)):
        event = decode(each.message)
        assert isinstance(event, BookDelta)
        event = msgspec.structs.replace(event, ts_venue_ns=event.ts_venue_ns - 3600 * SECOND)
        old.append(Arrival(each.now_ns + SECOND, "b", message(event, "b").flagged(Flag.UNAPPLIED)))
    consumer = Consumer(follow_ids=False)
    arbiter, _ = run([*arriving, *old], PROVED, consumer)
    assert arbiter.statistics()[STREAM].resets == 0
    assert GapKind.RESET not in [msgspec.msgpack.decode(gap.tail())[0] for gap in consumer.gaps]


def test_what_is_held_is_bounded() -> None:
    truth = lossy_top()
    arriving = [first(truth), *(proved(truth, at) for at in range(1001, 1201) if at != LOST)]
    settings = ArbiterSettings(held_messages_max=10, passed_ns=5 * SECOND, hold_back_ns_max=5 * SECOND)
    consumer = Consumer(follow_ids=False)
    arbiter, _ = run(arriving, PROVED, consumer, settings=settings)
    assert arbiter.statistics()[STREAM].held_max == 11
    assert len(consumer.gaps) == 1
    unapplied = sum(bool(each.flags & Flag.UNAPPLIED) for each in consumer.log)
    assert unapplied == 200 - LOST + 1000 - 10


def test_a_line_that_says_it_is_broken_is_counted_and_healed_by_its_next_book() -> None:
    truth = Truth(8, 20)
    gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=1, id_last=0, cause="checksum")
    arriving = [first(truth), first(truth, "b"), *(proved(truth, at) for at in range(1001, 1021))]
    arriving += [Arrival(truth.at_ns(1005), "b", message(gap, "b")), first(truth, "b", 1010)]
    arbiter, _ = run(arriving, PROVED)
    line = arbiter.statistics()[STREAM].lines["b"]
    assert (line.gaps_seen, line.gaps_healed) == (1, 1)


def test_without_checksums_the_stream_follows_one_line() -> None:
    truth = Truth(9, 20)
    image = message(truth.snapshot(truth.id_start, flags=Flag.IMAGE))
    deltas = [message(truth.delta(at - 1, at)) for at in range(1001, 1021)]
    arriving = [Arrival(START_NS, "a", image), *(Arrival(each.ts_venue_ns, "a", each) for each in deltas)]
    consumer = Consumer(truth)
    run(arriving, PROVED, consumer)
    assert same(consumer.book, truth.book(1020))
    plainly = Arrival(START_NS, "a", message(truth.snapshot(truth.id_start)))
    _, out = run([plainly, *arriving[1:]], PROVED)
    assert [each.message.kind for each in out] == [Kind.SNAPSHOT, *[Kind.DELTA] * 20]


# Lead and standby.


def plain(truth: Truth, at: int, line: str, lag_ns: int = 0, *, timed: bool = True) -> Arrival:
    event = truth.delta(at - 1, at, epoch=ord(line))
    event = event if timed else msgspec.structs.replace(event, ts_venue_ns=0)
    return Arrival(truth.at_ns(at) + lag_ns, line, message(event, line))


def opening(truth: Truth, line: str, at: int | None = None, lag_ns: int = 0, *, timed: bool = True) -> Arrival:
    number = truth.id_start if at is None else at
    event = truth.snapshot(number, epoch=ord(line))
    event = event if timed else msgspec.structs.replace(event, ts_venue_ns=0)
    return Arrival(truth.at_ns(number) + lag_ns, line, message(event, line))


def pair(truth: Truth, cut: int, lag_ns: int, *, timed: bool = True) -> list[Arrival]:
    """Line a up to `cut`, line b to the end and later by `lag_ns`."""
    lines = [opening(truth, "a", timed=timed), opening(truth, "b", timed=timed)._replace(now_ns=START_NS + 1)]
    lines += [plain(truth, at, "a", timed=timed) for at in range(1001, cut + 1)]
    return lines + [plain(truth, at, "b", lag_ns, timed=timed) for at in range(1001, truth.id_end + 1)]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("lag_ns", [0, 35 * MILLISECOND, -35 * MILLISECOND])
def test_a_lost_lead_is_replaced_at_an_equal_or_later_state(lag_ns: int, timed: bool) -> None:
    truth = Truth(11, 60)
    consumer = Consumer(truth, follow_ids=timed and lag_ns >= 0)
    arriving = [*pair(truth, 1030, lag_ns, timed=timed), down(truth.at_ns(1030) + 1)]
    arbiter, out = run(arriving, LEAD, consumer)
    assert not consumer.gaps
    assert same(consumer.book, truth.book(1060))
    splices = [each for each in out if each.message.flags & Flag.SPLICE]
    assert len(splices) == (lag_ns < 0)
    counts = arbiter.statistics()[STREAM]
    assert counts.lines["a"].wins == 30
    assert sum(part.updates for part in counts.lines.values()) == 90


def test_a_silent_lead_is_left_for_one_that_goes_on() -> None:
    truth = Truth(12, 100)
    consumer = Consumer(truth, follow_ids=False)
    _, out = run(pair(truth, 1030, 0), LEAD, consumer)
    splice = next(each for each in out if each.message.flags & Flag.SPLICE)
    assert splice.now_ns - truth.at_ns(1030) <= 270 * MILLISECOND
    assert same(consumer.book, truth.book(1100))


def test_no_good_standby_is_a_gap_until_the_next_book() -> None:
    truth = Truth(13, 60)
    arriving = [opening(truth, "a"), *(plain(truth, at, "a") for at in range(1001, 1031))]
    arriving += [down(truth.at_ns(1030) + 1), up(truth.at_ns(1040)), opening(truth, "a", 1041)]
    arriving += [plain(truth, at, "a") for at in range(1042, 1061)]
    consumer = Consumer(truth)
    arbiter, out = run(arriving, LEAD, consumer)
    kinds = [each.message.kind for each in out if each.message.kind is not Kind.DELTA]
    assert [kind for kind in kinds if kind not in (Kind.LINE_UP, Kind.LINE_DOWN)] == [
        Kind.SNAPSHOT,
        Kind.GAP,
        Kind.STALLED,
        Kind.SNAPSHOT,
        Kind.RESYNCED,
    ]
    assert same(consumer.book, truth.book(1060))
    assert arbiter.statistics()[STREAM].resyncs == 1


def test_a_standby_that_stays_behind_is_not_stepped_back_to() -> None:
    truth = Truth(14, 60)
    arriving = [each for each in pair(truth, 1030, 0) if each.line == "a" or each.message.id_last <= 1010]
    consumer = Consumer(truth)
    run([*arriving, down(truth.at_ns(1030) + 1)], LEAD, consumer)
    assert len(consumer.gaps) == 1
    assert not consumer.usable


def test_a_standby_with_another_state_at_the_same_id_is_counted() -> None:
    truth = Truth(15, 10)
    arriving = [opening(truth, "a"), opening(truth, "b")._replace(now_ns=START_NS + 1)]
    for at in range(1001, 1011):
        for line in "ab":
            event = truth.delta(at - 1, at, state_hash=7 if (line, at) == ("b", 1005) else 5)
            arriving.append(Arrival(truth.at_ns(at), line, message(event, line)))
    arbiter, _ = run(arriving, LEAD)
    lines = arbiter.statistics()[STREAM].lines
    assert (lines["a"].disagreements, lines["b"].disagreements) == (0, 1)


def test_a_line_that_disagrees_is_told_once_and_followed_last() -> None:
    truth = Truth(15, 20)
    arriving = [opening(truth, line)._replace(now_ns=START_NS + at) for at, line in enumerate("abc")]
    for at in range(1001, 1011):
        for line in "abc":
            event = truth.delta(at - 1, at, state_hash=7 if (line, at) == ("b", 1005) else 5)
            arriving.append(Arrival(truth.at_ns(at), line, message(event, line)))
    arbiter, _ = run(arriving, LEAD)
    disagreements = Disagreements()
    assert disagreements.review(arbiter.statistics(), START_NS) == [Contradiction("b", NAME, 1)]
    assert disagreements.review(arbiter.statistics(), START_NS + SECOND) == []
    arbiter.receive_line_down("a", truth.at_ns(1010) + 1)
    arbiter.output()
    for at in range(1011, 1013):
        for line in "bc":
            arbiter.receive(line, message(truth.delta(at - 1, at), line), truth.at_ns(at))
    assert {each.line for each in arbiter.output()} == {"c"}


def test_two_replicas_of_a_lead_stream_are_lines_of_a_third() -> None:
    truth = Truth(16, 100)
    arriving = [*pair(truth, 1030, 5 * MILLISECOND), down(truth.at_ns(1030) + 1)]
    merged = []
    for name, lag_ns in (("left", 0), ("right", 3 * MILLISECOND)):
        _, out = run(arriving, LEAD, name=name)
        stop_ns = truth.at_ns(1060) if name == "left" else 10**20
        merged += [each._replace(now_ns=each.now_ns + lag_ns) for each in out if each.now_ns < stop_ns]
    merged.append(down(truth.at_ns(1060), "left"))
    consumer = Consumer(truth)
    run(merged, LEAD, consumer)
    assert not consumer.gaps
    assert same(consumer.book, truth.book(1100))
