"""The guard under any interleaving: an honest set of lines is never accused, and a line that lies is found in time."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.arbitration import ArbiterSettings, SnapshotWanted, StreamRule
from raytrade.arbitration.guard import DISPUTE_NS
from raytrade.core.clock import MILLISECOND
from raytrade.core.events import BookDelta, Gap, GapKind
from raytrade.core.message import decode
from tests.property.lines import NAME, START_NS, STREAM, Answer, Arrival, Consumer, Truth, message, run, same
from tests.property.test_arbiter import LOOSE, STRICT, answers, chain_case, cuts, delivered

FEW = settings(max_examples=20, deadline=None)
GUARDED = ArbiterSettings(guard=True)
SKEW_NS_MAX = 300 * MILLISECOND
INTERVAL_NS = SKEW_NS_MAX + DISPUTE_NS
"""After a lie went out: the slowest honest copy, and what a dispute waits for a third one."""
seeds = st.integers(0, 2**32)


@FEW
@given(seed=seeds, lines=st.integers(2, 3), loss=st.sampled_from((0.0, 0.05, 0.3)), loose=st.booleans())
def test_honest_lines_are_never_accused(seed: int, lines: int, loss: float, loose: bool) -> None:
    truth, arrivals, windows, _ = chain_case(seed, loss, lines, loose=loose)
    consumer = Consumer(truth)
    stops = [truth.id_start, *(end for _, end in windows)]
    answer = answers(truth) if loose else answers(truth, stops=stops)
    arbiter, _ = run(arrivals, LOOSE if loose else STRICT, consumer, answer=answer, settings=GUARDED)
    counts = arbiter.statistics()[STREAM]
    assert all(part.disagreements == 0 for part in counts.lines.values())
    assert counts.in_force == ""
    gaps = [decode(gap) for gap in consumer.gaps]
    assert not [gap for gap in gaps if isinstance(gap, Gap) and gap.kind is GapKind.DOUBT]


def lying(rng: random.Random, delta: BookDelta) -> BookDelta:
    """Change a size of the delta, or drop a level."""
    side = "bids" if len(delta.bids) >= len(delta.asks) else "asks"
    levels = list(getattr(delta, side))
    at = rng.randrange(len(levels) // 2) * 2
    levels[at : at + 2] = [] if rng.random() < 0.5 else [levels[at], levels[at + 1] + rng.randint(1, 9)]
    return msgspec.structs.replace(delta, **{side: tuple(levels)})


class LiveBook(Consumer):
    """Notes since when a book that calls itself live has been wrong, and for how long it was at most."""

    def __init__(self, truth: Truth) -> None:
        super().__init__()
        self.known = truth
        self.now_ns = START_NS
        self.wrong_since_ns: int | None = None
        self.wrong_ns_max = 0

    def look(self, now_ns: int) -> None:
        is_wrong = self.usable and not same(self.book, self.known.book(self.book.id_last))
        if is_wrong and self.wrong_since_ns is None:
            self.wrong_since_ns = now_ns
        if self.wrong_since_ns is not None:
            self.wrong_ns_max = max(self.wrong_ns_max, now_ns - self.wrong_since_ns)
        if not is_wrong:
            self.wrong_since_ns = None


def independent(truth: Truth, at_line: str) -> Answer:
    """Answer with the venue's book, fetched by a line that is asked each time another way."""

    def answer(wanted: SnapshotWanted, now_ns: int) -> list[Arrival]:
        number = min(truth.id_end, truth.id_start + max(0, (now_ns - START_NS) // (10 * MILLISECOND)))
        assert wanted.instrument == NAME
        return [Arrival(now_ns + 50 * MILLISECOND, at_line, message(truth.snapshot(int(number)), at_line))]

    return answer


@FEW
@given(
    seed=seeds,
    lines=st.integers(2, 3),
    persistent=st.booleans(),
    loss=st.sampled_from((0.0, 0.1)),
    rule=st.sampled_from((LOOSE, STRICT)),
    width=st.sampled_from((1, 1, 4)),
)
def test_a_line_that_lies_is_found_and_no_book_stays_wrong(
    seed: int, lines: int, persistent: bool, loss: float, rule: StreamRule, width: int
) -> None:
    rng = random.Random(seed)
    truth = Truth(seed, 300)
    width = width if rule is LOOSE and persistent else 1
    liar = rng.choice("abc"[:lines])
    first = rng.randint(truth.id_start + 50, truth.id_start + 150)
    arrivals: list[Arrival] = []
    told = False
    for line in "abc"[:lines]:
        lag_ns = rng.randint(0, SKEW_NS_MAX // MILLISECOND - 100) * MILLISECOND
        windows = cuts(rng, truth.id_start, truth.id_end, width)
        kept = [window for window in windows if line != liar or rng.random() >= loss]
        for arrival in delivered(rng, line, truth, kept, lag_ns, net=False):
            number = arrival.message.id_last
            is_lie = number >= first if persistent else number == first
            if line == liar and is_lie:
                told = True
                event = decode(arrival.message)
                assert isinstance(event, BookDelta)
                story = random.Random(f"{seed} {number}")
                arrival = arrival._replace(message=message(lying(story, event), line))
            arrivals.append(arrival)
    book = LiveBook(truth)
    start = [Arrival(START_NS, line, message(truth.snapshot(truth.id_start), line)) for line in "abc"[:lines]]
    asked_on = next(line for line in "abc" if line != liar)
    arbiter, out = run(start + arrivals, rule, settings=GUARDED, answer=independent(truth, asked_on))
    for arrival in out:
        book.take([arrival.message])
        book.look(arrival.now_ns)
    assert book.wrong_ns_max <= INTERVAL_NS
    assert book.wrong_since_ns is None and book.usable
    assert same(book.book, truth.book(book.book.id_last))
    counts = arbiter.statistics()[STREAM]
    if told:
        assert counts.lines[liar].disagreements >= 1
        if persistent:
            assert f"{liar} demoted" in counts.in_force
