"""A line that lies, and nothing else: every book that calls itself live is the venue's but for the guard's interval."""

from __future__ import annotations

import random

import msgspec
import pytest

from raytrade.arbitration.guard import Guard
from raytrade.arbitration.guarded_chain import GuardedChain
from raytrade.core.clock import MILLISECOND
from raytrade.simulation import Result, Simulation, run
from raytrade.simulation.lies import falsified
from raytrade.simulation.plan import LIES_AT, LIES_EVERY, Plan, draw_plan

SEEDS = 2
LYING_NS = 300 * MILLISECOND
PLANTED_SEEDS_MAX = 12


@pytest.fixture(autouse=True)
def _only_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(seed: int, rng: random.Random) -> Plan:
        plan = draw_plan(LIES_EVERY * seed + LIES_AT, rng)
        lies = tuple(msgspec.structs.replace(lie, amount=1.0, duration_ns=LYING_NS) for lie in plan.lies)
        venues = tuple(msgspec.structs.replace(venue, window_max=1) for venue in plan.venues)
        return msgspec.structs.replace(plan, faults=(), quiet=(), lies=lies, venues=venues, seed=seed)

    monkeypatch.setattr(run, "draw_plan", draw)


def lie(seed: int) -> tuple[Result, Simulation]:
    simulation = Simulation(seed)
    return simulation.run(), simulation


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_line_that_lies_is_named_and_no_book_stays_wrong(seed: int) -> None:
    result, simulation = lie(seed)
    assert result.violation is None
    lies = simulation.checker.lies
    told = sum(map(len, lies.told.values()))
    assert told and {line for _, line in lies.accused} == lies.liars
    assert not lies.unreported()
    last = next(reversed(next(iter(lies.told.values()))))
    assert lies.exposed_ns("engine", next(iter(lies.told)), last) is not None


def is_caught(first: int = 0) -> bool:
    """Try seeds from the `first` on, where what was planted shows."""
    return any(lie(seed)[0].violation is not None for seed in range(first, first + PLANTED_SEEDS_MAX))


def test_lies_that_nobody_compares_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "see", lambda self, line, message, now_ns: None)
    assert is_caught()


def test_a_wrong_book_that_is_not_doubted_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedChain, "doubt", lambda self, cause, now_ns: None)
    assert is_caught(first=3)


def test_honest_lines_that_are_accused_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = draw_plan

    def honest(seed: int, rng: random.Random) -> Plan:
        return msgspec.structs.replace(original(seed, rng), faults=(), quiet=(), lies=())

    monkeypatch.setattr(run, "draw_plan", honest)
    monkeypatch.setattr("raytrade.arbitration.guard.is_same", lambda one, other: one.id_last % 50 != 0)
    monkeypatch.setattr("raytrade.arbitration.guard.claim_of", lambda message: {(0, 1): hash(message.line)})
    assert lie(0)[0].violation is not None


def test_only_updates_of_books_are_falsified() -> None:
    rng = random.Random(1)
    assert falsified('{"result":null,"id":1}', rng) is None
    assert falsified('{"method":"snapshotOrderbook","params":{"ask":[],"bid":[{"price":"1","size":"2"}]}}', rng) is None
    update = '{"data": {"e": "depthUpdate", "b": [["1.00", "2.000"]], "a": []}}'
    assert falsified(update, rng) not in (None, update)
