"""``raytrade chaos soak``: faults drawn from a seed on a whole pipeline, and everything held against the truth.

The course: start, a quiet stretch to compare with, then fault after fault, the next one when every role has its spare
again; then the exchanges end, everything drains, and the checker reads the evidence from files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from raytrade.chaos.draw import Action, Draw, Fault
from raytrade.chaos.evidence import Life, judge_life, missing_rows, read_lives, read_recording
from raytrade.chaos.ground import NAME, Ground
from raytrade.chaos.history import Entry, Soak
from raytrade.chaos.strike import WINDOW_S, Hit, Striker
from raytrade.chaos.targets import running
from raytrade.chaos.verdict import Verdict, longest_gap
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.errors import PipelineError
from raytrade.pipeline import driver
from raytrade.transport.clock import SystemClock

QUIET_S = 15.0
SETTLE_S = 1.5
DRAIN_TIMEOUT_S = 60.0
NEVER_S = 90.0
"""Redundancy that is not back after this long is not waited for any more."""


class SoakSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to do and for how long; `actions` empty: all; `kills_max` 0: until the time is over."""

    seconds: float
    seed: int
    directory: Path
    rate: float = 2000.0
    hold_s: float = 5.0
    actions: tuple[Action, ...] = ()
    kills_max: int = 0
    both_copies: bool = False


class Course:
    """One soak; use `run_soak`."""

    def __init__(self, settings: SoakSettings, ground: Ground, tell: Any) -> None:
        self.settings = settings
        self.ground = ground
        self.result = Soak(seed=settings.seed, rate=settings.rate, both_copies=settings.both_copies)
        self._tell = tell
        self._clock = SystemClock()
        self._striker = Striker(settings.hold_s)
        self._hits: list[tuple[Hit, Nanos | None, str]] = []
        self._began_ns: Nanos = 0

    def run(self) -> Soak:
        """Run it all."""
        self.ground.begin()
        self._began_ns = self._clock.now_ns()
        self._tell(f"{self.settings.rate:.0f} updates/s; {QUIET_S:.0f} s without faults")
        self.ground.wait(QUIET_S)
        quiet_until_ns = self._clock.now_ns()
        if self.settings.both_copies:
            self._kill_both()
        else:
            self._strike_on()
        self.result.seconds = (self._clock.now_ns() - self._began_ns) / SECOND
        self._finish(quiet_until_ns)
        return self.result

    # Faults.

    def _strike_on(self) -> None:
        draw = Draw(self.settings.seed, self.settings.actions)
        until_ns = self._began_ns + int(self.settings.seconds * SECOND)
        while self._clock.now_ns() < until_ns and not self._is_enough():
            fault = draw.next()
            try:
                status = self.ground.status()
                hit = self._striker.strike(fault, status, self._nodes(status))
            except PipelineError as error:
                self._tell(f"{fault.kind}: {error}")
                continue
            if not self._restore(hit):
                return

    def _is_enough(self) -> bool:
        kills = sum(hit.fault.action is Action.KILL for hit, _, _ in self._hits)
        return 0 < self.settings.kills_max <= kills

    def _nodes(self, status: dict[str, Any]) -> list[str]:
        """Give the nodes that carry something, but not the head."""
        return sorted({actor["node"] for actor in status["actors"].values()})

    def _restore(self, hit: Hit) -> bool:
        """Wait until every role has its spare; False if that is no longer to be expected."""
        if hit.node:
            self.ground.nodes.replace(hit.node)
        problem = self.ground.until_redundant(hit.gone, NEVER_S)
        restored_ns = None if problem else self._clock.now_ns()
        self._hits.append((hit, restored_ns, problem))
        took = f"redundant after {(restored_ns - hit.over_ns) / SECOND:.1f} s" if restored_ns else problem
        self._tell(f"{(hit.at_ns - self._began_ns) / SECOND:6.1f} s  {hit.fault.kind} {hit.target}: {took}")
        self.ground.wait(SETTLE_S)
        return not problem

    def _kill_both(self) -> None:
        """Kill every copy of the dedup at once: no spare is left, and what is lost must be told."""
        targets = running(self.ground.status(), "dedup")
        fault = Fault(action=Action.KILL, role="both dedups", pick=0.0)
        self._restore(self._striker.kill(targets, fault))
        self.ground.wait(QUIET_S)

    # The verdict.

    def _finish(self, quiet_until_ns: Nanos) -> None:
        truths = self.ground.finish()
        books = {f"{v}:{s}": ids for v, truth in truths.items() for s, ids in truth["ids"].items()}
        trades = {f"{v}:{s}": ids for v, truth in truths.items() for s, ids in truth["trades"].items()}
        self.result.updates = sum(map(len, books.values()))
        self.result.trades = sum(map(len, trades.values()))
        self.ground.until(lambda: self._has_all(books), DRAIN_TIMEOUT_S)
        self._check_books(truths)
        self.result.problems += driver.stop(NAME)
        lives = self._judge_strategies(books, trades)
        self._judge_recorders(books, trades)
        sent = sorted(at for truth in truths.values() for times in truth["sent_ns"].values() for at in times)
        self._measure(lives, sent, quiet_until_ns)

    def _has_all(self, books: dict[str, list[int]]) -> bool:
        for actor in self.ground.status()["actors"].values():
            if actor.get("role") in ("strategy", "recorder"):
                for instrument, ids in books.items():
                    if actor["coverage"].get(f"{instrument}/book", {}).get("last", 0) < ids[-1]:
                        return False
        return True

    def _check_books(self, truths: dict[str, dict[str, Any]]) -> None:
        """The strategies' books are live and the true ones, in full depth."""
        for part in self.ground.config.strategies:
            books = driver.books(NAME, f"{NAME}-strategy-{part.name}")
            for venue, truth in truths.items():
                for symbol, true in truth["books"].items():
                    mine = books.get(f"{venue}:{symbol}", {"state": "absent"})
                    if mine["state"] != "live":
                        self.result.problems.append(f"{part.name}: the book of {venue}:{symbol} is {mine['state']}")
                    elif any([[*level] for level in mine[side]] != true[side] for side in ("bids", "asks")):
                        self.result.problems.append(f"{part.name}: the book of {venue}:{symbol} is not the true one")

    def _judge_strategies(self, books: dict[str, list[int]], trades: dict[str, list[int]]) -> list[Life]:
        lives: list[Life] = []
        verdict = Verdict()
        for part in self.ground.config.strategies:
            mine = read_lives(self.ground.directory / "seen" / part.name, part.name)
            if not mine:
                self.result.problems.append(f"{part.name} saw nothing")
            for life in mine:
                verdict.add(judge_life(life, books, trades, is_last=life is mine[-1]))
            lives += mine
        self.result.missed_by_strategies, self.result.repeated = verdict.missed, verdict.repeated
        self.result.untold = verdict.untold
        if verdict.examples:
            self.result.problems.append(f"missed ids, for example: {', '.join(map(str, verdict.examples))}")
        if self.settings.both_copies and not any(life.stalls or life.gaps for life in lives):
            self.result.problems.append("both copies were killed, and no strategy was told of a stall or a gap")
        return lives

    def _judge_recorders(self, books: dict[str, list[int]], trades: dict[str, list[int]]) -> None:
        recordings = []
        for part in self.ground.config.recorders:
            recording = read_recording(Path(part.directory), list(books))
            recordings.append(recording)
            self.result.missed_by_recorder[part.name] = missing_rows(books, trades, [recording])[0]
            self.result.repeated_in_files += recording.repeated
            self.result.files += recording.files
            self.result.unreadable += recording.unreadable
            self.result.gaps_in_files += recording.gap_rows
        self.result.missed_by_union, untold = missing_rows(books, trades, recordings)
        self.result.untold += untold

    # Stalls.

    def _measure(self, lives: list[Life], sent: Sequence[int], quiet_until_ns: Nanos) -> None:
        window_ns = int(WINDOW_S * SECOND)
        for start_ns in range(self._began_ns + 2 * SECOND, quiet_until_ns - window_ns, window_ns):
            self.result.quiet_ms += _stalls_ms(lives, start_ns, start_ns + window_ns)
        for hit, restored_ns, problem in self._hits:
            end_ns = hit.at_ns + window_ns
            after_ns = max(end_ns, hit.over_ns)
            restored_s = None if restored_ns is None else (restored_ns - hit.over_ns) / SECOND
            others = [life for life in lives if not hit.target.endswith(life.strategy)]
            entry = Entry(
                kind=hit.fault.kind,
                target=hit.target,
                at_s=(hit.at_ns - self._began_ns) / SECOND,
                seconds=hit.fault.seconds,
                held_s=hit.held_s,
                stall_ms=max(_stalls_ms(others, hit.at_ns, end_ns), default=0.0),
                sent_ms=longest_gap(sent, hit.at_ns, end_ns) / MILLISECOND,
                restart_ms=max(_stalls_ms(others, after_ns, max(after_ns, restored_ns or 0)), default=0.0),
                restored_s=restored_s,
                lacking=problem,
            )
            self.result.history.append(entry)


def _stalls_ms(lives: Sequence[Life], start_ns: Nanos, end_ns: Nanos) -> list[float]:
    """Give the longest delivery gap in the window of each strategy that lived through it."""
    return [longest_gap(life.times, start_ns, end_ns) / MILLISECOND for life in lives if life.covers(start_ns, end_ns)]


def run_soak(settings: SoakSettings, tell: Any) -> Soak:
    """Run a soak; `tell(text)` is given a line per fault.

    Raises:
        PipelineError: the pipeline did not come up.
    """
    with ExitStack() as stack:
        ground = Ground(stack, settings.directory, settings.rate, settings.seed)
        return Course(settings, ground, tell).run()
