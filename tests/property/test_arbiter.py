"""What any interleaving, duplication, loss and delay of lines must leave true of an arbiter's output."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.arbitration import Rule, SnapshotWanted, StreamRule
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Channel, Flag, Gap, GapKind, LineDown, Side
from raytrade.core.message import Kind, Message
from tests.property.lines import (
    NAME,
    START_NS,
    STREAM,
    Answer,
    Arrival,
    Consumer,
    Truth,
    message,
    run,
    same,
    trade,
)

FEW = settings(max_examples=40, deadline=None)
LOOSE = StreamRule(Rule.LOOSE, contiguous=True)
STRICT = StreamRule(Rule.STRICT, contiguous=True)
DENSE = StreamRule(Rule.DENSE, contiguous=True)
PROVED = StreamRule(Rule.LEAD, in_band=True, checksum="top 3")
LEAD = StreamRule(Rule.LEAD, in_band=True)
REORDER_NS = 30 * MILLISECOND

Window = tuple[int, int]
seeds = st.integers(0, 2**32)


@pytest.fixture(autouse=True, scope="module")
def _checksum() -> Iterator[None]:
    """A venue checksum that covers three levels a side only."""
    CHECKSUMS["top 3"] = lambda book: book.state_hash(3)
    yield
    del CHECKSUMS["top 3"]


def cuts(rng: random.Random, start: int, end: int, width: int) -> list[tuple[int, int]]:
    """Cut the ids into windows of at most `width`."""
    windows, at = [], start
    while at < end:
        to = min(end, at + rng.randint(1, width))
        windows.append((at, to))
        at = to
    return windows


def delivered(
    rng: random.Random, line: str, truth: Truth, windows: list[tuple[int, int]], lag_ns: int, *, net: bool
) -> list[Arrival]:
    """Give the arrivals of windows on one line: late, jittered, out of order within bounds, some twice."""
    arrivals = []
    for window in windows:
        at_ns = truth.at_ns(window[1]) + lag_ns + rng.randint(0, REORDER_NS)
        copy = message(truth.delta(*window, net=net), line)
        arrivals += [Arrival(at_ns + again * MILLISECOND, line, copy) for again in range(rng.choice((1, 1, 2)))]
    return arrivals


def answers(truth: Truth, lag_ns: int = 50 * MILLISECOND, stops: list[int] | None = None) -> Answer:
    """Answer requests by the venue's book at that time (at the last of `stops`, where windows end)."""

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        assert wanted.instrument == NAME
        number = truth.id_start + max(0, (now_ns - START_NS) // (10 * MILLISECOND))
        number = min(truth.id_end, number)
        if stops is not None:
            number = max(stop for stop in stops if stop <= number)
        return [Arrival(now_ns + lag_ns, "rest", message(truth.snapshot(number), "rest"))]

    return answer


def runs(windows: list[tuple[int, int]], present: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give the maximal runs of windows that no line delivered."""
    found: list[tuple[int, int]] = []
    for window in windows:
        if window in present:
            continue
        if found and found[-1][1] == window[0]:
            found[-1] = (found[-1][0], window[1])
        else:
            found.append(window)
    return found


def chain_case(
    seed: int, loss: float, lines: int, count: int = 150, *, loose: bool
) -> tuple[Truth, list[Arrival], list[Window], list[list[Window]]]:
    """Give a truth, its arrivals, and the windows of each line that were delivered."""
    rng = random.Random(seed)
    truth = Truth(seed, count)
    common = cuts(rng, truth.id_start, truth.id_end, 4)
    arrivals: list[Arrival] = []
    kept_all: list[list[tuple[int, int]]] = []
    for number in range(lines):
        windows = cuts(rng, truth.id_start, truth.id_end, 5) if loose else common
        kept = [window for window in windows if window is windows[0] or rng.random() >= loss]
        kept_all.append(kept)
        lag_ns = rng.randint(0, 150) * MILLISECOND
        arrivals += delivered(rng, "abc"[number], truth, kept[1:], lag_ns, net=not loose)
        known = message(truth.delta(*kept[0], net=not loose), "abc"[number])
        arrivals.append(Arrival(START_NS, "abc"[number], known))
    rng.shuffle(arrivals)
    return truth, arrivals, common, kept_all


@FEW
@given(seed=seeds, lines=st.integers(1, 3), loss=st.sampled_from((0.0, 0.05, 0.3)))
def test_strict_gives_one_perfect_line_or_says_exactly_what_is_missing(seed: int, lines: int, loss: float) -> None:
    truth, arrivals, windows, kept = chain_case(seed, loss, lines, loose=False)
    consumer = Consumer(truth)
    stops = [truth.id_start, *(end for _, end in windows)]
    arbiter, _ = run(arrivals, STRICT, consumer, answer=answers(truth, stops=stops))
    present = set().union(*map(set, kept))
    missing = runs(windows, present)
    snapshots = sorted(each.id_last for each in consumer.applied if each.kind is Kind.SNAPSHOT)
    for gap in consumer.gaps:
        assert any(start <= gap.id_prev < gap.id_last == end for start, end in missing)
    if present:
        last = max(end for _, end in present)
        assert consumer.book.id_last >= last
        assert consumer.usable
    for start, end in missing:
        reported = any(gap.id_prev < end and gap.id_last > start for gap in consumer.gaps)
        skipped = any(base >= end for base in snapshots)
        assert reported or skipped or end >= max((to for _, to in present), default=0)
    counts = arbiter.statistics().get(STREAM)
    if counts is not None:
        unapplied = sum(each.kind is Kind.DELTA and bool(each.flags & Flag.UNAPPLIED) for each in consumer.log)
        given = sum(part.updates for part in counts.lines.values())
        assert given == len(arrivals)
        assert given == unapplied + sum(part.wins + part.duplicates for part in counts.lines.values())
        assert counts.gaps == len(consumer.gaps) >= counts.resyncs


@FEW
@given(seed=seeds, lines=st.integers(1, 3), loss=st.sampled_from((0.0, 0.05, 0.3)))
def test_loose_merges_windows_that_do_not_align(seed: int, lines: int, loss: float) -> None:
    truth, arrivals, _, kept = chain_case(seed, loss, lines, loose=True)
    consumer = Consumer(truth)
    run(arrivals, LOOSE, consumer, answer=answers(truth))
    touched = {number for windows in kept for start, end in windows for number in range(start + 1, end + 1)}
    for gap in consumer.gaps:
        assert gap.id_prev < gap.id_last
        assert not touched.issuperset(range(gap.id_prev + 1, gap.id_last + 1))
    if touched:
        assert consumer.book.id_last >= max(touched)
        assert consumer.usable
    if touched == set(range(truth.id_start + 1, truth.id_end + 1)):
        assert not consumer.gaps


@FEW
@given(seed=seeds, lines=st.integers(1, 3), loss=st.sampled_from((0.0, 0.1, 0.4)))
def test_dense_trades_come_once_in_order_and_gaps_are_what_no_line_had(seed: int, lines: int, loss: float) -> None:
    rng = random.Random(seed)
    arrivals, present = [], set()
    for number in range(lines):
        lag_ns = rng.randint(0, 150) * MILLISECOND
        for trade_id in range(1, 120):
            if rng.random() < loss and trade_id > 1:
                continue
            present.add(trade_id)
            at_ns = START_NS + trade_id * 10 * MILLISECOND + lag_ns + rng.randint(0, REORDER_NS)
            at_ns = at_ns if trade_id > 1 else START_NS
            arrivals.append(Arrival(at_ns, "abc"[number], message(trade(trade_id), "abc"[number])))
    _, out = run(arrivals, DENSE)
    given_out = [each.message.id_last for each in out if each.message.kind is Kind.TRADE]
    assert given_out == sorted(set(given_out))
    gaps = [each.message for each in out if each.message.kind is Kind.GAP]
    lost = {number for gap in gaps for number in range(gap.id_prev + 1, gap.id_last + 1)}
    assert not lost & present
    first = given_out[0] if given_out else 0
    assert set(given_out) == {number for number in present if number >= first}
    assert lost == {number for number in range(first, max(present, default=0)) if number not in present}
    assert len(gaps) == sum(each.message.kind is Kind.RESYNCED for each in out)


@FEW
@given(seed=seeds, loss=st.sampled_from((0.0, 0.2)), loose=st.booleans())
def test_two_replicas_into_a_third_equal_the_truth(seed: int, loss: float, loose: bool) -> None:
    rng = random.Random(seed)
    truth, arrivals, windows, _ = chain_case(seed, loss, 3, loose=loose)
    rule = LOOSE if loose else STRICT
    stops = None if loose else [truth.id_start, *(end for _, end in windows)]
    merged: list[Arrival] = []
    ends = []
    for name in ("left", "right"):
        consumer = Consumer(truth)
        late = [each._replace(now_ns=each.now_ns + rng.randint(0, 5) * MILLISECOND) for each in arrivals]
        _, out = run(late, rule, consumer, answer=answers(truth, stops=stops), name=name)
        lag_ns = rng.randint(0, 40) * MILLISECOND
        merged += [each._replace(now_ns=each.now_ns + lag_ns) for each in out]
        ends.append(consumer.book.id_last)
    third = Consumer(truth)
    run(merged, rule, third, answer=answers(truth, stops=stops))
    assert third.usable
    assert third.book.id_last >= max(ends)


@FEW
@given(seed=seeds, lines=st.integers(1, 3), at=st.integers(20, 130))
def test_a_time_without_lines_is_a_gap_only_if_something_was_lost(seed: int, lines: int, at: int) -> None:
    truth, arrivals, windows, _ = chain_case(seed, 0.0, lines, loose=False)
    names = "abc"[:lines]
    down_ns = truth.at_ns(truth.id_start + at)
    up_ns = down_ns + 200 * MILLISECOND
    arrivals = [each for each in arrivals if not down_ns <= each.now_ns < up_ns]
    arrivals += [Arrival(down_ns, n, message(LineDown(venue="sim", cause="cut"), n)) for n in names]
    consumer = Consumer(truth)
    stops = [truth.id_start, *(end for _, end in windows)]
    run(arrivals, STRICT, consumer, answer=answers(truth, stops=stops))
    present = {(each.message.id_prev, each.message.id_last) for each in arrivals}
    if consumer.applied:
        assert consumer.book.id_last >= max(end for _, end in present)
        assert consumer.usable
    assert consumer.stalls <= 1


@FEW
@given(seed=seeds, lines=st.integers(1, 3))
def test_restarted_ids_end_in_a_reset_and_a_resync(seed: int, lines: int) -> None:
    rng = random.Random(seed)
    old, new = Truth(seed, 100, 50_000), Truth(seed + 1, 400, 1000)
    shift_ns = 100 * 10 * MILLISECOND + 2 * SECOND
    arrivals = []
    for number in range(lines):
        line, lag_ns = "abc"[number], rng.randint(0, 100) * MILLISECOND
        for truth, later_ns in ((old, 0), (new, shift_ns)):
            for window in cuts(rng, truth.id_start, truth.id_end, 1):
                ts_ns = truth.at_ns(window[1]) + later_ns
                event = truth.delta(*window, ts_venue_ns=ts_ns, ts_recv_ns=ts_ns)
                arrivals.append(Arrival(ts_ns + lag_ns, line, message(event, line)))

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        is_new = now_ns >= START_NS + shift_ns
        truth, since_ns = (new, now_ns - START_NS - shift_ns) if is_new else (old, now_ns - START_NS)
        number = min(truth.id_end, truth.id_start + max(0, since_ns // (10 * MILLISECOND)))
        event = truth.snapshot(number, ts_venue_ns=now_ns)
        return [Arrival(now_ns + 50 * MILLISECOND, "rest", message(event, "rest"))]

    consumer = Consumer(None)
    run(arrivals, STRICT, consumer, answer=answer)
    kinds = [msgspec.msgpack.decode(gap.tail())[0] for gap in consumer.gaps]
    assert kinds == [GapKind.RESET]
    assert consumer.usable
    assert consumer.book.id_last == new.id_end
    assert same(consumer.book, new.book(new.id_end))


# Without common ids.


def proved_lines(
    seed: int, loss: float, lines: int, count: int = 150, *, keep_one: bool = True
) -> tuple[Truth, list[Arrival], int]:
    """Give lines of checked messages, each with its own ids; a message is lost on all but one line at most."""
    rng = random.Random(seed)
    truth = Truth(seed, count)
    windows = cuts(rng, truth.id_start, truth.id_end, 3)
    arrivals, lost = [], dict.fromkeys(windows, 0)
    for number in range(lines):
        line, epoch, lag_ns = "abc"[number], START_NS + number, rng.randint(0, 400) * MILLISECOND
        first = truth.snapshot(truth.id_start, flags=Flag.CHECKED, state_hash=truth.book(truth.id_start).state_hash(3))
        first = msgspec.structs.replace(first, id_last=1, epoch=epoch)
        last_ns = START_NS
        arrivals.append(Arrival(last_ns, line, message(first, line)))
        for at, window in enumerate(windows):
            if rng.random() < loss and (lost[window] < lines - 1 or not keep_one):
                lost[window] += 1
                continue
            event = truth.delta(
                *window, flags=Flag.CHECKED, state_hash=truth.book(window[1]).state_hash(3), epoch=epoch
            )
            event = msgspec.structs.replace(event, id_prev=at + 1, id_last=at + 2)
            last_ns = max(last_ns, truth.at_ns(window[1]) + lag_ns + rng.randint(0, REORDER_NS))
            arrivals.append(Arrival(last_ns, line, message(event, line)))
    return truth, arrivals, len(windows)


@FEW
@given(seed=seeds, lines=st.integers(1, 3), loss=st.sampled_from((0.0, 0.2, 0.5)))
def test_proved_messages_merge_to_the_union(seed: int, lines: int, loss: float) -> None:
    truth, arrivals, total = proved_lines(seed, loss, lines)
    consumer = Consumer(truth, follow_ids=False)
    arbiter, _ = run(arrivals, PROVED, consumer)
    counts = arbiter.statistics()[STREAM]
    assert not consumer.gaps
    assert counts.updates == total
    assert same(consumer.book, truth.book(truth.id_end))
    given = sum(part.updates for part in counts.lines.values())
    assert given == sum(part.wins + part.duplicates for part in counts.lines.values())


@FEW
@given(seed=seeds, loss=st.sampled_from((0.0, 0.3)))
def test_two_replicas_of_proved_lines_into_a_third(seed: int, loss: float) -> None:
    rng = random.Random(seed)
    truth, arrivals, _ = proved_lines(seed, loss, 3)
    merged = []
    for name in ("left", "right"):
        late = [each._replace(now_ns=each.now_ns + 20 * MILLISECOND * (name == "left")) for each in arrivals]
        _, out = run(late, PROVED, name=name)
        lag_ns = rng.randint(0, 40) * MILLISECOND
        merged += [each._replace(now_ns=each.now_ns + lag_ns) for each in out]
    third = Consumer(truth, follow_ids=False)
    run(merged, PROVED, third)
    assert not third.gaps
    assert same(third.book, truth.book(truth.id_end))


@FEW
@given(seed=seeds, lines=st.integers(1, 3))
def test_proved_stream_resyncs_from_any_lines_snapshot(seed: int, lines: int) -> None:
    truth, arrivals, _ = proved_lines(seed, 0.1, lines, keep_one=False)

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        number = min(truth.id_end, truth.id_start + max(0, (now_ns - START_NS) // (10 * MILLISECOND)))
        event = truth.snapshot(number, flags=Flag.CHECKED, state_hash=truth.book(number).state_hash(3), epoch=now_ns)
        return [Arrival(now_ns + 50 * MILLISECOND, "a", message(event, "a"))]

    consumer = Consumer(truth, follow_ids=False)
    arbiter, _ = run(arrivals, PROVED, consumer, answer=answer)
    counts = arbiter.statistics()[STREAM]
    assert counts.gaps == len(consumer.gaps)
    assert counts.resyncs == counts.gaps - (not consumer.usable)
    assert consumer.usable
    top = [consumer.book.levels(side, 3) for side in (Side.BUY, Side.SELL)]
    number = truth.id_start + (consumer.book.ts_venue_ns - START_NS) // (10 * MILLISECOND)
    if not any(each.flags & Flag.SPLICE for each in consumer.applied[-1:]):
        assert top == [truth.book(number).levels(side, 3) for side in (Side.BUY, Side.SELL)]


class TrueStates(Consumer):
    """Checks that every book given out is a venue state, and that none steps back in time."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth, follow_ids=False)
        self.number = truth.id_start

    def _apply(self, each: Message) -> None:
        super()._apply(each)
        assert self.truth is not None
        for number in range(self.number, self.truth.id_end + 1):
            if same(self.book, self.truth.book(number)):
                self.number = number
                return
        raise AssertionError(f"no venue state at or after {self.number}")


@settings(max_examples=30, deadline=None)
@given(seed=seeds, lines=st.integers(2, 3), breaks=st.booleans())
def test_standbys_take_over_without_a_seam(seed: int, lines: int, breaks: bool) -> None:
    rng = random.Random(seed)
    truth = Truth(seed, 150)
    arrivals = []
    survivor = rng.randrange(lines)
    for number in range(lines):
        line, lag_ns = "abc"[number], rng.randint(0, 100) * MILLISECOND
        first = truth.snapshot(truth.id_start, id_last=1, epoch=START_NS + number)
        arrivals.append(Arrival(START_NS, line, message(first, line)))
        end = truth.id_end if number == survivor else rng.randint(truth.id_start + 1, truth.id_end)
        for at in range(truth.id_start, end):
            event = truth.delta(at, at + 1, epoch=START_NS + number)
            event = msgspec.structs.replace(event, id_prev=at, id_last=at + 1)
            arrivals.append(Arrival(truth.at_ns(at + 1) + lag_ns, line, message(event, line)))
        if number != survivor:
            at_ns = truth.at_ns(end) + lag_ns + 1
            gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=end, id_last=0, cause="?")
            lost = gap if breaks else LineDown(venue="sim", cause="cut")
            arrivals.append(Arrival(at_ns, line, message(lost, line)))
    consumer = TrueStates(truth)
    arbiter, _ = run(arrivals, LEAD, consumer)
    assert not consumer.gaps
    assert same(consumer.book, truth.book(truth.id_end))
    assert consumer.usable
    counts = arbiter.statistics()[STREAM]
    spliced = sum(bool(each.flags & Flag.SPLICE) for each in consumer.applied)
    assert counts.updates == sum(part.wins for part in counts.lines.values()) + spliced
