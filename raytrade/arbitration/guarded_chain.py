"""`GuardedChain`: a chain whose lines are held against each other, and which can be doubted.

What a demoted line says is compared and not given out. If something of it may have gone out already, the stream says so
with a `Gap` of kind `DOUBT`, which names no ids because none is missing, and waits for a book; every arbiter behind it
does the same on hearing it, whatever other lines say, since nobody there can tell whose copy it took.
"""

from __future__ import annotations

from collections import deque

from raytrade.arbitration.chain import ChainStream
from raytrade.arbitration.guard import Guard, Verdict
from raytrade.arbitration.stream import ArbiterSettings, Outlet, SnapshotWanted, StreamKey, StreamRule
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Flag, Gap, GapKind
from raytrade.core.message import Kind, Message, decode

IMAGES_REFUSED_NS = 5 * SECOND
"""How long after a dispute that nothing could decide a line's own book is not taken, but only the venue's."""
MEND_NS, MEND_NS_MAX = SECOND, 64 * SECOND
"""Between requests for a new book of a line that has been demoted, where books come in band."""
REFUSED_BYTES_MAX = 256 * 1024
"""How much of what suspects say is kept, in case they turn out to have been right."""


class GuardedChain(ChainStream):
    """Arbiter of one book with global ids. Without `settings.guard` it only hears the doubts of those before it."""

    def __init__(self, stream: StreamKey, rule: StreamRule, outlet: Outlet, settings: ArbiterSettings) -> None:
        super().__init__(stream, rule, outlet, settings)
        self._guard = Guard(self.counts, is_loose=self._loose) if settings.guard else None
        self._changes = 0
        self._disputed_ns: Nanos = -IMAGES_REFUSED_NS
        self._refused: deque[tuple[str, Message]] = deque()
        self._refused_bytes = 0
        self._mending: dict[str, tuple[Nanos, Nanos]] = {}
        self._mended_ns: Nanos = 0

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one copy from `line`."""
        guard, kind = self._guard, message.kind
        if kind is Kind.GAP:
            self._hear_gap(line, message, now_ns)
        elif guard is not None:
            if kind is Kind.DELTA:
                self._see(guard, line, message, now_ns)
            elif kind is Kind.SNAPSHOT:
                if not message.flags & Flag.IMAGE:
                    self._judge(message, now_ns)
                    guard.spoilt.discard(line)
                elif line in guard.spoilt:
                    return
            if guard.demoted and self._is_refused(line, message, now_ns):
                return
        super().receive(line, message, now_ns)

    def _see(self, guard: Guard, line: str, delta: Message, now_ns: Nanos) -> None:
        """Hold an update against what others say."""
        if guard.spoilt and self._rule.in_band and line in guard.spoilt:
            self._mend(line, now_ns)
        if self._refused and not guard.suspects():
            self._forget_refused()
        guard.see(line, delta, now_ns)
        if guard.disputes or guard.undecided or guard.changes != self._changes:
            self._settle(now_ns)

    def _hear_gap(self, line: str, message: Message, now_ns: Nanos) -> None:
        gap = decode(message)
        if isinstance(gap, Gap) and gap.kind is GapKind.DOUBT:
            self._lines.of(line)
            self.doubt(gap.cause, now_ns)

    def doubt(self, cause: str, now_ns: Nanos) -> None:
        """What was given out may be wrong: say so, and start again from a book."""
        self._ahead = None
        self._hole.close()
        if not self._synced:
            if self._gap_open:
                self._requests.ask(now_ns, "lines contradict each other")
            return
        self._emit_gap(GapKind.DOUBT, 0, cause, now_ns)
        self._synced = False
        self._requests.ask(now_ns, "lines contradict each other")

    # What the guard finds.

    def _settle(self, now_ns: Nanos) -> None:
        guard = self._guard
        assert guard is not None
        if guard.disputes:
            for verdict in guard.decide(list(self._lines.up()), now_ns):
                self._apply(verdict, now_ns)
        if guard.undecided and self._synced and guard.wants_book(now_ns):
            self._outlet.commands.append(SnapshotWanted(self.stream[0], "lines contradict each other"))
            self.counts.asked += 1
        self._tell_class()

    def _judge(self, snapshot: Message, now_ns: Nanos) -> None:
        guard = self._guard
        assert guard is not None
        if not guard.undecided:
            return
        before = list(guard.demoted)
        verdict = guard.judge(snapshot)
        if verdict is not None:
            for line in before:
                self.receive_line_up(line, now_ns)
            self._apply(verdict, now_ns)
            self._tell_class()
            self._hold_refused()

    def _keep_refused(self, line: str, message: Message) -> None:
        """A suspect may have been right."""
        guard = self._guard
        assert guard is not None
        if not guard.demoted[line].is_proved:
            self._refused.append((line, message))
            self._refused_bytes += len(message.raw)
            while self._refused_bytes > REFUSED_BYTES_MAX:
                self._refused_bytes -= len(self._refused.popleft()[1].raw)

    def _forget_refused(self) -> None:
        self._refused.clear()
        self._refused_bytes = 0

    def _hold_refused(self) -> None:
        """What a line said while it was suspect, and wrongly so, is as good as that of any other."""
        guard = self._guard
        assert guard is not None
        refused = list(self._refused)
        self._forget_refused()
        for line, message in refused:
            if line in guard.demoted:
                self._keep_refused(line, message)
            elif not self._synced and message.id_last > (self._emitted or 0):
                self._held.insert(line, message)

    def _apply(self, verdict: Verdict, now_ns: Nanos) -> None:
        """Leave out the lines that are demoted; what they have given already is doubted."""
        guard = self._guard
        assert guard is not None
        if not verdict.cause:
            return
        if not verdict.is_proved:
            self._disputed_ns = now_ns
        self._purge(now_ns)
        for line in verdict.lines:
            super().receive_line_down(line, now_ns)
        if guard.may_have_given(verdict.parties or verdict.lines):
            self.doubt(f"{' and '.join(verdict.lines)}: {verdict.cause}", now_ns)

    def blame(self, message: Message, cause: str, now_ns: Nanos) -> None:
        """The book is wrong: doubt it, and demote whose message made it so, if no other line said the same.

        The book that each line carries may be as wrong as this one, until the venue sends it a new one.
        """
        guard, up = self._guard, self._lines.up()
        if guard is not None:
            guard.spoilt.update(self.counts.lines)
        if guard is not None and message.line in up and len(up) > 1 and not guard.is_agreed(message.id_last):
            self._apply(guard.blame(message.line, cause), now_ns)
            self._tell_class()
        if self._synced:
            self.doubt(cause, now_ns)

    def _purge(self, now_ns: Nanos) -> None:
        """Of what is held back, take out what demoted lines alone have said."""
        guard = self._guard
        assert guard is not None
        held = [self._held.take(0) for _ in range(len(self._held))]
        for _, _, _, line, message in held:
            copy = guard.trusted_copy(message) if line in guard.demoted else message
            if copy is not None:
                self._held.insert(copy.line, copy)
            else:
                self._keep_refused(line, message)
        if self._ahead is not None and self._ahead[0] in guard.demoted:
            self._ahead = None
            if not self._synced:
                self._hole.close()
                self._requests.ask(now_ns, "lines contradict each other")
        if self._synced and not self._held and not self._proves_hole():
            self._hole.close()

    def _is_refused(self, line: str, message: Message, now_ns: Nanos) -> bool:
        guard = self._guard
        assert guard is not None
        if line in guard.demoted:
            if message.kind is Kind.DELTA:
                track = self._lines.of(line)
                track.counts.updates += 1
                track.follow(message, self.position if self._synced else None)
                self._keep_refused(line, message)
                return True
            is_rest = message.kind is Kind.SNAPSHOT and not message.flags & Flag.IMAGE and not self._rule.in_band
            return not is_rest or guard.demoted[line].is_proved
        is_image = message.kind is Kind.SNAPSHOT and message.flags & Flag.IMAGE
        is_young = now_ns < self._disputed_ns + IMAGES_REFUSED_NS
        return bool(is_image and is_young and any(line in dispute.claims for dispute in guard.undecided))

    def _mend(self, line: str, now_ns: Nanos) -> None:
        """Have the venue send a line its book anew: who begins later may begin with that.

        Ever less often, and one line after the other: a line may miss something meanwhile.
        """
        due_ns, wait_ns = self._mending.get(line, (now_ns, MEND_NS))
        if now_ns >= max(due_ns, self._mended_ns + MEND_NS):
            self._mended_ns = now_ns
            self._mending[line] = (now_ns + wait_ns, min(2 * wait_ns, MEND_NS_MAX))
            self._outlet.commands.append(SnapshotWanted(self.stream[0], "its own book is wrong", line))

    def _tell_class(self) -> None:
        """Say which class is in force, if it is not the venue's own."""
        guard = self._guard
        assert guard is not None
        if guard.changes == self._changes:
            return
        self._changes = guard.changes
        left = sorted(self.counts.lines.keys() - guard.demoted.keys())
        whose = "; ".join(f"{line} demoted: {demotion.why}" for line, demotion in sorted(guard.demoted.items()))
        followed = f"lead, follows {left[0]}" if len(left) == 1 else f"{self._rule.rule.value}, {len(left)} lines"
        self.counts.in_force = f"{followed} ({whose})" if whose else ""

    # What the chain does, noted for the guard.

    def _accept(self, line: str, message: Message, now_ns: Nanos) -> None:
        super()._accept(line, message, now_ns)
        if self._guard is not None:
            self._guard.take(line, message.id_last)

    def _start_from(self, snapshot: Message, now_ns: Nanos) -> None:
        if self._guard is not None:
            self._guard.begin()
        super()._start_from(snapshot, now_ns)

    def _reset(self, now_ns: Nanos) -> None:
        self._forget_refused()
        if self._guard is not None:
            self._guard.forget()
        super()._reset(now_ns)

    # Lines and times.

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line is connected; a demoted one is not waited for, unless it is the only one and may be right."""
        guard = self._guard
        if guard is not None and line in guard.suspects() and not self._lines.is_any_up():
            guard.readmit(line)
            self._tell_class()
            self.doubt("only lines that contradict others are left", now_ns)
        if guard is None or line not in guard.demoted:
            super().receive_line_up(line, now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost; with the last one that is believed, those that are only suspect have to do."""
        super().receive_line_down(line, now_ns)
        guard = self._guard
        if guard is None:
            return
        guard.reconnect(line)
        if not (guard.demoted or guard.disputes or guard.changes != self._changes):
            return
        if not self._lines.is_any_up() and guard.suspects():
            for suspect in guard.suspects():
                guard.readmit(suspect)
            self.doubt("only lines that contradict others are left", now_ns)
        self._settle(now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Decide what has waited long enough; see `ChainStream`."""
        if self._guard is not None and self._guard.disputes:
            self._settle(now_ns)
        super().receive_timeout(now_ns)

    def deadline_ns(self) -> Nanos | None:
        """When a dispute is decided, a hole is given up, or a snapshot asked for again."""
        due_ns = super().deadline_ns()
        if self._guard is None or not self._guard.disputes:
            return due_ns
        decided_ns = self._guard.deadline_ns()
        return decided_ns if due_ns is None else min(due_ns, decided_ns or due_ns)
