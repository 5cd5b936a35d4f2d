"""What the arbiters of single streams share: rules, settings, the outlet and the count per line."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel, Event, Resynced, Stalled
from raytrade.core.message import Message, encode, parse
from raytrade.core.metrics import Histogram

StreamKey = tuple[str, Channel]


class Rule(StrEnum):
    """How copies of a stream are merged; the values are those of the venues' merge classes."""

    LOOSE = "chain, loose"
    STRICT = "chain, strict"
    LEAD = "lead"
    NEWEST = "newest"
    TRADE = "trade id"
    DENSE = "trade id, dense"


class StreamRule(msgspec.Struct, frozen=True):
    """What an arbiter must know of a stream.

    `contiguous`: ids rise without holes, so a snapshot ahead of the stream proves a loss.
    `in_band`: snapshots come on the line itself, in order with its deltas.
    `checksum`: name of the checksum in `raytrade.core.checksum` that each message carries.
    """

    rule: Rule
    contiguous: bool = False
    in_band: bool = False
    checksum: str = ""


class ArbiterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of an arbiter. Times in nanoseconds.

    The hold-back is four times the 99.9th percentile of the skew between lines, inside its bounds; before
    `skew_samples_min` copies were compared it is the upper bound.
    """

    hold_back_ns_min: Nanos = 250 * MILLISECOND
    hold_back_ns_max: Nanos = 2 * SECOND
    passed_ns: Nanos = 50 * MILLISECOND
    """How long a hole is held open when every line has already gone past it (a frame may be reordered)."""
    held_messages_max: int = 8192
    held_bytes_max: int = 32 * 1024 * 1024
    sync_ns_max: Nanos = 30 * SECOND
    sync_bytes_max: int = 64 * 1024 * 1024
    skew_samples_min: int = 1000
    reset_ns: Nanos = SECOND
    """Only stale ids with newer venue times for this long: the venue has restarted its ids."""
    snapshot_retry_ns: Nanos = 2 * SECOND
    snapshot_retry_ns_max: Nanos = 60 * SECOND
    held_ns: Nanos = 0
    """Tell consumers (`Held`) when something is held back for longer than this; 0: never, and pass no such word on."""
    snapshot_burst: int = 8
    """So many snapshots may be asked for at once when they are needed; the next ones wait as repeated requests do."""
    calm_ns: Nanos = 120 * SECOND
    """Without a request for this long (longer than they ever wait), a stream is taken for healthy again."""
    guard: bool = False
    """Hold lines against each other where ids are the venue's own: for arbiters whose lines are connections."""


HELD_NS = 50 * MILLISECOND
"""What is held back for longer is worth a word to strategies."""


class SnapshotWanted(msgspec.Struct, frozen=True):
    """No line can fill what is missing: fetch a fresh book of the instrument.

    With a `line` it is that line's own book that is wrong, and no other line can help.
    """

    instrument: str
    reason: str
    line: str = ""


class LineCounts(msgspec.Struct):
    """What one line gave to one stream.

    `wins`: first copies. `duplicates`: later copies of what was already there. `gaps_seen`: holes in the line's own
    numbering. `gaps_healed`: those that other lines filled. `lead`: by how much its wins came before the runner-up.
    """

    updates: int = 0
    wins: int = 0
    duplicates: int = 0
    gaps_seen: int = 0
    gaps_healed: int = 0
    disagreements: int = 0
    lead: Histogram = msgspec.field(default_factory=Histogram)


class StreamCounts(msgspec.Struct):
    """What one stream gave to its consumers."""

    updates: int = 0
    snapshots: int = 0
    gaps: int = 0
    resyncs: int = 0
    resets: int = 0
    checksums_ok: int = 0
    checksums_failed: int = 0
    held_max: int = 0
    asked: int = 0
    asked_ns: Nanos = 0
    alarm: str = ""
    in_force: str = ""
    """How copies are merged while lines are demoted, and why; empty as long as it is the venue's own class."""
    first_id: int | None = None
    last_id: int | None = None
    lines: dict[str, LineCounts] = {}

    def line(self, line: str) -> LineCounts:
        """Give the counts of a line, from the first on."""
        counts = self.lines.get(line)
        if counts is None:
            counts = self.lines[line] = LineCounts()
        return counts


class Outlet:
    """Where stream arbiters put what they give out; `name` stands as the line of the events they make."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: list[Message] = []
        self.commands: list[SnapshotWanted] = []

    def emit(self, event: Event) -> None:
        """Give out an event made by the arbiter itself."""
        self.messages.append(parse(encode(event, self.name)))

    def emit_resynced(self, stream: StreamKey, id_last: int, now_ns: Nanos) -> None:
        """Give out that the stream is whole again at an id that all lines share."""
        instrument, channel = stream
        self.emit(Resynced(instrument=instrument, channel=channel, id_last=id_last, ts_recv_ns=now_ns))

    def emit_stalled(self, stream: StreamKey, now_ns: Nanos) -> None:
        """Give out that no line of the stream is left."""
        instrument, channel = stream
        cause = "all lines are down"
        self.emit(Stalled(instrument=instrument, channel=channel, cause=cause, ts_recv_ns=now_ns))


class SnapshotRequests:
    """Asks for snapshots of one instrument, again after a growing time until one was of use.

    A snapshot that was of use ends the waiting, but not for ever: a venue whose snapshots and updates contradict each
    other would be asked without end. After `snapshot_burst` requests, none of them a calm time after the one before,
    the growing time holds between all requests and the alarm is given.
    """

    def __init__(self, instrument: str, outlet: Outlet, settings: ArbiterSettings, counts: StreamCounts) -> None:
        self.due_ns: Nanos | None = None
        self._instrument = instrument
        self._outlet = outlet
        self._settings = settings
        self._counts = counts
        self._wait_ns = settings.snapshot_retry_ns
        self._run = 0

    def is_idle(self, now_ns: Nanos) -> bool:
        """Tell whether nothing is due; what is due only after longer than ever is waited was said by another clock."""
        return self.due_ns is None or self.due_ns > now_ns + self._settings.snapshot_retry_ns_max

    def ask(self, now_ns: Nanos, reason: str) -> None:
        """Ask, unless an answer to the last request may still come or too much was asked already."""
        if self.due_ns is not None and not self.is_idle(now_ns) and now_ns < self.due_ns:
            return
        counts, settings = self._counts, self._settings
        if now_ns - counts.asked_ns >= settings.calm_ns:
            self._run, self._wait_ns, counts.alarm = 0, settings.snapshot_retry_ns, ""
        if self._run >= settings.snapshot_burst:
            counts.alarm = f"{self._run} books asked for in a row, none was good for long ({reason})"
            if counts.asked_ns <= now_ns < counts.asked_ns + self._wait_ns:
                self.due_ns = counts.asked_ns + self._wait_ns
                return
        self._outlet.commands.append(SnapshotWanted(self._instrument, reason))
        self._run += 1
        counts.asked += 1
        counts.asked_ns = now_ns
        self.due_ns = now_ns + self._wait_ns
        self._wait_ns = min(2 * self._wait_ns, settings.snapshot_retry_ns_max)

    def expect(self, now_ns: Nanos) -> None:
        """A snapshot should come by itself; if it does not, ask when the time of a request has passed."""
        if self.is_idle(now_ns):
            self.due_ns = now_ns + self._wait_ns

    def expect_soon(self, now_ns: Nanos) -> None:
        """A line is there again: a snapshot should come, however long requests have been in vain before."""
        self._wait_ns = self._settings.snapshot_retry_ns
        due_ns = now_ns + self._wait_ns
        self.due_ns = due_ns if self.due_ns is None else min(self.due_ns, due_ns)

    def cancel(self) -> None:
        """Nothing is wanted any more."""
        self.due_ns = None
        if self._run < self._settings.snapshot_burst:
            self._wait_ns = self._settings.snapshot_retry_ns


class Hole:
    """Since when something has been missing, and since when every line has gone past it."""

    __slots__ = ("passed_ns", "since_ns")

    def __init__(self) -> None:
        self.since_ns: Nanos | None = None
        self.passed_ns: Nanos | None = None

    def open(self, now_ns: Nanos) -> None:
        """Something is missing from now on."""
        self.since_ns, self.passed_ns = now_ns, None

    def close(self) -> None:
        """Nothing is missing."""
        self.since_ns = self.passed_ns = None

    def review(self, now_ns: Nanos, is_passed: bool) -> None:
        """Note whether every line has gone past it: lines keep order but for neighbours, so none will fill it.

        A clock that goes back begins the waiting anew.
        """
        if self.since_ns is not None:
            self.since_ns = min(self.since_ns, now_ns)
        if not is_passed:
            self.passed_ns = None
        elif self.passed_ns is None or self.passed_ns > now_ns:
            self.passed_ns = now_ns

    def due_ns(self, wait_ns: Nanos, passed_wait_ns: Nanos) -> Nanos | None:
        """When it is given up."""
        if self.since_ns is None:
            return None
        due_ns = self.since_ns + wait_ns
        return due_ns if self.passed_ns is None else min(due_ns, self.passed_ns + passed_wait_ns)


def hold_back_ns(skew: Histogram, settings: ArbiterSettings) -> Nanos:
    """Give how long a hole is held open while a line may still fill it."""
    if skew.total < settings.skew_samples_min:
        return settings.hold_back_ns_max
    return min(settings.hold_back_ns_max, max(settings.hold_back_ns_min, 4 * skew.quantile_ns(0.999)))


class StreamArbiter(Protocol):
    """Merges the copies of one stream."""

    counts: StreamCounts

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one copy from `line`."""

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line that may carry the stream is connected."""

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost."""

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed."""

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due."""

    @property
    def is_holding(self) -> bool:
        """Tell whether messages are held back that may still go out."""
        ...

    def release(self) -> None:
        """Give out what is held back, not to be applied: the recording ends."""

    def validate(self) -> None:
        """Check inner invariants; raises InvariantError."""


RuleBook = Callable[[str, Channel], StreamRule]
