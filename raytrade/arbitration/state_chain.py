"""State-chain arbitration: ids count per connection, but each message carries the venue's checksum of the book.

A message of any line follows the merged book if applying it gives the checksum that it carries; the first copy
that does goes out at once. Copies are known by their content, since ids of different lines cannot be compared.
What does not follow is held until other lines' copies of what is missing have come, for a bounded time; then a
`Gap`, and the next snapshot of any line starts the stream again.

A loss in levels that the checksum does not cover is not seen. When another line's copy of such a message comes
late, those of its levels that nothing later has changed are given out as a delta flagged `SPLICE`.

Invariants: every book given out has the venue's checksum; nothing is applicable between a `Gap` (or `Stalled`)
and the `Resynced` after it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import chain

import msgspec

from raytrade.arbitration.checked_book import CheckedBook
from raytrade.arbitration.copies import Content, content_of, spliced, with_deletions
from raytrade.arbitration.stream import (
    ArbiterSettings,
    Hole,
    LineCounts,
    Outlet,
    SnapshotRequests,
    StreamCounts,
    StreamKey,
    StreamRule,
)
from raytrade.core.clock import Nanos
from raytrade.core.events import BookSnapshot, Flag, Gap, GapKind, Resynced
from raytrade.core.message import Kind, Message, decode
from raytrade.core.recent import Recent
from raytrade.errors import InvariantError

CONTENTS_REMEMBERED_MAX = 16_384
"""How many distinct messages are remembered to know their copies."""
TRIES_MAX = 16
"""How many of the held messages are tried after each step."""

_Held = tuple[Nanos, int, str, Message]


class _Line:
    """How far a line has come in venue time, and whether its own book is broken."""

    __slots__ = ("broken", "counts", "overrun", "ts_venue_ns", "up")

    def __init__(self, counts: LineCounts) -> None:
        self.counts = counts
        self.ts_venue_ns: Nanos = 0
        self.up = True
        self.broken = False
        self.overrun = False


class _Seen(msgspec.Struct):
    """One distinct message: how often it was taken in, and how often each connection of a line delivered it."""

    line: str
    arrived_ns: Nanos
    taken: int = 0
    delivered: dict[tuple[str, int], int] = {}
    led: bool = False


class StateChain:
    """Arbiter of one book whose messages carry the venue's checksum."""

    def __init__(
        self, stream: StreamKey, rule: StreamRule, outlet: Outlet, settings: ArbiterSettings, book: CheckedBook
    ) -> None:
        self.stream = stream
        self.counts = StreamCounts()
        self._rule = rule
        self._outlet = outlet
        self._settings = settings
        self._book = book
        self._requests = SnapshotRequests(stream[0], outlet, settings, self.counts)
        self._lines: dict[str, _Line] = {}
        self._live = False
        self._covered = True
        self._gap_open = False
        self._started = False
        self._position: tuple[int, int] = (0, 0)
        self._seen: Recent[Content, _Seen] = Recent(CONTENTS_REMEMBERED_MAX)
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._serial = 0
        self._refused: set[int] = set()
        self._hole = Hole()
        self._born_ns: Nanos | None = None
        self._ahead: tuple[str, Message] | None = None
        self._suspect_since_ns: Nanos | None = None

    # Inputs.

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message from `line`."""
        if self._born_ns is None:
            self._born_ns = now_ns
        track = self._lines.get(line)
        if track is None:
            track = self._lines[line] = _Line(self.counts.line(line))
        match message.kind:
            case Kind.DELTA:
                self._receive_delta(line, track, message, now_ns)
            case Kind.SNAPSHOT:
                self._receive_snapshot(line, track, message, now_ns)
            case Kind.GAP:
                track.counts.gaps_seen += 1
                track.broken = True
                self._hear_gap(track, message, now_ns)
            case Kind.STALLED:
                self.receive_line_down(line, now_ns)
            case Kind.RESYNCED:
                self.receive_line_up(line, now_ns)
        self._review(now_ns)

    def _hear_gap(self, track: _Line, message: Message, now_ns: Nanos) -> None:
        """A link has overrun this consumer; once all have, something is missing, though nothing may come after it."""
        gap = decode(message)
        track.overrun = isinstance(gap, Gap) and gap.kind is GapKind.SLOW_CONSUMER
        if self._live and self._hole.since_ns is None and self._is_overrun():
            self._hole.open(now_ns)

    def _is_overrun(self) -> bool:
        up = [track for track in self._lines.values() if track.up]
        return bool(up) and all(track.overrun for track in up)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line is connected; after a time without any line a snapshot must prove the book again."""
        track = self._lines.get(line)
        if track is not None:
            track.up = True
        if not self._covered:
            self._requests.expect_soon(now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost; with the last one the stream is stalled."""
        track = self._lines.get(line)
        if track is None:
            return
        track.up = False
        self._review(now_ns)
        if not self._covered or any(other.up for other in self._lines.values()):
            return
        self._covered = False
        if self._live:
            self._live = False
            self._outlet.emit_stalled(self.stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Give up waiting for what is missing; ask again for a snapshot."""
        deadline_ns = self._hole_deadline_ns()
        if deadline_ns is not None and now_ns >= deadline_ns:
            self._refused.clear()
            while self._held and self._place_one():
                pass
            if self._held or self._ahead is not None or self._is_overrun():
                self._declare_gap(now_ns)
            else:
                self._hole.close()
            self._review(now_ns)
        if self._requests.due_ns is not None and now_ns >= self._requests.due_ns:
            self._requests.ask(now_ns, "no snapshot came")

    def deadline_ns(self) -> Nanos | None:
        """When a hole is given up, or a snapshot asked for again."""
        due = [at for at in (self._hole_deadline_ns(), self._requests.due_ns) if at is not None]
        return min(due) if due else None

    @property
    def is_holding(self) -> bool:
        """Tell whether messages are held back that may still go out."""
        return self._hole.since_ns is not None

    def release(self) -> None:
        """Give out what is held back, not to be applied: the recording ends."""
        while self._held:
            self._give_unapplied(self._take(0)[3])
        self._hole.close()

    def validate(self) -> None:
        """Raise InvariantError where the inner state contradicts itself."""
        self._book.book.validate()
        if self._held != sorted(self._held, key=lambda held: held[:2]):
            raise InvariantError(f"{self.stream}: held messages out of order")
        if self._held_bytes != sum(len(held[3].raw) for held in self._held):
            raise InvariantError(f"{self.stream}: held bytes miscounted")
        if self._live and self._held and self._hole.since_ns is None:
            raise InvariantError(f"{self.stream}: holds {len(self._held)} messages without a term")
        if len(self._seen) > CONTENTS_REMEMBERED_MAX:
            raise InvariantError(f"{self.stream}: remembers {len(self._seen)} messages")

    # Deltas.

    def _receive_delta(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        track.counts.updates += 1
        self._follow_clock(track, message, now_ns)
        if self._is_copy(line, message, now_ns):
            track.counts.duplicates += 1
        elif not self._live:
            self._insert(line, message)
            self._trim()
            if self._rule.in_band:
                self._requests.expect(now_ns)
            elif not self._started:
                self._requests.ask(now_ns, "first message")
        elif not self._place(line, message):
            self._hold(line, message, now_ns)
        else:
            track.overrun = False
            self._settle(now_ns)

    def _follow_clock(self, track: _Line, message: Message, now_ns: Nanos) -> None:
        """Note how far the line has come; venue times far below its own last ones mean that the venue's clock was set.

        Nothing would be accepted any more, so after some time the stream starts anew.
        """
        settings = self._settings
        if message.ts_venue_ns + settings.reset_ns >= track.ts_venue_ns or message.flags & Flag.UNAPPLIED:
            track.ts_venue_ns = max(track.ts_venue_ns, message.ts_venue_ns)
        elif self._suspect_since_ns is None:
            self._suspect_since_ns = now_ns
        elif now_ns - self._suspect_since_ns >= settings.reset_ns and self._live:
            self._reset(now_ns)

    def _reset(self, now_ns: Nanos) -> None:
        self._emit_gap(GapKind.RESET, "the venue's clock runs from an earlier time again", now_ns)
        self.counts.resets += 1
        self._live = False
        self._suspect_since_ns = self._ahead = None
        self._hole.close()
        self._book.forget_time()
        for track in self._lines.values():
            track.ts_venue_ns = 0
        while self._held:
            self._give_unapplied(self._take(0)[3])
        self._requests.ask(now_ns, "the venue's clock was set")

    def _is_copy(self, line: str, message: Message, now_ns: Nanos) -> bool:
        """Tell whether the message was taken in before, as often as this connection has now delivered it."""
        content = content_of(message, self._book.is_window)
        seen = self._seen.get(content)
        if seen is None:
            seen = _Seen(line, now_ns)
            self._seen.add(content, seen)
        source = (line, message.epoch)
        seen.delivered[source] = delivered = seen.delivered.get(source, 0) + 1
        if delivered > seen.taken:
            seen.taken = delivered
            return False
        if seen.line != line and not seen.led:
            seen.led = True
            self.counts.line(seen.line).lead.record(now_ns - seen.arrived_ns)
        return True

    def _place(self, line: str, message: Message) -> bool:
        """Give the message out if it follows on or was overtaken; drop it if the book began later."""
        book = self._book
        if book.contains(message):
            self.counts.line(line).duplicates += 1
        elif message.ts_venue_ns < book.ts_venue_ns:
            return self._splice(line, message)
        elif book.advance(message):
            self._suspect_since_ns = None
            self.counts.checksums_ok += 1
            self._give(line, with_deletions(message, book))
        else:
            return False
        return True

    def _splice(self, line: str, message: Message) -> bool:
        """Give out what is still true of a message that later ones have overtaken, unless it contradicts them."""
        levels = self._book.merge(message)
        if levels is None:
            return False
        self._refused.clear()
        if message.flags & Flag.SPLICE and not any(levels):
            self.counts.line(line).duplicates += 1
        else:
            self.counts.checksums_ok += 1
            self._give(line, spliced(message, levels, self._book))
        return True

    def _give(self, line: str, message: Message) -> None:
        self._outlet.messages.append(message)
        self._position = (message.epoch, message.id_last)
        self.counts.updates += 1
        self.counts.last_id = message.id_last
        self.counts.line(line).wins += 1

    def _give_unapplied(self, message: Message) -> None:
        self._outlet.messages.append(message.flagged(Flag.UNAPPLIED))

    # Holding back.

    def _hold(self, line: str, message: Message, now_ns: Nanos) -> None:
        self._insert(line, message)
        if self._hole.since_ns is None:
            self._hole.open(now_ns)
        settings = self._settings
        self.counts.held_max = max(self.counts.held_max, len(self._held))
        if len(self._held) > settings.held_messages_max or self._held_bytes > settings.held_bytes_max:
            self._declare_gap(now_ns)

    def _insert(self, line: str, message: Message) -> None:
        self._serial += 1
        insort(self._held, (message.ts_venue_ns, self._serial, line, message))
        self._held_bytes += len(message.raw)

    def _take(self, at: int) -> _Held:
        held = self._held.pop(at)
        self._refused.discard(held[1])
        self._held_bytes -= len(held[3].raw)
        return held

    def _trim(self) -> None:
        """Keep what waits for a snapshot inside its bounds: the oldest go out, not to be applied."""
        settings = self._settings
        while self._held and (
            self._held_bytes > settings.sync_bytes_max
            or len(self._held) > settings.held_messages_max
            or self._held[-1][3].ts_recv_ns - self._held[0][3].ts_recv_ns > settings.sync_ns_max
        ):
            self._give_unapplied(self._take(0)[3])

    def _settle(self, now_ns: Nanos) -> None:
        """After a step: place the held messages that it let through, and see what is still missing."""
        while self._held and self._place_one():
            pass
        if self._ahead is not None and not self._is_ahead(self._ahead[1]):
            self._ahead = None
        if not self._held and self._ahead is None and not self._is_overrun():
            self._hole.close()
        elif self._hole.since_ns is None or not self._held or self._held[0][0] >= self._book.ts_venue_ns:
            self._hole.open(now_ns)

    def _place_one(self) -> bool:
        """Place one held message: the overtaken from the newest to the oldest, then the others in their order."""
        held = self._held
        overtaken = bisect_left(held, (self._book.ts_venue_ns,))
        ahead = range(overtaken, min(overtaken + TRIES_MAX, len(held)))
        for at in chain(range(overtaken - 1, max(overtaken - 1 - TRIES_MAX, -1), -1), ahead):
            _, serial, line, message = held[at]
            if serial in self._refused:
                continue
            if self._place(line, message):
                self._take(at)
                return True
            if at < overtaken:
                self._refused.add(serial)
        return False

    def _is_ahead(self, snapshot: Message) -> bool:
        """Tell whether the snapshot holds something that the stream has not reached."""
        book, (epoch, id_last) = self._book, self._position
        is_later = snapshot.ts_venue_ns == book.ts_venue_ns and snapshot.epoch == epoch and snapshot.id_last > id_last
        return (is_later or snapshot.ts_venue_ns > book.ts_venue_ns) and snapshot.state_hash != book.sum

    def _hole_deadline_ns(self) -> Nanos | None:
        """When a hole is given up. As long as a line that is up may fill it, the whole time allowed is waited:

        lines hang for a second and come back, and a gap costs a new subscription.
        """
        if not self._live or self._hole.since_ns is None:
            return None
        return self._hole.due_ns(self._settings.hold_back_ns_max, self._settings.passed_ns)

    def _review(self, now_ns: Nanos) -> None:
        """See whether all lines have passed the hole; at first not all of them may be known."""
        if self._hole.since_ns is not None:
            is_young = now_ns < (self._born_ns or 0) + self._settings.hold_back_ns_max
            self._hole.review(now_ns, not is_young and self._all_passed())

    def _all_passed(self) -> bool:
        """Tell whether every line that is up has gone past what is missing: lines keep order, so none will fill it."""
        ends = [max(held[0], self._book.ts_venue_ns) for held in self._held[:1]]
        if self._ahead is not None:
            ends.append(self._ahead[1].ts_venue_ns)
        return all(track.ts_venue_ns >= min(ends, default=0) for track in self._lines.values() if track.up)

    def _declare_gap(self, now_ns: Nanos) -> None:
        self._live = False
        self._hole.close()
        self.counts.checksums_failed += 1
        self._emit_gap(GapKind.VENUE, "no line delivered what the venue's checksums call for", now_ns)
        ahead, self._ahead = self._ahead, None
        if ahead is None or not self._adopt(*ahead, now_ns):
            self._requests.ask(now_ns, "gap")

    def _emit_gap(self, kind: GapKind, cause: str, now_ns: Nanos) -> None:
        instrument, channel = self.stream
        self.counts.gaps += 1
        self._gap_open = True
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=kind,
            id_prev=self._position[1],
            id_last=0,
            cause=cause,
            lines=tuple(sorted(line for line, track in self._lines.items() if track.up)),
            ts_recv_ns=now_ns,
            epoch=self._position[0],
        )
        self._outlet.emit(gap)

    # Snapshots.

    def _receive_snapshot(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        self._follow_clock(track, message, now_ns)
        track.up = True
        track.overrun = False
        if track.broken:
            track.broken = False
            track.counts.gaps_healed += self._live
        if self._live and message.flags & Flag.CONFLATED:
            if self._is_ahead(message):
                self._adopt(line, message, now_ns)
        elif self._live:
            self._compare(line, track, message, now_ns)
        elif not self._resume(message, now_ns) and not self._adopt(line, message, now_ns):
            self._requests.ask(now_ns, "the snapshot was of no use")

    def _compare(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        """A second book while the stream is live: it proves a loss, or agrees, or may serve after a gap."""
        book = self._book
        if message.flags & Flag.CHECKED and self._is_ahead(message):
            self._ahead = (line, message)
            if self._hole.since_ns is None:
                self._hole.open(now_ns)
        elif message.ts_venue_ns == book.ts_venue_ns and not self._held:
            track.counts.disagreements += bool(message.flags & Flag.CHECKED and message.state_hash != book.sum)

    def _resume(self, message: Message, now_ns: Nanos) -> bool:
        """After a time without lines: if the snapshot is the book as it was, nothing was lost."""
        if self._gap_open or not self._started or self._covered:
            return False
        if not self._book.equals(message):
            return False
        self._live = self._covered = True
        self._requests.cancel()
        self._resynced(now_ns)
        self._settle(now_ns)
        return True

    def _adopt(self, line: str, message: Message, now_ns: Nanos) -> bool:
        """Start from the snapshot if its own checksum proves it and it is not older than what went out."""
        if self._started and message.ts_venue_ns < self._book.ts_venue_ns:
            return False
        snapshot = decode(message)
        assert isinstance(snapshot, BookSnapshot)
        if not self._book.proves(snapshot, bool(message.flags & Flag.CHECKED)):
            self.counts.checksums_failed += 1
            return False
        is_conflated = message.flags & Flag.CONFLATED
        was_covered = self._covered or self._gap_open
        if self._started and not self._gap_open and not is_conflated:
            self._emit_gap(GapKind.VENUE, "no line was up", now_ns)
        while self._held and self._held[0][0] <= message.ts_venue_ns and self._is_in(message, self._held[0][3]):
            self._give_unapplied(self._take(0)[3])
        self._outlet.messages.append(message)
        self._position = (message.epoch, message.id_last)
        self.counts.snapshots += 1
        self.counts.checksums_ok += bool(message.flags & Flag.CHECKED)
        self.counts.line(line)
        if self.counts.first_id is None:
            self.counts.first_id = message.id_last
        self.counts.last_id = message.id_last
        self._live = self._covered = self._started = True
        self._ahead = None
        self._requests.cancel()
        if self._gap_open:
            self._gap_open = False
            self.counts.resyncs += 1
            self._resynced(now_ns)
        elif not was_covered:
            self._resynced(now_ns)
        self._settle(now_ns)
        return True

    def _is_in(self, snapshot: Message, message: Message) -> bool:
        """Tell whether the snapshot holds the message: by the ids of one connection, else by time and content."""
        if message.epoch == snapshot.epoch and message.id_last <= snapshot.id_last:
            return True
        return self._book.contains(message)

    def _resynced(self, now_ns: Nanos) -> None:
        instrument, channel = self.stream
        epoch, id_last = self._position
        resynced = Resynced(instrument=instrument, channel=channel, id_last=id_last, ts_recv_ns=now_ns, epoch=epoch)
        self._outlet.emit(resynced)
