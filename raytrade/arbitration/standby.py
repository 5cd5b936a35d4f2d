"""Lead-and-standby arbitration: one line is followed, every other keeps a book of its own and stands by.

When the lead is lost (down, broken, or silent while others go on) the stream goes over to a good standby: at the
moment its book equals the one last given out nothing needs to be said; else the difference in full depth goes out
as one delta flagged `SPLICE`, once the standby is ahead in venue time. So no book given out steps back in time.
Without any good line the stream has a `Gap`, until the first line with a snapshot starts it again.

Invariants: a message goes out once, from the lead at that time; nothing is applicable between a `Gap` and the
`Resynced` after it.
"""

from __future__ import annotations

from raytrade.arbitration.books import difference_of
from raytrade.arbitration.stream import (
    ArbiterSettings,
    LineCounts,
    Outlet,
    SnapshotRequests,
    StreamCounts,
    StreamKey,
    hold_back_ns,
)
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, GapKind, Levels, Resynced
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.core.metrics import Histogram
from raytrade.core.recent import Recent
from raytrade.errors import InvariantError

SILENCE_NS_MIN = 250 * MILLISECOND
SILENCE_FACTOR = 5
STATES_REMEMBERED_MAX = 1024
"""How many of the states given out are remembered: by hash where no time ranks them, and by id where ids are global."""
_SMOOTHING = 16


class _Line:
    """A line, its own book, and how often it usually speaks."""

    __slots__ = ("book", "counts", "heard_ns", "interval_ns", "is_good", "up")

    def __init__(self, counts: LineCounts, instrument: str) -> None:
        self.counts = counts
        self.book = L2Book(instrument)
        self.is_good = False
        self.up = True
        self.heard_ns: Nanos = 0
        self.interval_ns: Nanos = 0

    def hear(self, now_ns: Nanos) -> None:
        """Note when it spoke."""
        if self.heard_ns:
            self.interval_ns += (now_ns - self.heard_ns - self.interval_ns) // _SMOOTHING
        self.heard_ns = now_ns

    def is_silent(self, now_ns: Nanos) -> bool:
        """Tell whether it has been quiet for longer than is usual with it."""
        return now_ns - self.heard_ns > max(SILENCE_NS_MIN, SILENCE_FACTOR * self.interval_ns)


class Standby:
    """Arbiter of one book that follows one line at a time."""

    def __init__(
        self, stream: StreamKey, outlet: Outlet, settings: ArbiterSettings, *, is_resumed: bool = False
    ) -> None:
        self.stream = stream
        self.counts = StreamCounts()
        self._outlet = outlet
        self._settings = settings
        self._requests = SnapshotRequests(stream[0], outlet, settings, self.counts)
        self._lines: dict[str, _Line] = {}
        self._lead: str | None = None
        self._left: L2Book | None = None
        self._left_since_ns: Nanos = 0
        self._started = is_resumed
        self._stalled = False
        self._recorded = ""
        self._position: tuple[int, int] = (0, 0)
        self._ts_venue_ns: Nanos = 0
        self._states: Recent[int, None] = Recent(STATES_REMEMBERED_MAX)
        self._ids: Recent[int, tuple[int, str, Nanos]] = Recent(STATES_REMEMBERED_MAX)
        self._skew = Histogram()

    # Inputs.

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message from `line`."""
        track = self._lines.get(line)
        if track is None:
            track = self._lines[line] = _Line(self.counts.line(line), self.stream[0])
        match message.kind:
            case Kind.DELTA:
                self._receive_delta(line, track, message, now_ns)
            case Kind.SNAPSHOT:
                self._receive_snapshot(line, track, message, now_ns)
            case Kind.GAP:
                track.counts.gaps_seen += 1
                self._break(line, track, now_ns)
            case Kind.STALLED:
                self.receive_line_down(line, now_ns)
            case Kind.RESYNCED:
                self.receive_line_up(line, now_ns)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line is connected; it is of use from its next snapshot on."""
        track = self._lines.get(line)
        if track is not None:
            track.up = True
        if self._started and self._lead is None and self._left is None:
            self._requests.expect_soon(now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost, and its book with it; with the last one the stream is stalled."""
        track = self._lines.get(line)
        if track is None:
            return
        track.up = False
        self._break(line, track, now_ns)
        if self._started and not self._stalled and not any(other.up for other in self._lines.values()):
            self._stalled = True
            self._outlet.emit_stalled(self.stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Go over to a standby that did not reach the state last given out; ask again for a snapshot."""
        if self._left is not None and now_ns >= self._left_since_ns + self._hold_back_ns():
            self._switch_late(now_ns)
        if self._requests.due_ns is not None and now_ns >= self._requests.due_ns:
            self._requests.ask(now_ns, "no snapshot came")

    def deadline_ns(self) -> Nanos | None:
        """When the wait for a state-equal point ends, or a snapshot is asked for again."""
        due = [self._requests.due_ns] if self._requests.due_ns is not None else []
        if self._left is not None:
            due.append(self._left_since_ns + self._hold_back_ns())
        return min(due) if due else None

    @property
    def is_holding(self) -> bool:
        """Nothing is held back."""
        return False

    def release(self) -> None:
        """Nothing is held back."""

    def validate(self) -> None:
        """Raise InvariantError where the inner state contradicts itself."""
        if self._lead is not None and (self._left is not None or not self._lines[self._lead].is_good):
            raise InvariantError(f"{self.stream}: follows {self._lead}, which is not good")
        if max(len(self._states), len(self._ids)) > STATES_REMEMBERED_MAX:
            raise InvariantError(f"{self.stream}: remembers too many states")
        for track in self._lines.values():
            track.book.validate()

    # Messages.

    def _receive_delta(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        track.counts.updates += 1
        track.up = True
        track.hear(now_ns)
        if not track.is_good or message.flags & Flag.UNAPPLIED:
            if self._lead is None and self._left is None:
                self._requests.expect(now_ns)
            self._record(line, track, message)
            return
        event = decode(message)
        assert isinstance(event, BookDelta)
        track.book.apply(event)
        self._compare_ids(line, track, message, now_ns)
        if line == self._lead:
            self._give(line, track, message)
            return
        track.counts.duplicates += 1
        if self._left is not None:
            self._switch(line)
        elif self._lead is not None and self._lines[self._lead].is_silent(now_ns):
            self._overtake(line)

    def _record(self, line: str, track: _Line, message: Message) -> None:
        """Without any book, the deltas of one line still go out, not to be applied."""
        if self._lead is not None or self._left is not None:
            track.counts.duplicates += 1
            return
        recorded = self._lines.get(self._recorded)
        if recorded is None or not recorded.up:
            self._recorded = line
        if self._recorded == line:
            self._outlet.messages.append(message.flagged(Flag.UNAPPLIED))

    def _receive_snapshot(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        event = decode(message)
        assert isinstance(event, BookSnapshot)
        was_good, track.is_good, track.up = track.is_good, True, True
        track.heard_ns = now_ns
        track.book.apply(event)
        if self._lead == line:
            self._give(line, track, message)
        elif self._lead is not None:
            track.counts.gaps_healed += not was_good and track.counts.gaps_seen > track.counts.gaps_healed
        elif self._left is not None:
            self._switch(line)
        elif not self._is_older(track.book):
            self._start(line, message, now_ns)
        else:
            self._requests.ask(now_ns, "the snapshot is older than the stream")

    def _give(self, line: str, track: _Line, message: Message) -> None:
        if message.kind is Kind.DELTA:
            self.counts.updates += 1
            track.counts.wins += 1
        else:
            self.counts.snapshots += 1
        self._emit(line, message)
        if not message.ts_venue_ns:
            self._remember_state(track.book)

    def _emit(self, line: str, message: Message) -> None:
        self._outlet.messages.append(message)
        self._recorded = line
        self._position = (message.epoch, message.id_last)
        self._ts_venue_ns = max(self._ts_venue_ns, message.ts_venue_ns)
        if self.counts.first_id is None:
            self.counts.first_id = message.id_last
        self.counts.last_id = message.id_last

    def _remember_state(self, book: L2Book) -> None:
        self._states.add(book.state_hash(), None)

    def _compare_ids(self, line: str, track: _Line, message: Message, now_ns: Nanos) -> None:
        """Where ids are the venue's own, two lines at one id must have one state."""
        if message.epoch or not message.state_hash:
            return
        first = self._ids.get(message.id_last)
        if first is None:
            self._ids.add(message.id_last, (message.state_hash, line, now_ns))
            return
        state_hash, earlier, at_ns = first
        if earlier != line:
            self._skew.record(now_ns - at_ns)
            if state_hash != message.state_hash:
                (track if line != self._lead else self._lines[earlier]).counts.disagreements += 1

    # Switching.

    def blame(self, now_ns: Nanos) -> None:
        """The book that goes out is wrong: leave the lead until its next snapshot, for a standby that is not so."""
        lead = self._lead
        if lead is not None:
            track = self._lines[lead]
            track.counts.disagreements += 1
            for line in self._good():
                other = self._lines[line]
                if line != lead and other.book.is_crossed():
                    other.is_good = False
            self._break(lead, track, now_ns)

    def _break(self, line: str, track: _Line, now_ns: Nanos) -> None:
        """The line's own book is of no use until its next snapshot."""
        was_good, track.is_good = track.is_good, False
        if self._lead == line:
            self._lead = None
            self._left, self._left_since_ns = track.book, now_ns
        if was_good and self._lead is None:
            track.book = L2Book(self.stream[0])
        if self._left is not None and self._lead is None:
            self._switch_any(now_ns)

    def _switch_any(self, now_ns: Nanos) -> None:
        """The lead has just been lost: go over to any good standby, at once if one is equal or ahead."""
        good = self._good()
        for line in sorted(good, key=lambda line: (self._distrust(line), -self._lines[line].book.ts_venue_ns)):
            if self._switch(line):
                return
        if not good:
            self._lose(now_ns)

    def _good(self) -> list[str]:
        """Give the lines whose own book is whole, those that contradicted others last."""
        return sorted((line for line, track in self._lines.items() if track.is_good), key=self._distrust)

    def _distrust(self, line: str) -> int:
        return self._lines[line].counts.disagreements

    def _switch(self, line: str) -> bool:
        """Go over to the line if its book equals the one last given out, or is ahead of it."""
        left = self._left
        assert left is not None
        book = self._lines[line].book
        difference = difference_of(left, book)
        if not any(difference) and not self._is_older(book):
            self._follow(line)
        elif self._is_ahead(book):
            self._splice(line, difference)
        else:
            return False
        return True

    def _is_older(self, book: L2Book) -> bool:
        return bool(book.ts_venue_ns) and book.ts_venue_ns < self._ts_venue_ns

    def _is_ahead(self, book: L2Book) -> bool:
        """Tell whether the book is a later state than the one last given out: by time, else because it is unknown."""
        if book.ts_venue_ns and self._ts_venue_ns:
            return book.ts_venue_ns > self._ts_venue_ns
        return book.state_hash() not in self._states

    def _overtake(self, line: str) -> None:
        """The lead is silent while others go on: leave it, as a standby, for one that is ahead of it."""
        assert self._lead is not None
        book = self._lines[line].book
        difference = difference_of(self._lines[self._lead].book, book)
        if any(difference) and self._is_ahead(book):
            self._splice(line, difference)

    def _follow(self, line: str) -> None:
        self._lead, self._left = line, None

    def _splice(self, line: str, difference: tuple[Levels, Levels]) -> None:
        book = self._lines[line].book
        delta = BookDelta(
            instrument=self.stream[0],
            id_prev=self._position[1] if self._position[0] == book.epoch else 0,
            id_last=book.id_last,
            bids=difference[0],
            asks=difference[1],
            price_scale=book.price_scale,
            size_scale=book.size_scale,
            ts_venue_ns=book.ts_venue_ns,
            ts_recv_ns=book.ts_recv_ns,
            epoch=book.epoch,
            flags=Flag.SPLICE,
        )
        self._follow(line)
        self.counts.updates += 1
        self._emit(line, parse(encode(delta, self._outlet.name)))
        if not book.ts_venue_ns:
            self._remember_state(book)

    def _hold_back_ns(self) -> Nanos:
        return hold_back_ns(self._skew, self._settings)

    def _switch_late(self, now_ns: Nanos) -> None:
        """No standby came to the state last given out in time: take one of the same time, else it is a gap."""
        left = self._left
        assert left is not None
        for line in self._good():
            track = self._lines[line]
            difference = difference_of(left, track.book)
            if not any(difference):
                self._follow(line)
                return
            if track.book.ts_venue_ns and not self._is_older(track.book):
                self._splice(line, difference)
                return
        self._lose(now_ns)

    def _lose(self, now_ns: Nanos) -> None:
        """No line is good: what comes now is not covered."""
        instrument, channel = self.stream
        self._left = None
        self.counts.gaps += 1
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=GapKind.VENUE,
            id_prev=self._position[1],
            id_last=0,
            cause="no line has a good book",
            lines=tuple(sorted(line for line, track in self._lines.items() if track.up)),
            ts_recv_ns=now_ns,
            epoch=self._position[0],
        )
        self._outlet.emit(gap)
        self._requests.ask(now_ns, "gap")

    def _start(self, line: str, snapshot: Message, now_ns: Nanos) -> None:
        """Start, or start again, from a line's book."""
        instrument, channel = self.stream
        again, self._started, self._stalled = self._started, True, False
        self._follow(line)
        self._requests.cancel()
        self._states.clear()
        self._give(line, self._lines[line], snapshot)
        if again:
            self.counts.resyncs += 1
            epoch, id_last = self._position
            resynced = Resynced(instrument=instrument, channel=channel, id_last=id_last, ts_recv_ns=now_ns, epoch=epoch)
            self._outlet.emit(resynced)
