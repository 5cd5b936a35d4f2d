"""What happened and how long it took: entries, and their figures by kind. Pure. Times in seconds, stalls in ms."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

PROCESS_RESTORE_S = 10.0
NODE_RESTORE_S = 60.0


class Entry(msgspec.Struct, kw_only=True):
    """One fault.

    `at_s` since the stream began; `held_s`: for how long the restart was held back. `stall_ms`: the worst delivery gap
    of a surviving strategy in the second after the fault, `sent_ms`: that of the exchange in the same second (what
    the machine does to everybody); `restart_ms`: the worst delivery gap from then until redundancy was back, with
    Python processes starting on the same cores. `restored_s`: from the fault, or the end of the hold-back, until
    every role had its spare, None if it never had; `waited_for`: what was lacking meanwhile, one after the other.
    """

    kind: str
    target: str
    at_s: float
    seconds: float = 0.0
    held_s: float = 0.0
    stall_ms: float = 0.0
    sent_ms: float = 0.0
    restart_ms: float = 0.0
    restored_s: float | None = None
    waited_for: list[str] = []

    @property
    def is_kill(self) -> bool:
        """Tell whether something died."""
        return self.kind.startswith("kill")

    @property
    def restore_limit_s(self) -> float:
        """Within what time redundancy must be back."""
        return NODE_RESTORE_S if self.kind == "kill node" else PROCESS_RESTORE_S


class Figures(msgspec.Struct, frozen=True):
    """Quantiles of a handful of values; the 99th of few values is their highest."""

    count: int
    p50: float
    p99: float
    highest: float


def figures(values: Sequence[float]) -> Figures:
    """Summarise."""
    ordered = sorted(values)
    if not ordered:
        return Figures(0, 0.0, 0.0, 0.0)

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Figures(len(ordered), quantile(0.5), quantile(0.99), ordered[-1])


class Soak(msgspec.Struct, kw_only=True):
    """The result of a soak; counts are of book updates and trades as the exchanges sent them."""

    seed: int
    rate: float
    seconds: float = 0.0
    both_copies: bool = False
    updates: int = 0
    trades: int = 0
    missed_by_strategies: int = 0
    untold: int = 0
    repeated: int = 0
    late_trades: int = 0
    missed_by_recorder: dict[str, int] = {}
    missed_by_union: int = 0
    repeated_in_files: int = 0
    files: int = 0
    unreadable: list[str] = []
    gaps_in_files: int = 0
    quiet_ms: list[float] = []
    history: list[Entry] = []
    problems: list[str] = []
    remarks: list[str] = []

    @property
    def kills(self) -> int:
        """Count what was killed."""
        return sum(entry.is_kill for entry in self.history)

    def failures(self) -> list[str]:
        """Name everything that must not be."""
        found = list(self.problems)
        counts = [
            (self.untold, "updates missed without a gap that says so"),
            (self.repeated, "updates seen twice"),
            (self.repeated_in_files, "rows recorded twice"),
            (len(self.unreadable), "unreadable files"),
        ]
        if not self.both_copies:
            counts.append((self.missed_by_strategies, "updates missed by consumers"))
            counts.append((self.missed_by_union, "updates missing from the union of the recorders"))
        found += [f"{count} {what}" for count, what in counts if count]
        if not self.updates:
            found.append("nothing was sent")
        late = [entry for entry in self.history if entry.restored_s is None or entry.restored_s > entry.restore_limit_s]
        for entry in late:
            took = f"after {entry.restored_s:.1f} s" if entry.restored_s is not None else "never"
            last = "".join(entry.waited_for[-1:])
            found.append(f"{entry.kind} {entry.target} at {entry.at_s:.1f} s: redundancy back {took} ({last})")
        return found


def by_kind(history: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group the entries by their kinds."""
    kinds: dict[str, list[Entry]] = {}
    for entry in sorted(history, key=lambda entry: entry.kind):
        kinds.setdefault(entry.kind, []).append(entry)
    return kinds


def combined(soaks: Sequence[Soak]) -> Soak:
    """Add up several soaks; the seed is that of the first."""
    total = Soak(seed=soaks[0].seed, rate=soaks[0].rate, both_copies=all(soak.both_copies for soak in soaks))
    for soak in soaks:
        total.seconds += soak.seconds
        for name in ("updates", "trades", "missed_by_strategies", "untold", "repeated", "late_trades"):
            setattr(total, name, getattr(total, name) + getattr(soak, name))
        for name in ("missed_by_union", "repeated_in_files", "files", "gaps_in_files"):
            setattr(total, name, getattr(total, name) + getattr(soak, name))
        for recorder, missed in soak.missed_by_recorder.items():
            total.missed_by_recorder[recorder] = total.missed_by_recorder.get(recorder, 0) + missed
        total.unreadable += soak.unreadable
        total.quiet_ms += soak.quiet_ms
        total.history += soak.history
        total.problems += soak.problems
        total.remarks += soak.remarks
    return total
