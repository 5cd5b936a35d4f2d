"""Two lines deliver every message; one copy goes on."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.micro.inputs import Feed, deltas_of, snapshot_of
from benchmarks.micro.rounds import Benchmark, Contender, Work
from raytrade.arbitration import Arbiter
from raytrade.core.arrivals import ArrivalLog
from raytrade.core.clock import MILLISECOND
from raytrade.core.message import Message, encode, parse
from raytrade.rules import rule_of

LINES = ("east/1", "west/1")


class FirstIdWins:
    """What one writes in an afternoon: a set of ids per stream, no order, no gaps, no bound, no statistics."""

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}
        self._output: list[Message] = []

    def receive(self, message: Message) -> None:
        """Let it through if its id is new."""
        seen = self._seen.setdefault(message.instrument, set())
        if message.id_last not in seen:
            seen.add(message.id_last)
            self._output.append(message)

    def output(self) -> list[Message]:
        """Drain what is new."""
        drained, self._output = self._output, []
        return drained


def benchmark(feed: Feed) -> Benchmark:
    """Give the benchmark of arbitration."""
    deltas = deltas_of(feed)
    copies = [tuple(parse(encode(delta, line)) for line in LINES) for delta in deltas]
    start = parse(encode(snapshot_of(feed), LINES[0]))

    def ours(log: ArrivalLog | None = None) -> Work:
        arbiter = Arbiter("arbiter", rule_of)
        arbiter.receive(LINES[0], start, 0)
        arbiter.output()

        def work() -> None:
            passed = 0
            for now_ns, (first, second) in enumerate(copies):
                arbiter.receive(LINES[0], first, now_ns)
                arbiter.receive(LINES[1], second, now_ns)
                given = arbiter.output()
                passed += len(given)
                if log is not None:
                    log.note([first, second], now_ns)
                    log.give(given)
                    log.cut(now_ns * MILLISECOND)
            assert passed == len(copies)

        return work

    note = "order, holes, both lines' statistics"
    contenders = [
        Contender("raytrade, Arbiter", ours, note),
        Contender("raytrade, with the log of arrivals", lambda: ours(ArrivalLog("arbiter", 1)), "both copies kept"),
        Contender("first id wins, a set", _plain(copies), "no order"),
    ]
    return Benchmark("arbiter", "Arbitration, two lines", "message (two copies)", len(copies), feed.source, contenders)


def _plain(copies: list[tuple[Message, ...]]) -> Callable[[], Work]:
    def prepare() -> Work:
        dedup = FirstIdWins()

        def work() -> None:
            passed = 0
            for first, second in copies:
                dedup.receive(first)
                dedup.receive(second)
                passed += len(dedup.output())
            assert passed == len(copies)

        return work

    return prepare
