"""Chain arbitration: global ids, so copies of any number of lines merge message by message.

State P is the id already given out. A message with ``last <= P`` is a later copy; it is accepted if
``prev == P`` (strict) or ``prev <= P < last`` (loose, legal where a window lists every level touched); else it is
held until other lines fill the hole, for a bounded time. Then a `Gap` says what no line delivered, and the
stream waits for a snapshot; deltas that no snapshot made usable go out flagged `UNAPPLIED`.

Invariants: `id_last` of what goes out as applicable strictly increases within an epoch of the venue's ids;
nothing is applicable between a `Gap` and the snapshot after it.
"""

from __future__ import annotations

from raytrade.arbitration.chain_line import ChainLine
from raytrade.arbitration.held import Entry, Held
from raytrade.arbitration.stream import (
    ArbiterSettings,
    Hole,
    Outlet,
    Rule,
    SnapshotRequests,
    StreamCounts,
    StreamKey,
    StreamRule,
    hold_back_ns,
)
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Flag, Gap, GapKind, Resynced, Stalled
from raytrade.core.message import Kind, Message, decode
from raytrade.core.metrics import Histogram
from raytrade.core.recent import Recent
from raytrade.errors import InvariantError

SLOW_NS = 10 * SECOND
"""A gap this soon after a link has overrun its consumer is the consumer's own."""

ACCEPTED_REMEMBERED_MAX = 4096
"""How many accepted ids are remembered to measure by how much a copy was late."""


class ChainStream:
    """Arbiter of one stream with global ids: a book, or trades whose ids rise by one."""

    def __init__(self, stream: StreamKey, rule: StreamRule, outlet: Outlet, settings: ArbiterSettings) -> None:
        self.stream = stream
        self.counts = StreamCounts()
        self.position: int | None = None
        self._loose = rule.rule is Rule.LOOSE
        self._stateful = rule.rule is not Rule.DENSE
        self._rule = rule
        self._outlet = outlet
        self._settings = settings
        self._lines: dict[str, ChainLine] = {}
        self._synced = False
        self._gap_open = False
        self._covered = True
        self._emitted: int | None = None
        self._told: int | None = None
        self._held = Held()
        self._hole = Hole()
        self._born_ns: Nanos | None = None
        self._ahead: tuple[str, Message] | None = None
        self._accepted: Recent[int, tuple[Nanos, str]] = Recent(ACCEPTED_REMEMBERED_MAX)
        self._skew = Histogram()
        self._ts_venue_ns: Nanos = 0
        self._suspect_since_ns: Nanos | None = None
        self._slow_ns: Nanos | None = None
        self._slow_cause = ""
        self._requests = SnapshotRequests(stream[0], outlet, settings)

    # Inputs.

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one copy from `line`."""
        if self._born_ns is None:
            self._born_ns = now_ns
        track = self._lines.get(line)
        if track is None:
            track = self._lines[line] = ChainLine(self.counts.line(line))
        match message.kind:
            case Kind.DELTA | Kind.TRADE:
                self._receive_update(line, track, message, now_ns)
            case Kind.SNAPSHOT:
                self._receive_snapshot(line, track, message, now_ns)
            case Kind.GAP:
                self._hear_gap(message, now_ns)
                track.miss(message.id_prev, message.id_last, self.position if self._synced else None)
            case Kind.STALLED:
                self.receive_line_down(line, now_ns)
            case Kind.RESYNCED:
                track.up = True
                if not self._covered and self._synced and message.id_last == self.position:
                    self._resume(now_ns)
        self._review(now_ns)

    def _hear_gap(self, message: Message, now_ns: Nanos) -> None:
        """A line says that this consumer was too slow for it: what is missing now is missing for that reason."""
        gap = decode(message)
        if isinstance(gap, Gap) and gap.kind is GapKind.SLOW_CONSUMER:
            self._slow_ns, self._slow_cause = now_ns, gap.cause

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line is connected; after a time without any line the book must be proved again."""
        track = self._lines.get(line)
        if track is not None:
            track.up = True
        if not self._covered and self._synced and self._stateful and not self._rule.in_band:
            self._requests.ask(now_ns, "no line was up")

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost; with the last one the stream is stalled."""
        track = self._lines.get(line)
        if track is None:
            return
        track.up = False
        self._review(now_ns)
        if self._covered and not any(other.up for other in self._lines.values()):
            self._covered = False
            if self._synced:
                instrument, channel = self.stream
                cause = "all lines are down"
                self._outlet.emit(Stalled(instrument=instrument, channel=channel, cause=cause, ts_recv_ns=now_ns))

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Give up waiting for a hole to be filled; ask again for a snapshot."""
        deadline_ns = self._hole_deadline_ns()
        if deadline_ns is not None and now_ns >= deadline_ns:
            (self._declare_gap if self._synced else self._go_on)(now_ns)
            self._review(now_ns)
        if self._requests.due_ns is not None and now_ns >= self._requests.due_ns:
            self._requests.ask(now_ns, "no snapshot came")

    def deadline_ns(self) -> Nanos | None:
        """When a hole is given up, or a snapshot asked for again."""
        asked_ns = self._requests.due_ns
        if self._hole.since_ns is None:
            return asked_ns
        due = [at for at in (self._hole_deadline_ns(), asked_ns) if at is not None]
        return min(due) if due else None

    @property
    def is_holding(self) -> bool:
        """Tell whether messages are held back that may still go out."""
        return self._synced and self._hole.since_ns is not None

    def release(self) -> None:
        """Give out what is held back, not to be applied: the recording ends."""
        while self._held:
            self._give_unapplied(self._held.take(0))
        self._hole.close()

    def validate(self) -> None:
        """Raise InvariantError where the inner state contradicts itself."""
        self._held.validate()
        if self._synced and self.position is None:
            raise InvariantError(f"{self.stream}: synced without a position")
        if self._synced and (self._held or self._proves_hole()) and self._hole.since_ns is None:
            raise InvariantError(f"{self.stream}: waits without a term at {self.position}")

    # Updates.

    def _receive_update(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        track.counts.updates += 1
        track.up = True
        track.follow(message, self.position if self._synced else None)
        if not self._synced:
            self._buffer(line, track, message, now_ns)
            if self._ahead is not None and self._is_whole(self._ahead[1].id_last):
                self._go_on(now_ns)
            return
        position = self.position
        assert position is not None
        if message.id_last <= position:
            self._receive_copy(line, track, message, now_ns)
        elif message.id_prev == position or (self._loose and message.id_prev < position):
            self._accept(line, message, now_ns)
            if self._held or self._ahead is not None:
                self._drain(now_ns)
        else:
            self._hold(line, track, message, now_ns)

    def _accept(self, line: str, message: Message, now_ns: Nanos) -> None:
        if message.flags & Flag.UNAPPLIED:
            message = message.unflagged(Flag.UNAPPLIED)
        if not self._covered:
            self._resume(now_ns)
        self._give(message)
        self.position = message.id_last
        self.counts.updates += 1
        self.counts.last_id = message.id_last
        self.counts.line(line).wins += 1
        self._suspect_since_ns = None
        if message.ts_venue_ns > self._ts_venue_ns:
            self._ts_venue_ns = message.ts_venue_ns
        self._accepted.add(message.id_last, (now_ns, line))
        for track in self._lines.values():
            if track.holes:
                track.heal(message.id_last)

    def _give(self, message: Message) -> None:
        self._outlet.messages.append(message)
        self._emitted = message.id_last
        self._told = max(self._told or 0, message.id_last)

    def _resume(self, now_ns: Nanos) -> None:
        """The chain went on over a time without lines: nothing was lost."""
        self._covered = True
        self._requests.cancel()
        self._emit_resynced(now_ns)

    def _emit_resynced(self, now_ns: Nanos) -> None:
        instrument, channel = self.stream
        assert self.position is not None
        resynced = Resynced(instrument=instrument, channel=channel, id_last=self.position, ts_recv_ns=now_ns)
        self._outlet.emit(resynced)

    def _close_gap(self, now_ns: Nanos) -> None:
        if self._gap_open:
            self._gap_open = False
            self.counts.resyncs += 1
            self._emit_resynced(now_ns)

    def _receive_copy(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        track.counts.duplicates += 1
        first = self._accepted.get(message.id_last)
        if first is not None and first[1] != line:
            late_ns = now_ns - first[0]
            self._skew.record(late_ns)
            if first[1]:
                self.counts.line(first[1]).lead.record(late_ns)
                self._accepted[message.id_last] = (first[0], "")
        self._suspect_reset(message, now_ns)

    def _suspect_reset(self, message: Message, now_ns: Nanos) -> None:
        """Stale ids whose venue time is newer than what was accepted: the venue has restarted its ids."""
        if not self._ts_venue_ns or message.ts_venue_ns - self._ts_venue_ns < self._settings.reset_ns:
            return
        if self._suspect_since_ns is None:
            self._suspect_since_ns = now_ns
        elif now_ns - self._suspect_since_ns >= self._settings.reset_ns:
            self._reset(now_ns)

    def _reset(self, now_ns: Nanos) -> None:
        self._emit_gap(GapKind.RESET, 0, "the venue's ids run from a lower number again", now_ns)
        self.counts.resets += 1
        while self._held:
            self._give_unapplied(self._held.take(0))
        self.position = self._emitted = self._told = self._ahead = None
        self._synced = False
        self._suspect_since_ns = None
        self._hole.close()
        self._ts_venue_ns = 0
        self._accepted.clear()
        for track in self._lines.values():
            track.position = 0
            track.holes.clear()
        if self._stateful:
            self._requests.ask(now_ns, "ids restarted")

    # Holding back.

    def _hold(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        if not self._held.insert(line, message):
            track.counts.duplicates += 1
            return
        if self._hole.since_ns is None:
            self._hole.open(now_ns)
        settings = self._settings
        self.counts.held_max = max(self.counts.held_max, len(self._held))
        if len(self._held) > settings.held_messages_max or self._held.bytes_held > settings.held_bytes_max:
            self._declare_gap(now_ns)

    def _drain(self, now_ns: Nanos) -> None:
        """Accept what now follows on; drop what was overtaken."""
        started = self.position
        while (at := self._next_held()) is not None:
            _, id_last, _, line, message = self._held.take(at)
            assert self.position is not None
            if id_last <= self.position:
                self.counts.line(line).duplicates += 1
            else:
                self._accept(line, message, now_ns)
        if self._ahead is not None and self._ahead[1].id_last <= (self.position or 0):
            self._ahead = None
        if not self._held and not self._proves_hole():
            self._hole.close()
        elif self.position != started or self._hole.since_ns is None:
            self._hole.open(now_ns)

    def _proves_hole(self) -> bool:
        """Tell whether there is a snapshot of a later state: where ids have no holes, something is missing."""
        return self._rule.contiguous and self._ahead is not None

    def _next_held(self) -> int | None:
        """Give the index of a held message that is overtaken or follows on."""
        position = self.position
        assert position is not None
        for at, held in enumerate(self._held.entries):
            if held[0] > position:
                return None
            if held[1] <= position or self._loose or held[0] == position:
                return at
        return None

    def _hole_deadline_ns(self) -> Nanos | None:
        if self._hole.since_ns is None:
            return None
        return self._hole.due_ns(hold_back_ns(self._skew, self._settings), self._settings.passed_ns)

    def _review(self, now_ns: Nanos) -> None:
        """See whether all lines have passed the hole; at first not all of them may be known."""
        if self._hole.since_ns is not None:
            is_young = now_ns < (self._born_ns or 0) + self._settings.hold_back_ns_max
            self._hole.review(now_ns, not is_young and self._all_passed())

    def _all_passed(self) -> bool:
        """Tell whether every line that is up has gone past the hole: lines keep order, so none will fill it."""
        end = (self.position or 0) + 1
        if not self._synced and self._ahead is not None:
            end = self._ahead[1].id_last
        return all(track.position >= end for track in self._lines.values() if track.up)

    def _declare_gap(self, now_ns: Nanos) -> None:
        end = self._hole_end(self._ahead)
        is_slow = self._slow_ns is not None and now_ns - self._slow_ns <= SLOW_NS
        if is_slow:
            self._emit_gap(GapKind.SLOW_CONSUMER, end, self._slow_cause, now_ns)
        else:
            self._emit_gap(GapKind.VENUE, end, "no line delivered it", now_ns)
        if not self._stateful:
            self.position = end
            self._close_gap(now_ns)
            self._drain(now_ns)
            return
        self._synced = False
        self._hole.close()
        ahead, self._ahead = self._ahead, None
        if ahead is None or not self._adopt(*ahead, now_ns):
            self._requests.ask(now_ns, "gap")

    def _hole_end(self, ahead: tuple[str, Message] | None) -> int:
        """Give the id up to which nothing was delivered: that before the first held message, or the snapshot's."""
        position = self.position or 0
        ends = [held[0] if held[0] > position else held[1] for held in self._held.entries]
        return min([*ends, ahead[1].id_last] if ahead is not None else ends)

    def _emit_gap(self, kind: GapKind, id_last: int, cause: str, now_ns: Nanos) -> None:
        instrument, channel = self.stream
        self.counts.gaps += 1
        self._gap_open = True
        up = tuple(sorted(line for line, track in self._lines.items() if track.up))
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=kind,
            id_prev=self._told or 0,
            id_last=id_last,
            cause=cause,
            lines=up,
            ts_recv_ns=now_ns,
        )
        self._outlet.emit(gap)
        self._told = max(self._told or 0, id_last)
        for track in self._lines.values():
            track.holes = [hole for hole in track.holes if hole[0] >= id_last]

    # Synchronising.

    def _buffer(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        if not self._stateful:
            self._synced = True
            self.position = message.id_prev
            if self.counts.first_id is None:
                self.counts.first_id = message.id_last
            self._close_gap(now_ns)
            self._accept(line, message, now_ns)
            return
        if self._emitted is not None and message.id_last <= self._emitted:
            track.counts.duplicates += 1
            self._suspect_reset(message, now_ns)
            return
        if not self._held.insert(line, message):
            track.counts.duplicates += 1
            return
        if self._rule.in_band:
            self._requests.expect(now_ns)
        elif self._requests.due_ns is None:
            self._requests.ask(now_ns, "first message")
        self._trim_buffer()

    def _trim_buffer(self) -> None:
        """Keep the buffer inside its bounds: the oldest go out, not to be applied."""
        settings = self._settings
        newest_ns = self._held.entries[-1][4].ts_recv_ns if self._held else 0
        while self._held and (
            self._held.bytes_held > settings.sync_bytes_max
            or newest_ns - self._held.entries[0][4].ts_recv_ns > settings.sync_ns_max
        ):
            self._give_unapplied(self._held.take(0))

    def _give_unapplied(self, held: Entry) -> None:
        id_prev, id_last, _, line, message = held
        if self._emitted is None or id_last > self._emitted:
            self._tell_hole(id_prev, message.ts_recv_ns)
            self._give(message if message.flags & Flag.UNAPPLIED else message.flagged(Flag.UNAPPLIED))
        else:
            self.counts.line(line).duplicates += 1

    def _tell_hole(self, end: int, now_ns: Nanos) -> None:
        """After a gap: another hole before the stream is whole again."""
        if self._gap_open and self.position is not None and end > (self._told or 0):
            self._emit_gap(GapKind.VENUE, end, "no line delivered it", now_ns)

    def _receive_snapshot(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        if self._rule.in_band or message.flags & Flag.IMAGE:
            track.position = message.id_last
            track.up = True
        if not self._synced:
            if self._ahead is None and not self._adopt(line, message, now_ns):
                self._requests.ask(now_ns, "the snapshot is older than the stream")
            return
        assert self.position is not None
        if message.id_last < self.position:
            self._suspect_reset(message, now_ns)
        elif self._covered:
            self._receive_later_book(line, message, now_ns)
        elif message.id_last == self.position:
            self._resume(now_ns)
        else:
            self._emit_gap(GapKind.VENUE, self._hole_end((line, message)), "no line was up", now_ns)
            self._synced, self._ahead = False, None
            self._hole.close()
            if not self._adopt(line, message, now_ns):
                self._requests.ask(now_ns, "gap")

    def _receive_later_book(self, line: str, message: Message, now_ns: Nanos) -> None:
        """A second book while the stream is live is kept, and used only if the stream does not get there."""
        position = self.position or 0
        if message.id_last > (position if self._ahead is None else self._ahead[1].id_last):
            self._ahead = (line, message)
            if self._rule.contiguous and self._hole.since_ns is None:
                self._hole.open(now_ns)

    def _adopt(self, line: str, snapshot: Message, now_ns: Nanos) -> bool:
        """Start from the snapshot if the stream goes on from it; tells whether it does.

        After a gap the snapshot waits for what came before it, so that all of it is given out or told to be missing.
        """
        base = snapshot.id_last
        if self._gap_open and self.position is not None and self._ahead is None and not self._is_whole(base):
            self._ahead = (line, snapshot)
            self._hole.open(now_ns)
            self._requests.cancel()
            return True
        self._ahead = None
        later = [held for held in self._held.entries if held[1] > base]
        if (later and later[0][0] > base) or (self._emitted is not None and base < self._emitted):
            return False
        while self._held and self._held.entries[0][1] <= base:
            self._give_unapplied(self._held.take(0))
        self._tell_hole(min(base, self._held.entries[0][0]) if self._held else base, now_ns)
        self._start_from(snapshot, now_ns)
        self.counts.line(line)
        self._drain(now_ns)
        return True

    def _is_whole(self, base: int) -> bool:
        """Tell whether what was given out and what is held reach `base` without a hole."""
        reached = self._told or 0
        for id_prev, id_last, *_ in self._held.entries:
            if reached >= base or id_prev > reached:
                break
            reached = max(reached, id_last)
        return reached >= base

    def _go_on(self, now_ns: Nanos) -> None:
        """Take the snapshot that has waited."""
        ahead = self._ahead
        self._hole.close()
        if ahead is not None and not self._adopt(*ahead, now_ns):
            self._requests.ask(now_ns, "the snapshot is older than the stream")

    def _start_from(self, snapshot: Message, now_ns: Nanos) -> None:
        base = snapshot.id_last
        self._give(snapshot)
        self.counts.snapshots += 1
        if self.counts.first_id is None:
            self.counts.first_id = base
        self.counts.last_id = self.position = base
        self._synced = self._covered = True
        self._ahead = None
        self._hole.close()
        self._requests.cancel()
        self._ts_venue_ns = max(self._ts_venue_ns, snapshot.ts_venue_ns)
        self._close_gap(now_ns)
