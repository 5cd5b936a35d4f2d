"""Chain arbitration, rule by rule; `tests/property/test_arbiter.py` has the interleavings."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from raytrade.arbitration import ArbiterSettings, Rule, SnapshotWanted, StreamRule
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Channel, Flag, Gap, GapKind, LineDown, LineUp, Resynced, Stalled
from raytrade.core.message import Kind, decode
from tests.property.lines import NAME, START_NS, STREAM, Arrival, Consumer, Truth, message, run, same, trade

STRICT = StreamRule(Rule.STRICT, contiguous=True, in_band=True)
REST = StreamRule(Rule.STRICT, contiguous=True)
LOOSE = StreamRule(Rule.LOOSE, contiguous=True)
SPARSE = StreamRule(Rule.LOOSE)
DENSE = StreamRule(Rule.DENSE, contiguous=True)
OLD = 3 * SECOND
"""Past this time all lines of a stream count as known."""


def delta(truth: Truth, start: int, end: int, line: str = "a", late_ns: int = 0) -> Arrival:
    return Arrival(truth.at_ns(end) + late_ns, line, message(truth.delta(start, end), line))


def image(truth: Truth, number: int, line: str = "a", at_ns: int | None = None, flags: int = 0) -> Arrival:
    now_ns = truth.at_ns(number) if at_ns is None else at_ns
    return Arrival(now_ns, line, message(truth.snapshot(number, flags=flags), line))


def steps(truth: Truth, start: int, end: int, line: str = "a", late_ns: int = 0) -> list[Arrival]:
    return [delta(truth, at - 1, at, line, late_ns) for at in range(start + 1, end + 1)]


def note(at_ns: int, line: str, event: LineUp | LineDown | Gap | Resynced | Stalled) -> Arrival:
    return Arrival(at_ns, line, message(event, line))


def down(at_ns: int, line: str = "a") -> Arrival:
    return note(at_ns, line, LineDown(venue="sim", cause="cut"))


def up(at_ns: int, line: str = "a") -> Arrival:
    return note(at_ns, line, LineUp(venue="sim"))


def kinds(out: list[Arrival]) -> list[Kind]:
    skipped = (Kind.DELTA, Kind.LINE_UP, Kind.LINE_DOWN)
    return [each.message.kind for each in out if each.message.kind not in skipped]


def test_the_first_copy_goes_out_at_once_with_its_bytes_unchanged() -> None:
    truth = Truth(1, 30)
    fast, slow = steps(truth, 1000, 1030), steps(truth, 1000, 1030, "b", 5 * MILLISECOND)
    arbiter, out = run([image(truth, 1000), *fast, *slow], STRICT)
    assert [each.message.raw for each in out[1:]] == [each.message.raw for each in fast]
    assert [each.now_ns for each in out[1:]] == [each.now_ns for each in fast]
    counts = arbiter.statistics()[STREAM]
    assert (counts.lines["a"].wins, counts.lines["b"].wins) == (30, 0)
    assert counts.lines["b"].duplicates == 30
    assert counts.lines["a"].lead.total == 30
    assert counts.lines["a"].lead.max_ns == 5 * MILLISECOND
    assert (counts.first_id, counts.last_id) == (1000, 1030)


def test_a_hole_is_filled_by_the_other_line() -> None:
    truth = Truth(2, 30)
    holed = [each for each in steps(truth, 1000, 1030) if each.message.id_last not in (1010, 1011)]
    arbiter, out = run([image(truth, 1000), *holed, *steps(truth, 1000, 1030, "b", 100 * MILLISECOND)], STRICT)
    ids = [each.message.id_last for each in out]
    assert ids == list(range(1000, 1031))
    line = arbiter.statistics()[STREAM].lines["a"]
    assert (line.gaps_seen, line.gaps_healed) == (1, 1)


def test_a_loss_on_all_lines_is_a_gap_and_later_deltas_are_not_applicable() -> None:
    truth = Truth(3, 400)
    holed = [each for each in steps(truth, 1000, 1400) if each.message.id_last not in (1350, 1351)]
    consumer = Consumer(truth)
    again = image(truth, 1380, at_ns=truth.at_ns(1380) + 1)
    arbiter, out = run([image(truth, 1000), *holed, again], STRICT, consumer)
    gap = decode(consumer.gaps[0])
    assert isinstance(gap, Gap)
    assert (gap.id_prev, gap.id_last, gap.kind, gap.lines) == (1349, 1351, GapKind.VENUE, ("a",))
    assert kinds(out) == [Kind.SNAPSHOT, Kind.GAP, Kind.SNAPSHOT, Kind.RESYNCED]
    unapplied = [each.message.id_last for each in out if each.message.flags & Flag.UNAPPLIED]
    assert unapplied == list(range(1352, 1381))
    assert same(consumer.book, truth.book(1400))
    line = arbiter.statistics()[STREAM].lines["a"]
    assert (line.gaps_seen, line.gaps_healed) == (1, 0)


def test_a_line_that_has_not_passed_the_hole_is_waited_for() -> None:
    truth = Truth(4, 400)
    holed = [each for each in steps(truth, 1000, 1400) if each.message.id_last != 1350]
    lagging = [each for each in steps(truth, 1000, 1400, "b") if each.message.id_last < 1345]
    consumer = Consumer(truth)
    run([image(truth, 1000), *holed, *lagging], STRICT, consumer, tail_ns=0)
    assert not consumer.gaps
    run([image(truth, 1000), *holed, *lagging], STRICT, consumer := Consumer(truth))
    assert [gap.id_last for gap in consumer.gaps] == [1350]


def test_neighbours_swapped_on_the_last_line_past_a_hole_are_waited_for() -> None:
    truth = Truth(5, 400)
    holed = [each for each in steps(truth, 1000, 1400) if each.message.id_last != 1350]
    late = steps(truth, 1000, 1400, "b", 200 * MILLISECOND)
    swapped = [
        each._replace(now_ns=each.now_ns + 30 * MILLISECOND) if each.message.id_last == 1350 else each for each in late
    ]
    consumer = Consumer(truth)
    run([image(truth, 1000), *holed, *swapped], STRICT, consumer)
    assert not consumer.gaps


def test_strict_refuses_a_window_that_straddles_and_loose_takes_it() -> None:
    truth = Truth(6, 30)
    arriving = [image(truth, 1000), delta(truth, 1000, 1005), delta(truth, 1003, 1010, "b")]
    strict, loose = Consumer(truth), Consumer(truth)
    run(arriving, LOOSE, loose)
    assert loose.book.id_last == 1010
    _, out = run(arriving, STRICT, strict)
    assert strict.book.id_last == 1005
    assert kinds(out) == [Kind.SNAPSHOT, Kind.GAP]
    assert [(gap.id_prev, gap.id_last) for gap in strict.gaps] == [(1005, 1010)]


def test_strict_drops_a_straddling_window_once_aligned_ones_passed_it() -> None:
    truth = Truth(7, 30)
    arriving = [image(truth, 1000), delta(truth, 1000, 1005), delta(truth, 1003, 1010, "b")]
    arriving += [delta(truth, 1005, 1012, "a"), delta(truth, 1012, 1020, "a")]
    consumer = Consumer(truth)
    arbiter, _ = run(arriving, STRICT, consumer)
    assert not consumer.gaps
    assert consumer.book.id_last == 1020
    assert arbiter.statistics()[STREAM].lines["b"].duplicates == 1


def test_a_snapshot_ahead_that_the_stream_reaches_is_no_loss() -> None:
    truth = Truth(8, 60)
    early = image(truth, 1030, "b", truth.at_ns(1010), Flag.IMAGE)
    consumer = Consumer(truth)
    arbiter, out = run([image(truth, 1000), *steps(truth, 1000, 1060), early], STRICT, consumer)
    assert kinds(out) == [Kind.SNAPSHOT]
    assert not consumer.gaps
    assert arbiter.deadline_ns() is None


@pytest.mark.parametrize(("rule", "gaps"), [(LOOSE, 1), (SPARSE, 0)])
def test_a_snapshot_ahead_proves_a_loss_only_where_ids_have_no_holes(rule: StreamRule, gaps: int) -> None:
    truth = Truth(9, 60)
    ahead = image(truth, 1030, "rest", truth.at_ns(1030))
    consumer = Consumer(truth)
    run([image(truth, 1000), *steps(truth, 1000, 1010), ahead], rule, consumer)
    assert len(consumer.gaps) == gaps
    assert consumer.book.id_last == (1030 if gaps else 1010)


def test_a_snapshot_ahead_is_used_when_what_is_missing_does_not_come() -> None:
    truth = Truth(10, 60)
    ahead = image(truth, 1030, "b", truth.at_ns(1030))
    consumer = Consumer(truth)
    arriving = [image(truth, 1000), *steps(truth, 1000, 1010), *steps(truth, 1020, 1060), ahead]
    _, out = run(arriving, STRICT, consumer)
    assert kinds(out) == [Kind.SNAPSHOT, Kind.GAP, Kind.SNAPSHOT, Kind.RESYNCED]
    assert same(consumer.book, truth.book(1060))


def test_an_old_rest_book_is_asked_for_again_after_growing_times() -> None:
    truth = Truth(11, 2000)
    asked: list[int] = []

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        assert wanted.instrument == NAME
        asked.append(now_ns)
        number = 1000 if len(asked) < 4 else min(truth.id_end, 1000 + (now_ns - START_NS) // (10 * MILLISECOND))
        return [image(truth, number, "rest", now_ns + MILLISECOND)]

    consumer = Consumer(truth)
    run(steps(truth, 1001, 3000), REST, consumer, answer=answer)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits == [2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert same(consumer.book, truth.book(3000))
    assert not consumer.gaps


def test_the_first_book_is_asked_for_only_where_it_does_not_come_in_band() -> None:
    truth = Truth(12, 10)
    reasons: list[str] = []

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        reasons.append(wanted.reason)
        return []

    for rule in (STRICT, REST):
        run(steps(truth, 1000, 1010), rule, answer=answer, tail_ns=0)
    assert reasons == ["first message"]


def test_what_waits_for_a_book_is_bounded_and_goes_out_unapplied() -> None:
    truth = Truth(13, 300)
    settings = ArbiterSettings(sync_ns_max=SECOND, snapshot_retry_ns=100 * SECOND)
    _, out = run(steps(truth, 1000, 1300), REST, settings=settings, tail_ns=0)
    assert all(each.message.flags & Flag.UNAPPLIED for each in out)
    assert [each.message.id_last for each in out] == list(range(1001, 1200))
    limited = ArbiterSettings(sync_bytes_max=1000, snapshot_retry_ns=100 * SECOND)
    _, out = run(steps(truth, 1000, 1300), REST, settings=limited, tail_ns=0)
    assert len(out) > 280


def test_what_is_held_is_bounded_in_messages_and_bytes() -> None:
    truth = Truth(14, 300)
    arriving = [image(truth, 1000), *steps(truth, 1001, 1300)]
    for settings in (
        ArbiterSettings(held_messages_max=20, hold_back_ns_max=100 * SECOND),
        ArbiterSettings(held_bytes_max=2000, hold_back_ns_max=100 * SECOND),
    ):
        consumer = Consumer(truth)
        arbiter, _ = run(arriving, STRICT, consumer, settings=settings, tail_ns=0)
        assert [(gap.id_prev, gap.id_last) for gap in consumer.gaps] == [(1000, 1001)]
        assert arbiter.statistics()[STREAM].held_max <= 21


@pytest.mark.parametrize("quiet", [True, False])
def test_all_lines_down_and_up_again(quiet: bool) -> None:
    truth = Truth(15, 60)
    end = 1020 if quiet else 1040
    again_ns = truth.at_ns(1050)
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), *steps(truth, 1000, 1020, "b")]
    arriving += [down(truth.at_ns(1021)), down(truth.at_ns(1022), "b"), up(again_ns)]
    consumer = Consumer(truth)
    _, out = run([*arriving, image(truth, end, at_ns=again_ns + 1)], STRICT, consumer)
    lost = [] if quiet else [Kind.GAP, Kind.SNAPSHOT]
    assert kinds(out) == [Kind.SNAPSHOT, Kind.STALLED, *lost, Kind.RESYNCED]
    assert same(consumer.book, truth.book(end))
    assert consumer.book.top() is not None


def test_a_book_that_was_kept_before_an_outage_is_of_no_use_after_it() -> None:
    truth = Truth(16, 60)
    kept = image(truth, 1040, at_ns=truth.at_ns(1020) + 1)
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), kept, down(truth.at_ns(1021))]
    arbiter, out = run(arriving, StreamRule(Rule.STRICT, contiguous=False))
    arbiter.validate()
    arbiter.receive_timeout(truth.at_ns(1021) + 10 * SECOND)
    assert kinds(out) == [Kind.SNAPSHOT, Kind.STALLED] and arbiter.output() == []


def test_a_chain_that_goes_on_after_a_stall_lost_nothing() -> None:
    truth = Truth(16, 60)
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), down(truth.at_ns(1020) + 1), up(truth.at_ns(1040))]
    late = steps(truth, 1020, 1060, "a", SECOND)
    consumer = Consumer(truth)
    _, out = run([*arriving, *late], STRICT, consumer)
    assert kinds(out) == [Kind.SNAPSHOT, Kind.STALLED, Kind.RESYNCED]
    assert same(consumer.book, truth.book(1060))


def test_a_rest_book_is_wanted_after_a_stall() -> None:
    truth = Truth(17, 60)
    reasons: list[str] = []

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        reasons.append(wanted.reason)
        return [image(truth, 1000 if len(reasons) == 1 else 1050, "rest", now_ns + 1)]

    arriving = [*steps(truth, 1000, 1020), down(truth.at_ns(1021)), up(truth.at_ns(1050))]
    consumer = Consumer(truth)
    run(arriving, REST, consumer, answer=answer)
    assert reasons == ["first message", "no line was up"]
    assert same(consumer.book, truth.book(1050))


def test_a_stalled_replica_is_a_line_that_is_down() -> None:
    truth = Truth(18, 60)
    stalled = Stalled(instrument=NAME, channel=Channel.BOOK, cause="all lines are down")
    resynced = Resynced(instrument=NAME, channel=Channel.BOOK, id_last=1020)
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), *steps(truth, 1000, 1020, "b")]
    arriving += [note(truth.at_ns(1021), line, stalled) for line in "ab"]
    arriving += [note(truth.at_ns(1030), line, resynced) for line in "ab"]
    _, out = run(arriving, STRICT)
    assert kinds(out) == [Kind.SNAPSHOT, Kind.STALLED, Kind.RESYNCED]


def test_after_an_outage_a_book_waits_a_moment_for_what_the_other_replica_has_of_the_hole() -> None:
    truth = Truth(18, 60)
    stalled = Stalled(instrument=NAME, channel=Channel.BOOK, cause="all lines are down")
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), *steps(truth, 1000, 1020, "b")]
    arriving += [note(truth.at_ns(1021), line, stalled) for line in "ab"]
    back_ns = truth.at_ns(1030)
    for delay_ns, line, end in ((0, "a", 1025), (MILLISECOND, "b", 1024)):
        gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=1020, id_last=end, cause="?")
        copies = [each._replace(now_ns=back_ns + delay_ns) for each in steps(truth, end, 1025, line)]
        flagged = [each._replace(message=each.message.flagged(Flag.UNAPPLIED)) for each in copies]
        book = image(truth, 1025, line, back_ns + delay_ns)
        arriving += [note(back_ns + delay_ns, line, gap), *flagged, book, *steps(truth, 1025, 1060, line, delay_ns)]
    consumer = Consumer(truth)
    run(arriving, STRICT, consumer)
    (told,) = [decode(each) for each in consumer.gaps]
    assert isinstance(told, Gap)
    assert (told.id_prev, told.id_last, told.cause) == (1020, 1024, "no line was up")
    assert same(consumer.book, truth.book(1060))


def test_the_gap_of_one_replica_is_healed_by_the_other() -> None:
    truth = Truth(19, 60)
    gap = Gap(instrument=NAME, channel=Channel.BOOK, kind=GapKind.VENUE, id_prev=1020, id_last=1025, cause="?")
    flagged = [
        each._replace(message=each.message.flagged(Flag.UNAPPLIED)) for each in steps(truth, 1025, 1060, "a", -1)
    ]
    arriving = [image(truth, 1000), *steps(truth, 1000, 1020), note(truth.at_ns(1025), "a", gap), *flagged]
    consumer = Consumer(truth)
    arbiter, _ = run([*arriving, *steps(truth, 1000, 1060, "b")], STRICT, consumer)
    assert not consumer.gaps
    assert same(consumer.book, truth.book(1060))
    line = arbiter.statistics()[STREAM].lines["a"]
    assert (line.gaps_seen, line.gaps_healed) == (1, 1)
    assert line.wins > 20


def test_stale_ids_with_newer_times_are_a_reset_and_in_band_books_restart() -> None:
    old, new = Truth(20, 20, 90_000), Truth(21, 400, 10)
    shift_ns = 20 * SECOND
    later = [image(new, 10), *steps(new, 10, 410), image(new, 300)]
    events = [(each, decode(each.message)) for each in later]
    shifted = [
        Arrival(
            each.now_ns + shift_ns,
            "a",
            message(msgspec.structs.replace(event, ts_venue_ns=each.message.ts_venue_ns + shift_ns)),
        )
        for each, event in events
    ]
    consumer = Consumer()
    arbiter, _ = run([image(old, 90_000), *steps(old, 90_000, 90_020), *shifted], STRICT, consumer)
    assert [msgspec.msgpack.decode(gap.tail())[0] for gap in consumer.gaps] == [GapKind.RESET]
    assert arbiter.statistics()[STREAM].resets == 1
    assert same(consumer.book, new.book(410))


def test_dense_trades_go_on_after_a_gap_and_say_so() -> None:
    trades = [message(trade(number)) for number in range(1, 400) if number not in (350, 351)]
    arriving = [Arrival(each.ts_venue_ns, "a", each) for each in trades]
    arbiter, out = run(arriving, DENSE)
    notes = [each.message for each in out if each.message.kind is not Kind.TRADE]
    assert [(each.kind, each.id_prev, each.id_last) for each in notes] == [
        (Kind.GAP, 349, 351),
        (Kind.RESYNCED, 0, 351),
    ]
    (counts,) = arbiter.statistics().values()
    assert (counts.first_id, counts.last_id, counts.updates, counts.gaps, counts.resyncs) == (1, 399, 397, 1, 1)
