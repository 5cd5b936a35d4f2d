"""A supervisor whose call to the head never comes back ends its process, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from raytrade.core.clock import SECOND, Nanos
from raytrade.pipeline.supervisor import STUCK_NS, STUCK_STATUS, Supervisor

NOW_NS = 1_000 * SECOND


class Ended(Exception):
    """Stands for the end of the process."""


class Rounds(threading.Event):
    """An event that is set after a number of waits, and never waits."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.left = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        return self.left < 0


class Clock:
    """Stands still."""

    def now_ns(self) -> Nanos:
        return NOW_NS


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Nanos | None], list[int]]:
    """Give a function that runs three rounds of the watch over a supervisor whose last step was at a time."""

    def run(progress_ns: Nanos | None) -> list[int]:
        statuses: list[int] = []

        def end(status: int) -> None:
            statuses.append(status)
            raise Ended

        monkeypatch.setattr("raytrade.pipeline.supervisor.os._exit", end)
        hosted = Supervisor.__new__(Supervisor)
        hosted._stopping, hosted._clock, hosted._progress_ns = Rounds(3), Clock(), progress_ns  # type: ignore[assignment]
        try:
            hosted._watch()
        except Ended:
            pass
        return statuses

    return run


@pytest.mark.parametrize("progress_ns", [None, NOW_NS, NOW_NS - STUCK_NS])
def test_idle_or_busy_it_goes_on(watched: Callable[[Nanos | None], list[int]], progress_ns: Nanos | None) -> None:
    assert watched(progress_ns) == []


def test_stuck_it_ends(watched: Callable[[Nanos | None], list[int]]) -> None:
    assert watched(NOW_NS - STUCK_NS - 1) == [STUCK_STATUS]
