from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.arbitration.silence import REVIEW_NS, SILENCE_NS, USUAL_TIMES, SilenceWatch, Word
from raytrade.arbitration.stream import StreamCounts
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel

STEP_NS = 5 * MILLISECOND


class Market:
    """Lines that deliver streams on a clock, reviewed as the dedup does."""

    def __init__(self, *lines: str) -> None:
        self.watch = SilenceWatch()
        self.counts = {(name, Channel.BOOK): StreamCounts() for name in ("v:A", "v:B")}
        self.lines = set(lines)
        self.now_ns: Nanos = 1000 * SECOND
        self.words: list[tuple[Nanos, Word]] = []
        self.positions: dict[tuple[str, str], int] = {}

    def deliver(self, *lines: str, instrument: str = "v:A") -> None:
        for line in lines:
            counts = self.counts[instrument, Channel.BOOK].line(line)
            counts.updates += 1
            self.positions[instrument, line] = position = self.positions.get((instrument, line), 0) + 1
            others = [at for (name, other), at in self.positions.items() if name == instrument and other != line]
            counts.wins += position > max(others, default=0)

    def flow(self, duration_ns: Nanos, every_ns: Nanos, *lines: str) -> None:
        """Let lines deliver every so often, all at the same time."""
        end_ns, due_ns = self.now_ns + duration_ns, self.now_ns
        while self.now_ns < end_ns:
            if self.now_ns >= due_ns:
                due_ns += every_ns
                self.deliver(*lines)
            self.step()

    def step(self) -> None:
        self.now_ns += STEP_NS
        self.words += [(self.now_ns, word) for word in self.watch.review(self.counts, self.lines, self.now_ns)]


@pytest.mark.parametrize("every_ms", [5, 20, 50, 80, 200, 1000])
def test_a_silent_line_is_noticed_in_time_and_back_with_its_next_message(every_ms: int) -> None:
    market = Market("a", "b", "c")
    every_ns = every_ms * MILLISECOND
    market.flow(40 * every_ns + 2 * SECOND, every_ns, "a", "b", "c")
    assert market.words == []
    last_ns = market.now_ns
    market.flow(20 * every_ns + SECOND, every_ns, "a", "b")
    ((noticed_ns, word),) = market.words
    assert (word.line, word.is_silent) == ("c", True)
    assert noticed_ns - last_ns <= max(SILENCE_NS, USUAL_TIMES * every_ns) + STEP_NS
    assert market.watch.silent == ["c"]
    returned_ns = market.now_ns
    market.flow(2 * every_ns, every_ns, "a", "b", "c")
    (back_ns, back) = market.words[1]
    assert (back.line, back.is_silent, len(market.words)) == ("c", False, 2)
    assert back_ns - returned_ns <= REVIEW_NS + STEP_NS


def test_a_quiet_market_is_no_silence() -> None:
    market = Market("a", "b")
    market.flow(3 * SECOND, 10 * MILLISECOND, "a", "b")
    market.flow(120 * SECOND, 30 * SECOND, "a", "b")
    assert market.words == []


def test_a_line_that_speaks_of_another_stream_is_not_silent() -> None:
    market = Market("a", "b")
    market.flow(2 * SECOND, 10 * MILLISECOND, "a", "b")
    market.deliver("b", instrument="v:B")
    for _ in range(200):
        market.deliver("a")
        market.deliver("b", instrument="v:B")
        market.step()
    assert market.words == []


def test_a_line_that_never_carried_the_stream_is_not_judged_by_it() -> None:
    market = Market("a", "b")
    market.deliver("b", instrument="v:B")
    market.flow(5 * SECOND, 10 * MILLISECOND, "a")
    assert market.words == []


def test_a_line_that_is_always_late_is_not_silent() -> None:
    market = Market("near", "far")
    for _ in range(30):
        market.deliver("near")
        for _ in range(30):
            market.step()
        market.deliver("far")
        for _ in range(100):
            market.step()
    assert market.words == []


def test_a_lost_line_is_forgotten_and_begins_anew() -> None:
    market = Market("a", "b")
    market.flow(2 * SECOND, 10 * MILLISECOND, "a", "b")
    market.flow(SECOND, 10 * MILLISECOND, "a")
    assert [word.is_silent for _, word in market.words] == [True]
    market.lines = {"a"}
    market.flow(SECOND, 10 * MILLISECOND, "a")
    market.lines = {"a", "b"}
    market.flow(SECOND, 10 * MILLISECOND, "a", "b")
    assert (len(market.words), market.watch.silent) == (1, [])


def test_one_that_comes_and_goes_is_waited_for_longer_and_longer() -> None:
    market = Market("a", "b")
    market.flow(30 * SECOND, 10 * MILLISECOND, "a", "b")
    for _ in range(60):
        market.flow(400 * MILLISECOND, 10 * MILLISECOND, "a")
        market.flow(100 * MILLISECOND, 10 * MILLISECOND, "a", "b")
    silences = [word for _, word in market.words if word.is_silent]
    assert 1 <= len(silences) <= 2, "60 pauses of 400 ms"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 20)), min_size=5, max_size=40))
def test_equal_lines_are_never_silent_whatever_the_rhythm(pauses: list[tuple[int, int]]) -> None:
    """The second line is up to 100 ms behind the first."""
    market = Market("a", "b")
    market.flow(SECOND, 50 * MILLISECOND, "a", "b")
    for steps, lag in pauses:
        market.deliver("a")
        for _ in range(lag):
            market.step()
        market.deliver("b")
        for _ in range(steps):
            market.step()
    assert market.words == []


def test_reviews_are_not_more_frequent_than_they_need_be() -> None:
    watch = SilenceWatch()
    assert watch.review({}, set(), 0) == watch.review({}, {"a"}, REVIEW_NS - 1) == []
    assert watch.silent == []
