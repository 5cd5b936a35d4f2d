"""The end of a run: the exchanges stop, everything drains, and the evidence is held against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytrade.chaos.evidence import Life, Missing, judge_life, missing_rows, read_lives, read_recording
from raytrade.chaos.ground import NAME, Ground
from raytrade.chaos.history import Soak
from raytrade.chaos.verdict import Verdict, longest_gap
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.pipeline import driver

DRAIN_TIMEOUT_S = 60.0
Ids = dict[str, list[int]]


class Judgement:
    """Ends the run on construction and writes the verdict into `result`.

    `lives`: what the strategies saw; `sent_ns`: when the exchanges sent something.
    """

    def __init__(self, ground: Ground, result: Soak) -> None:
        self._ground = ground
        self._result = result
        truths = self._truths = ground.finish()
        self._books: Ids = {f"{v}:{s}": ids for v, truth in truths.items() for s, ids in truth["ids"].items()}
        self._trades: Ids = {f"{v}:{s}": ids for v, truth in truths.items() for s, ids in truth["trades"].items()}
        result.updates = sum(map(len, self._books.values()))
        result.trades = sum(map(len, self._trades.values()))
        ground.until(self._has_all, DRAIN_TIMEOUT_S)
        self._check_books(truths)
        result.problems += driver.stop(NAME)
        self.lives = self._judge_strategies()
        self._judge_recorders()
        self.sent_ns = sorted(at for truth in truths.values() for times in truth["sent_ns"].values() for at in times)

    def _has_all(self) -> bool:
        for actor in self._ground.status()["actors"].values():
            if actor.get("role") in ("strategy", "recorder"):
                for instrument, ids in self._books.items():
                    if actor["coverage"].get(f"{instrument}/book", {}).get("last", 0) < ids[-1]:
                        return False
        return True

    def _check_books(self, truths: dict[str, dict[str, Any]]) -> None:
        """The strategies' books are live and the true ones, in full depth."""
        for part in self._ground.config.strategies:
            books = driver.books(NAME, f"{NAME}-strategy-{part.name}")
            for venue, truth in truths.items():
                for symbol, true in truth["books"].items():
                    mine = books.get(f"{venue}:{symbol}", {"state": "absent"})
                    if mine["state"] != "live":
                        self._result.problems.append(f"{part.name}: the book of {venue}:{symbol} is {mine['state']}")
                    elif any([[*level] for level in mine[side]] != true[side] for side in ("bids", "asks")):
                        self._result.problems.append(f"{part.name}: the book of {venue}:{symbol} is not the true one")

    def _judge_strategies(self) -> list[Life]:
        lives: list[Life] = []
        verdict = Verdict()
        for part in self._ground.config.strategies:
            mine = read_lives(self._ground.directory / "seen" / part.name, part.name)
            if not mine:
                self._result.problems.append(f"{part.name} saw nothing")
            for life in mine:
                verdict.add(judge_life(life, self._books, self._trades, is_last=life is mine[-1]))
            lives += mine
        self._result.missed_by_strategies, self._result.repeated = verdict.missed, verdict.repeated
        self._result.untold, self._result.late_trades = verdict.untold, verdict.late
        if verdict.untold:
            self._result.problems.append(f"missed ids, for example: {', '.join(map(str, verdict.examples))}")
        return lives

    def _judge_recorders(self) -> None:
        result, recordings = self._result, []
        for part in self._ground.config.recorders:
            recording = read_recording(Path(part.directory), list(self._books))
            recordings.append(recording)
            missing = missing_rows(self._books, self._trades, [recording])
            result.missed_by_recorder[part.name] = missing.count
            result.untold += missing.untold
            result.remarks += [f"{part.name}: gap in {cause}" for cause in recording.causes]
            result.remarks += [f"{part.name}: {text}" for text in self._when(missing)]
            result.repeated_in_files += recording.repeated
            result.files += recording.files
            result.unreadable += recording.unreadable
            result.gaps_in_files += recording.gap_rows
        result.missed_by_union = missing_rows(self._books, self._trades, recordings).count

    def _when(self, missing: Missing) -> list[str]:
        """Say from when to when what is missing was sent, in seconds since the first update."""
        begin_ns = min(times[0] for truth in self._truths.values() for times in truth["sent_ns"].values())
        texts = []
        for instrument, ids in missing.updates.items():
            venue, _, symbol = instrument.partition(":")
            at_ns = dict(zip(self._books[instrument], self._truths[venue]["sent_ns"][symbol], strict=True))
            first_s, last_s = ((at_ns[number] - begin_ns) / SECOND for number in (ids[0], ids[-1]))
            texts.append(f"lacks {len(ids)} of {instrument}, sent from {first_s:.2f} to {last_s:.2f} s")
        return texts


def stalls_ms(lives: Sequence[Life], start_ns: Nanos, end_ns: Nanos) -> list[float]:
    """Give the longest delivery gap in the window of each strategy that lived through it, in milliseconds."""
    return [longest_gap(life.times, start_ns, end_ns) / MILLISECOND for life in lives if life.covers(start_ns, end_ns)]
