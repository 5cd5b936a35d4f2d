"""Chain arbitration: global ids, so copies of any number of lines merge message by message.

State P is the id already given out. A message with ``last <= P`` is a later copy; it is accepted if
``prev == P`` (strict) or ``prev <= P < last`` (loose, legal where a window lists every level touched); else it is
held until other lines fill the hole, for a bounded time. Then a `Gap` says what no line delivered, and the
stream waits for a snapshot; deltas that no snapshot made usable go out flagged `UNAPPLIED`.

Invariants: `id_last` of what goes out as applicable strictly increases within an epoch of the venue's ids;
nothing is applicable between a `Gap` and the snapshot after it.
"""

from __future__ import annotations

from raytrade.arbitration.chain_line import ChainLine, ChainLines
from raytrade.arbitration.held import Entry, Held
from raytrade.arbitration.lateness import Lateness
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
from raytrade.core.clock import Nanos
from raytrade.core.events import Gap, GapKind
from raytrade.core.members import CONFLATED, DELTA, IMAGE, TRADE, UNAPPLIED
from raytrade.core.message import Kind, Message
from raytrade.errors import InvariantError


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
        self._lines = ChainLines(self.counts)
        self._synced = False
        self._gap_open = False
        self._covered = True
        self._emitted: int | None = None
        self._told: int | None = None
        self._held = Held()
        self._hole = Hole()
        self._born_ns: Nanos | None = None
        self._ahead: tuple[str, Message] | None = None
        self._lateness = Lateness(self.counts)
        self._ts_venue_ns: Nanos = 0
        self._suspect_since_ns: Nanos | None = None
        self._requests = SnapshotRequests(stream[0], outlet, settings, self.counts)

    # Inputs.

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one copy from `line`."""
        if self._born_ns is None:
            self._born_ns = now_ns
        track = self._lines.of(line)
        match kind := message.kind:
            case _ if kind is DELTA or kind is TRADE:
                self._receive_update(line, track, message, now_ns)
            case Kind.SNAPSHOT:
                self._receive_snapshot(line, track, message, now_ns)
            case Kind.GAP:
                self._lines.hear_gap(message, now_ns)
                track.miss(message.id_prev, message.id_last, self.position if self._synced else None)
                self._see_whether_passed(now_ns)
            case Kind.STALLED:
                self.receive_line_down(line, now_ns)
            case Kind.RESYNCED:
                self._receive_resynced(track, message, now_ns)
        self._review(now_ns)

    def _receive_resynced(self, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        """The line is whole up to an id, so nothing up to there will come on it any more."""
        track.up = True
        track.miss(track.position, message.id_last, self.position if self._synced else None)
        if not self._covered and self._synced and message.id_last == self.position:
            self._resume(now_ns)
        self._see_whether_passed(now_ns)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line is connected; after a time without any line the book must be proved again."""
        track = self._lines.known(line)
        if track is not None:
            track.up = True
        self._see_whether_passed(now_ns)
        if self._covered or not self._synced or not self._stateful:
            return
        if self._rule.in_band:
            self._requests.expect_soon(now_ns)
        else:
            self._requests.ask(now_ns, "no line was up")

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost; with the last one the stream is stalled."""
        track = self._lines.known(line)
        if track is None:
            return
        track.up = False
        self._see_whether_passed(now_ns)
        self._review(now_ns)
        if self._lines.is_any_up():
            return
        if self._ahead is not None:
            self._ahead = None
            if not self._synced:
                self._hole.close()
                self._requests.expect(now_ns)
        if self._covered:
            self._covered = False
            if self._synced:
                self._outlet.emit_stalled(self.stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Give up waiting for a hole to be filled; ask again for a snapshot."""
        deadline_ns = self._hole_deadline_ns()
        if deadline_ns is not None and now_ns >= deadline_ns:
            if self._synced and not self._held and not self._proves_hole():
                self._hole.close()
            else:
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
        if not track.up:
            track.up = True
            self._see_whether_passed(now_ns)
        track.follow(message, self.position if self._synced else None)
        if not self._synced:
            self._buffer(line, track, message, now_ns)
            if self._ahead is not None and self._held.reaches(self._told or 0, self._ahead[1].id_last):
                self._go_on(now_ns)
            return
        position = self.position
        assert position is not None
        if message.flags & CONFLATED and message.id_last > position:
            self._skip_to(line, message, now_ns)
        elif message.id_last <= position:
            self._receive_copy(line, track, message, now_ns)
        elif message.id_prev == position or (self._loose and message.id_prev < position):
            self._accept(line, message, now_ns)
            if self._ahead is not None or self._hole.since_ns is not None:
                self._drain(now_ns)
        else:
            self._hold(line, track, message, now_ns)

    def _accept(self, line: str, message: Message, now_ns: Nanos) -> None:
        if message.flags & UNAPPLIED:
            message = message.unflagged(UNAPPLIED)
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
        self._lateness.accept(line, message.id_last, now_ns)
        self._lines.heal(message.id_last)

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
        self._outlet.emit_resynced(self.stream, self.position or 0, now_ns)

    def _close_gap(self, now_ns: Nanos) -> None:
        if self._gap_open:
            self._gap_open = False
            self.counts.resyncs += 1
            self._emit_resynced(now_ns)

    def _receive_copy(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        track.counts.duplicates += 1
        self._lateness.copy(line, message.id_last, now_ns)
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
        self._synced, self._suspect_since_ns = False, None
        self._hole.close()
        self._ts_venue_ns = 0
        self._lateness.forget()
        self._lines.forget()
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
            if id_last <= (self.position or 0):
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
        """Tell whether something is missing although no message is held that says so.

        Where ids have no holes, and after an outage, a snapshot of a later state proves it; everywhere, that every
        line that is up has left out what comes next (links that overran do that): nothing after it may come for long.
        """
        if self._ahead is not None and (self._rule.contiguous or not self._covered):
            return True
        return self._lines.passed_to() > (self.position or 0)

    def _see_whether_passed(self, now_ns: Nanos) -> None:
        """A line has left something out, or is down: what comes next may have become impossible."""
        if self._synced and self._hole.since_ns is None and self._proves_hole():
            self._hole.open(now_ns)

    def _next_held(self) -> int | None:
        """Give the index of a held message that is overtaken or follows on."""
        position = self.position or 0
        for at, held in enumerate(self._held.entries):
            if held[0] > position:
                return None
            if held[1] <= position or self._loose or held[0] == position:
                return at
        return None

    def _hole_deadline_ns(self) -> Nanos | None:
        if self._hole.since_ns is None:
            return None
        settings = self._settings
        if self._ahead is not None and not self._covered:
            return self._hole.since_ns + (settings.passed_ns if settings.guard else settings.hold_back_ns_min)
        return self._hole.due_ns(hold_back_ns(self._lateness.skew, settings), settings.passed_ns)

    def _review(self, now_ns: Nanos) -> None:
        """See whether all lines have passed the hole; at first not all of them may be known."""
        if self._hole.since_ns is not None:
            is_young = now_ns < (self._born_ns or 0) + self._settings.hold_back_ns_max
            is_waiting = self._ahead is not None and not self._synced
            end = self._ahead[1].id_last if self._ahead is not None and is_waiting else (self.position or 0) + 1
            self._hole.review(now_ns, not is_young and self._lines.have_passed(end))

    def _declare_gap(self, now_ns: Nanos) -> None:
        end = self._hole_end(self._ahead)
        kind, cause = self._lines.cause(now_ns) if self._covered else (GapKind.VENUE, "no line was up")
        self._emit_gap(kind, end, cause, now_ns)
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
        if ahead is not None:
            ends.append(ahead[1].id_last)
        return min(ends) if ends else self._lines.passed_to()

    def _emit_gap(self, kind: GapKind, id_last: int, cause: str, now_ns: Nanos) -> None:
        self.counts.gaps += 1
        self._gap_open = True
        gap = Gap(
            instrument=self.stream[0],
            channel=self.stream[1],
            kind=kind,
            id_prev=self._told or 0,
            id_last=id_last,
            cause=cause,
            lines=self._lines.up(),
            ts_recv_ns=now_ns,
        )
        self._outlet.emit(gap)
        self._told = max(self._told or 0, id_last)
        self._lines.give_up(id_last)

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
        elif self._requests.is_idle(now_ns):
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
            self._give(message if message.flags & UNAPPLIED else message.flagged(UNAPPLIED))
        else:
            self.counts.line(line).duplicates += 1

    def _tell_hole(self, end: int, now_ns: Nanos) -> None:
        """After a gap: another hole before the stream is whole again."""
        if self._gap_open and self.position is not None and end > (self._told or 0):
            self._emit_gap(GapKind.VENUE, end, "no line delivered it", now_ns)

    def _receive_snapshot(self, line: str, track: ChainLine, message: Message, now_ns: Nanos) -> None:
        if self._rule.in_band or message.flags & IMAGE:
            track.position, track.up = message.id_last, True
        if message.flags & CONFLATED and message.id_last > (self._emitted or 0):
            self._skip_to(line, message, now_ns)
        elif not self._synced:
            if self._ahead is None and not self._adopt(line, message, now_ns):
                self._requests.ask(now_ns, "the snapshot is older than the stream")
        elif message.id_last < (self.position or 0):
            self._suspect_reset(message, now_ns)
        elif message.id_last == self.position and not self._covered:
            self._resume(now_ns)
        else:
            self._receive_later_book(line, message, now_ns)

    def _skip_to(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take the latest state of a link that left out what lies between: this consumer wants no more than that."""
        while self._held and self._held.entries[0][1] <= message.id_last:
            self._held.take(0)
        self._told = message.id_last
        self.counts.line(line)
        was_covered, self._covered = self._covered or self._gap_open, True
        if self._stateful:
            self._start_from(message, now_ns)
        else:
            self.position, self._synced = message.id_last, True
            self._give(message)
        if not was_covered:
            self._emit_resynced(now_ns)
        self._drain(now_ns)

    def _receive_later_book(self, line: str, message: Message, now_ns: Nanos) -> None:
        """A second book, or one after an outage, is kept, and used only if the stream does not get there by itself."""
        position = self.position or 0
        if message.id_last > (position if self._ahead is None else self._ahead[1].id_last):
            if self._ahead is None and not self._covered:
                self._hole.open(now_ns)
            self._ahead = (line, message)
        if not self._covered:
            self._requests.cancel()
        self._see_whether_passed(now_ns)

    def _adopt(self, line: str, snapshot: Message, now_ns: Nanos) -> bool:
        """Start from the snapshot if the stream goes on from it; tells whether it does.

        After a gap the snapshot waits for what came before it, so that all of it is given out or told to be missing.
        """
        base = snapshot.id_last
        if (
            self._gap_open
            and self.position is not None
            and self._ahead is None
            and not self._held.reaches(self._told or 0, base)
        ):
            self._ahead = (line, snapshot)
            self._hole.open(now_ns)
            self._requests.cancel()
            return True
        self._ahead = None
        later = next((held for held in self._held.entries if held[1] > base), None)
        if (later and later[0] > base) or base < (self._told or 0):
            return False
        while self._held and self._held.entries[0][1] <= base:
            self._give_unapplied(self._held.take(0))
        self._tell_hole(min(base, self._held.entries[0][0]) if self._held else base, now_ns)
        self._start_from(snapshot, now_ns)
        self.counts.line(line)
        self._drain(now_ns)
        return True

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
