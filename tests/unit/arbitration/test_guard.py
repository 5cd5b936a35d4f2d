"""The guard, case by case: who is demoted, what consumers are told, and how a line comes back."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from raytrade.arbitration import Arbiter, ArbiterSettings, Rule, SnapshotWanted, StreamRule
from raytrade.arbitration.guard import AGREEMENTS, DIFFERING, DIFFERING_MAX, DISPUTE_NS, REMEMBERED_MAX, Guard
from raytrade.arbitration.stream import StreamCounts
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Flag, Gap, GapKind, LineDown, LineUp
from raytrade.core.message import Kind, decode
from tests.property.lines import NAME, STREAM, Arrival, Consumer, Truth, message, run

REST = StreamRule(Rule.LOOSE, contiguous=True)
STRICT = StreamRule(Rule.STRICT, contiguous=True, in_band=True)
GUARDED = ArbiterSettings(guard=True)
LATE_NS = {"a": 0, "b": 3 * MILLISECOND, "c": 6 * MILLISECOND}


def lie_of(truth: Truth, id_prev: int, id_last: int) -> object:
    """Give the delta with one size that is not the venue's."""
    delta = truth.delta(id_prev, id_last)
    side = "bids" if delta.bids else "asks"
    price, size, *rest = getattr(delta, side)
    return msgspec.structs.replace(delta, **{side: (price, size + 7, *rest)})


def copies(
    truth: Truth, line: str, start: int, end: int, lies: range = range(0), late_ns: int | None = None
) -> list[Arrival]:
    """Give one line's copies of ``(start, end]``, with a lie under each id of `lies`."""
    late = LATE_NS[line] if late_ns is None else late_ns
    found = []
    for at in range(start + 1, end + 1):
        event = lie_of(truth, at - 1, at) if at in lies else truth.delta(at - 1, at)
        found.append(Arrival(truth.at_ns(at) + late, line, message(event, line)))  # type: ignore[arg-type]
    return found


def book(truth: Truth, at: int, line: str = "a", late_ns: int = 0) -> Arrival:
    return Arrival(truth.at_ns(at) + late_ns, line, message(truth.snapshot(at), line))


def answering(truth: Truth, line: str = "a") -> object:
    """Answer requests with the venue's book of that moment, fetched on a line."""

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        asked.append(wanted)
        at = min(truth.id_end, truth.id_start + (now_ns - truth.at_ns(truth.id_start)) // (10 * MILLISECOND))
        return [Arrival(now_ns + 30 * MILLISECOND, line, message(truth.snapshot(int(at)), line))]

    asked: list[SnapshotWanted] = []
    return answer


def watch(
    truth: Truth, arrivals: list[Arrival], rule: StreamRule = REST, answer_on: str = "a"
) -> tuple[Arbiter, Consumer, list[Arrival]]:
    consumer = Consumer()
    arbiter, out = run(
        [book(truth, truth.id_start, "a", -MILLISECOND), *arrivals],
        rule,
        consumer,
        settings=GUARDED,
        answer=answering(truth, answer_on),  # type: ignore[arg-type]
    )
    consumer.truth = truth
    return arbiter, consumer, out


def doubts(consumer: Consumer) -> list[Gap]:
    gaps = [decode(gap) for gap in consumer.gaps]
    return [gap for gap in gaps if isinstance(gap, Gap) and gap.kind is GapKind.DOUBT]


def lines_of(arbiter: Arbiter) -> dict[str, int]:
    return {line: part.disagreements for line, part in arbiter.statistics()[STREAM].lines.items() if part.disagreements}


def test_with_a_majority_the_odd_one_out_is_demoted_and_what_it_gave_is_doubted() -> None:
    truth = Truth(1, 60)
    a = copies(truth, "a", 1000, 1060, lies=range(1020, 1061))
    arbiter, consumer, _ = watch(
        truth, a + copies(truth, "b", 1000, 1060) + copies(truth, "c", 1000, 1060), answer_on="b"
    )
    assert [gap.id_prev for gap in doubts(consumer)] == [1020]
    assert "a: contradicts b, c at (1019, 1020]" in doubts(consumer)[0].cause
    assert lines_of(arbiter)["a"] >= 1 and "b" not in lines_of(arbiter)
    assert "a demoted" in arbiter.alarms(0)[NAME]
    consumer.check()
    assert consumer.book.id_last == 1060


def test_a_lie_that_came_too_late_touches_nothing() -> None:
    truth = Truth(2, 60)
    honest = copies(truth, "a", 1000, 1060) + copies(truth, "b", 1000, 1060)
    arbiter, consumer, out = watch(truth, honest + copies(truth, "c", 1000, 1060, lies=range(1020, 1061)))
    assert not consumer.gaps
    assert [each.message.id_last for each in out if each.message.kind is Kind.DELTA] == list(range(1001, 1061))
    assert "c demoted: contradicts a, b at (1019, 1020]" in arbiter.alarms(0)[NAME]
    consumer.check()


def test_a_lie_is_found_before_it_goes_out_while_it_is_held_back() -> None:
    truth = Truth(3, 60)
    a = [each for each in copies(truth, "a", 1000, 1060, lies=range(1021, 1061)) if each.message.id_last != 1020]
    slow = 40 * MILLISECOND
    b, c = copies(truth, "b", 1000, 1060, late_ns=slow), copies(truth, "c", 1000, 1060, late_ns=slow + 1)
    b[19] = Arrival(b[24].now_ns, "b", b[19].message)
    c[19] = Arrival(c[24].now_ns, "c", c[19].message)
    arbiter, consumer, _ = watch(truth, a + b + c)
    wins = arbiter.statistics()[STREAM].lines["a"].wins
    assert wins == 19
    assert not consumer.gaps
    assert "a demoted" in arbiter.alarms(0)[NAME]
    consumer.check()
    assert consumer.book.id_last == 1060


@pytest.mark.parametrize("liar", ["a", "b"])
def test_of_two_lines_the_venues_own_book_tells_who_is_right(liar: str) -> None:
    truth = Truth(4, 80)
    lines = [copies(truth, line, 1000, 1080, lies=range(1030, 1081) if line == liar else range(0)) for line in "ab"]
    arbiter, consumer, _ = watch(truth, lines[0] + lines[1], answer_on="a" if liar == "b" else "b")
    told = doubts(consumer)
    assert 1 <= len(told) <= 2
    assert "contradict each other at (1029, 1030]" in told[0].cause
    assert f"{liar} demoted: the venue's book of" in arbiter.alarms(0)[NAME]
    assert arbiter.alarms(0)[NAME].startswith(f"merged as lead, follows {'a' if liar == 'b' else 'b'}")
    consumer.check()
    assert consumer.book.id_last == 1080


def test_while_nothing_tells_who_is_right_one_line_is_followed() -> None:
    truth = Truth(5, 80)
    a, b = copies(truth, "a", 1000, 1080), copies(truth, "b", 1000, 1080, lies=range(1030, 1081))
    consumer = Consumer()
    image = message(truth.snapshot(1080, flags=Flag.IMAGE), "a")
    images = [Arrival(truth.at_ns(1080) + after * SECOND, "a", image) for after in (1, 6)]
    arbiter, out = run([book(truth, 1000, "a", -1), *a, *b, *images], REST, consumer, settings=GUARDED)
    assert len(doubts(consumer)) == 1
    assert next(each.now_ns for each in out if each.message.flags & Flag.IMAGE) == images[1].now_ns
    assert "lead, follows a (b demoted: a and b contradict each other at (1029, 1030])" in arbiter.alarms(0)[NAME]


def test_a_demoted_line_that_agrees_again_is_believed_again_and_later_for_longer_not() -> None:
    truth = Truth(6, 400)
    a, b = copies(truth, "a", 1000, 1400), copies(truth, "b", 1000, 1400)
    back = 1020 + AGREEMENTS
    c = copies(truth, "c", 1000, 1400, lies=range(1020, 1021))
    arbiter, consumer, _ = watch(truth, a + b + c)
    assert arbiter.alarms(0) == {}
    again = [each for each in c if each.message.id_last < back + 10]
    again += copies(truth, "c", back + 9, back + 11 + AGREEMENTS, lies=range(back + 10, back + 11))
    short = [each for each in a + b + again if each.message.id_last <= back + 11 + AGREEMENTS]
    arbiter, consumer, _ = watch(truth, short)
    assert "c demoted" in arbiter.alarms(0)[NAME]
    assert not consumer.gaps


def test_a_line_that_connects_anew_is_believed_again_twice_and_no_more() -> None:
    truth = Truth(7, 200)
    honest = copies(truth, "a", 1000, 1200) + copies(truth, "b", 1000, 1200)
    liar = copies(truth, "c", 1000, 1200, lies=range(1001, 1201))
    cuts = []
    for at in (1040, 1080, 1120):
        down = LineDown(venue="sim", cause="cut")
        cuts.append(Arrival(truth.at_ns(at) + 7 * MILLISECOND, "c", message(down, "c")))
        cuts.append(Arrival(truth.at_ns(at) + 8 * MILLISECOND, "c", message(LineUp(venue="sim"), "c")))
    arbiter, consumer, _ = watch(truth, honest + liar + cuts)
    assert not consumer.gaps
    assert lines_of(arbiter)["c"] >= 3
    assert "c demoted: contradicts a, b at (1080, 1081]" in arbiter.alarms(0)[NAME]
    consumer.check()


def test_three_lines_that_all_differ_wait_for_nobody_and_are_resynced() -> None:
    truth = Truth(8, 60)
    a = copies(truth, "a", 1000, 1060, lies=range(1020, 1021))
    b = copies(truth, "b", 1000, 1060)
    c = copies(truth, "c", 1000, 1060)
    dropped = msgspec.structs.replace(truth.delta(1019, 1020), bids=(), asks=())
    c[19] = Arrival(c[19].now_ns, "c", message(dropped, "c"))
    _, consumer, _ = watch(truth, a + b + c, answer_on="b")
    assert doubts(consumer)
    consumer.check()
    assert consumer.book.id_last == 1060


def test_a_third_line_that_says_nothing_is_waited_for_and_then_not() -> None:
    truth = Truth(9, 60)
    a = copies(truth, "a", 1000, 1060, lies=range(1020, 1021))
    b = copies(truth, "b", 1000, 1060)
    c = copies(truth, "c", 1000, 1010)
    consumer = Consumer()
    _, out = run(
        [book(truth, 1000, "a", -1), *a, *b, *c],
        REST,
        consumer,
        settings=GUARDED,
        answer=answering(truth, "c"),  # type: ignore[arg-type]
    )
    told = next(each for each in out if each.message.kind is Kind.GAP)
    assert told.now_ns == truth.at_ns(1020) + 3 * MILLISECOND + DISPUTE_NS


def test_without_the_guard_nothing_is_compared() -> None:
    truth = Truth(10, 40)
    a, b = copies(truth, "a", 1000, 1040), copies(truth, "b", 1000, 1040, lies=range(1001, 1041))
    arbiter, _ = run([book(truth, 1000), *a, *b], REST)
    assert lines_of(arbiter) == {} and arbiter.alarms(0) == {}


def test_a_doubt_of_one_replica_reaches_consumers_whatever_the_other_says() -> None:
    truth = Truth(11, 60)
    a, b = copies(truth, "a", 1000, 1060), copies(truth, "b", 1000, 1060)
    doubt = Gap(instrument=NAME, channel=STREAM[1], kind=GapKind.DOUBT, id_prev=1030, id_last=0, cause="c lied")
    told = Arrival(truth.at_ns(1030) + MILLISECOND, "a", message(doubt, "a"))
    image = Arrival(truth.at_ns(1033), "b", message(truth.snapshot(1033, flags=Flag.IMAGE), "b"))
    consumer = Consumer()
    _, out = run([book(truth, 1000, "a", -1), *a, *b, told, image], STRICT, consumer)
    assert [(gap.id_prev, gap.id_last, gap.cause) for gap in doubts(consumer)] == [(1030, 0, "c lied")]
    kinds = [each.message.kind for each in out if each.message.kind is not Kind.DELTA]
    assert kinds == [Kind.SNAPSHOT, Kind.GAP, Kind.SNAPSHOT, Kind.RESYNCED]
    consumer.truth = truth
    consumer.check()
    assert consumer.book.id_last == 1060


def test_levels_in_another_order_or_scale_are_the_same() -> None:
    truth = Truth(12, 60)
    b = []
    for at in range(1002, 1061, 2):
        delta = truth.delta(at - 2, at)
        bids = tuple(
            value for pair in reversed(list(zip(delta.bids[::2], delta.bids[1::2], strict=True))) for value in pair
        )
        finer = {side: tuple(value * 10 for value in levels) for side, levels in (("bids", bids), ("asks", delta.asks))}
        event = msgspec.structs.replace(delta, price_scale=1, size_scale=1, **finer)
        b.append(Arrival(truth.at_ns(at) + MILLISECOND, "b", message(event, "b")))
    a = [Arrival(truth.at_ns(at), "a", message(truth.delta(at - 2, at), "a")) for at in range(1002, 1061, 2)]
    arbiter, consumer, _ = watch(truth, a + b)
    assert lines_of(arbiter) == {} and not consumer.gaps


def test_trouble_is_bounded_whatever_a_line_does() -> None:
    truth = Truth(13, 3000)
    a, b = copies(truth, "a", 1000, 4000), copies(truth, "b", 1000, 4000, late_ns=-MILLISECOND)
    lying = [
        Arrival(each.now_ns, "b", message(lie_of(truth, each.message.id_prev, each.message.id_last), "b"))  # type: ignore[arg-type]
        if each.message.id_last % 40 == 0
        else each
        for each in b
    ]
    _, consumer, _ = watch(truth, a + lying + copies(truth, "c", 1000, 4000), answer_on="a")
    assert 1 <= len(doubts(consumer)) <= 2
    consumer.check()


def windows(truth: Truth, line: str, ends: list[int], lies: range = range(0)) -> list[Arrival]:
    """Give one line's windows that end at these ids, with a lie in those that end in `lies`."""
    found = []
    for id_prev, id_last in pairwise(ends):
        event = lie_of(truth, id_prev, id_last) if id_last in lies else truth.delta(id_prev, id_last)
        found.append(Arrival(truth.at_ns(id_last) + LATE_NS[line], line, message(event, line)))  # type: ignore[arg-type]
    return found


def test_where_no_two_windows_end_alike_levels_are_compared_one_by_one() -> None:
    truth = Truth(14, 1200)
    ends = [list(range(1000 + start, 2200, 6)) for start in (0, 2, 4)]
    a, b, c = (
        windows(truth, line, [1000, *at]) if at[0] > 1000 else windows(truth, line, at)
        for line, at in zip("abc", ends, strict=True)
    )
    arbiter, consumer, _ = watch(truth, a + b + c)
    assert lines_of(arbiter) == {} and not consumer.gaps
    consumer.check()
    lying = windows(truth, "b", [1000, *ends[1]], lies=range(1600, 2200))
    arbiter, consumer, _ = watch(truth, a + lying + c)
    assert "b demoted: contradicts" in arbiter.alarms(0)[NAME]
    assert lines_of(arbiter).keys() == {"b"}
    assert 1 <= len(doubts(consumer)) <= 3
    consumer.check()


def guard_of(truth: Truth, *runs: tuple[str, int, int]) -> Guard:
    """Show each run of a line's updates, ``(line, start, end]``, to a guard."""
    guard = Guard(StreamCounts(), is_loose=True)
    for line, start, end in runs:
        for each in copies(truth, line, start, end):
            guard.see(line, each.message, each.now_ns)
    return guard


def test_a_line_that_lags_behind_what_is_remembered_does_not_make_windows_differ() -> None:
    truth, far = Truth(16, 3000), 1000 + 2 * REMEMBERED_MAX + 100
    guard = guard_of(truth, ("a", 1000, far), ("b", 1000, far))
    assert guard._unmatched <= DIFFERING and not guard.disputes


def test_levels_are_compared_no_longer_once_windows_are_alike_again() -> None:
    truth = Truth(17, 3000)
    guard = Guard(StreamCounts(), is_loose=True)
    for number, each in enumerate(windows(truth, "a", list(range(1000, 1100))) + windows(truth, "b", [1000, 1099])):
        guard.see("a" if number < 99 else "b", each.message, each.now_ns)
    for id_last in range(1100, 1300, 2):
        for line, ends in (("a", [id_last - 2, id_last]), ("b", [id_last - 1, id_last + 1])):
            guard.see(line, windows(truth, line, ends)[0].message, truth.at_ns(id_last))
    assert guard._unmatched > DIFFERING
    for id_last in range(1301, 1301 + DIFFERING_MAX):
        for line in "ab":
            guard.see(line, copies(truth, line, id_last - 1, id_last)[0].message, truth.at_ns(id_last))
    assert guard._unmatched <= DIFFERING and not guard.disputes


@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_line_that_is_believed_again_is_not_believed_its_own_book(is_renewed: bool) -> None:
    truth = Truth(15, 200)
    lines = copies(truth, "a", 1000, 1200) + copies(truth, "b", 1000, 1200)
    lines += copies(truth, "c", 1000, 1200, lies=range(1020, 1021))
    at_ns = truth.at_ns(1100) + 8 * MILLISECOND
    doubt = Gap(instrument=NAME, channel=STREAM[1], kind=GapKind.DOUBT, id_prev=1100, id_last=0, cause="as a test")
    told = Arrival(at_ns, "a", message(doubt, "a"))
    spoilt = Arrival(at_ns + 1, "c", message(truth.snapshot(1100, bids=(1, 1), flags=Flag.IMAGE), "c"))
    sound = Arrival(at_ns + 2, "b", message(truth.snapshot(1100, flags=Flag.IMAGE), "b"))
    fresh = [Arrival(truth.at_ns(1090), "c", message(truth.snapshot(1090), "c"))] if is_renewed else []
    arbiter, out = run([book(truth, 1000, "a", -1), *lines, told, spoilt, sound, *fresh], STRICT, settings=GUARDED)
    assert arbiter.statistics()[STREAM].in_force == ""
    images = [each.message.line for each in out if each.message.flags & Flag.IMAGE]
    assert images == (["c"] if is_renewed else ["b"])


def test_what_a_suspect_said_is_given_out_when_it_turns_out_to_have_been_right() -> None:
    """Of two lines `a` lies at 1021; `b` alone says 1022 before the venue's own book clears it."""
    truth = Truth(18, 100)
    a = copies(truth, "a", 1000, 1021, lies=range(1021, 1022))
    b = copies(truth, "b", 1000, 1022)
    at_ns = truth.at_ns(1022) + 10 * MILLISECOND
    cleared = Arrival(at_ns, "b", message(truth.snapshot(1022), "b"))
    consumer = Consumer()
    arbiter, out = run([book(truth, 1000, "a", -1), *a, *b, cleared], STRICT, consumer, settings=GUARDED)
    assert "a demoted: the venue's book of 1022" in arbiter.statistics()[STREAM].in_force
    lost = [gap for each in consumer.gaps if isinstance(gap := decode(each), Gap) and gap.kind is not GapKind.DOUBT]
    assert lost == []
    assert [each.message.flags for each in out if each.message.id_last == 1022 and each.message.kind is Kind.DELTA] == [
        Flag.UNAPPLIED
    ]


def test_windows_that_differ_are_compared_from_the_first_update_on() -> None:
    truth = Truth(19, 60)
    guard = Guard(StreamCounts(), is_loose=True)
    for line, ends, lies in (("a", [1000, 1002, 1003], True), ("b", [1001, 1003], False)):
        for each in windows(truth, line, ends):
            is_lie = lies and each.message.id_last == 1003
            event = lie_of(truth, each.message.id_prev, 1003) if is_lie else None
            guard.see(line, message(event, line) if event is not None else each.message, each.now_ns)  # type: ignore[arg-type]
    assert guard.disputes


@pytest.mark.parametrize(("rule", "asked"), [(STRICT, True), (REST, False)])
def test_the_own_book_of_a_demoted_line_is_asked_for_anew_less_and_less_often(rule: StreamRule, asked: bool) -> None:
    truth = Truth(20, 3000)
    lines = copies(truth, "a", 1000, 4000) + copies(truth, "b", 1000, 4000)
    lines += copies(truth, "c", 1000, 4000, lies=range(1020, 4001, 16))
    wanted: list[tuple[SnapshotWanted, int]] = []

    def answer(command: SnapshotWanted, now_ns: int) -> list[Arrival]:
        wanted.append((command, now_ns))
        return []

    run([book(truth, 1000, "a", -1), *lines], rule, settings=GUARDED, answer=answer)
    of_c = [at_ns for command, at_ns in wanted if command.line == "c"]
    assert {command.line for command, _ in wanted if command.line} == ({"c"} if asked else set())
    waits = [round((later - earlier) / SECOND) for earlier, later in pairwise(of_c)]
    assert waits == ([1, 2, 4, 8][: len(waits)] if asked else []) and len(waits) >= 3 * asked
