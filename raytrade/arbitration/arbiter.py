"""`Arbiter`: N lines in, one stream out per (instrument, channel); and its output is a line again.

The first good copy of each message wins and goes out with its bytes unchanged. The owner feeds `receive`,
calls `receive_timeout` when `deadline_ns` has come, and drains `output` and `commands` after each.
"""

from __future__ import annotations

import msgspec

from raytrade.arbitration.chain import ChainStream
from raytrade.arbitration.guarded_chain import GuardedChain
from raytrade.arbitration.lead import LeadStream
from raytrade.arbitration.newest import NewestStream
from raytrade.arbitration.stream import (
    ArbiterSettings,
    LineCounts,
    Outlet,
    Rule,
    RuleBook,
    SnapshotWanted,
    StreamArbiter,
    StreamCounts,
    StreamKey,
)
from raytrade.arbitration.trades import TradeStream
from raytrade.arbitration.words import LineWords
from raytrade.core.clock import Nanos
from raytrade.core.events import Held
from raytrade.core.members import HELD, LINE_DOWN, LINE_UP
from raytrade.core.message import Message

DEFAULT_SETTINGS = ArbiterSettings()


class Arbiter:
    """Merges the copies that any number of lines deliver of any number of streams."""

    def __init__(self, name: str, rules: RuleBook, settings: ArbiterSettings = DEFAULT_SETTINGS) -> None:
        self.name = name
        self._rules = rules
        self._settings = settings
        self._outlet = Outlet(name)
        self._streams: dict[StreamKey, StreamArbiter] = {}
        self._timers: dict[StreamKey, Nanos] = {}
        self._words = LineWords()
        self._holds: dict[StreamKey, _Hold] = {}

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message from `line`; word of some other line (from behind an arbiter) is passed on once."""
        kind = message.kind
        if kind is LINE_UP or kind is LINE_DOWN:
            self._receive_line(line, message, now_ns)
            return
        if kind is HELD:
            if self._settings.held_ns:
                self._outlet.messages.append(message)
            return
        key = (message.instrument, message.channel)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._open(key)
        stream.receive(line, message, now_ns)
        self._watch(key, stream, now_ns)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line of this arbiter is connected."""
        for key, stream in self._streams.items():
            stream.receive_line_up(line, now_ns)
            self._watch(key, stream, now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line of this arbiter is lost, and with it what it said of lines behind it."""
        self._end_line(line, now_ns)
        self._outlet.messages += self._words.lose(line)

    def _end_line(self, line: str, now_ns: Nanos) -> None:
        for key, stream in self._streams.items():
            stream.receive_line_down(line, now_ns)
            self._watch(key, stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed."""
        for key in [key for key, due_ns in self._timers.items() if due_ns <= now_ns]:
            stream = self._streams[key]
            due_ns = stream.deadline_ns()
            if due_ns is not None and due_ns <= now_ns:
                stream.receive_timeout(now_ns)
            self._watch(key, stream, now_ns)

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due."""
        return min(self._timers.values()) if self._timers else None

    def output(self) -> list[Message]:
        """Drain the merged stream."""
        drained, self._outlet.messages = self._outlet.messages, []
        return drained

    def commands(self) -> list[SnapshotWanted]:
        """Drain the requests for snapshots."""
        drained, self._outlet.commands = self._outlet.commands, []
        return drained

    def statistics(self) -> dict[StreamKey, StreamCounts]:
        """Give the counts per stream; a live view."""
        return {key: stream.counts for key, stream in self._streams.items()}

    def alarms(self, now_ns: Nanos) -> dict[str, str]:
        """Give what is wrong with instruments that needed a fresh book again and again, until they are calm."""
        calm_ns = now_ns - self._settings.calm_ns
        alarms: dict[str, str] = {}
        for (instrument, _), stream in self._streams.items():
            counts = stream.counts
            if counts.in_force:
                alarms[instrument] = f"merged as {counts.in_force}"
            if counts.alarm and counts.asked_ns > calm_ns:
                alarms[instrument] = counts.alarm
        return alarms

    def blame(self, message: Message, cause: str, now_ns: Nanos) -> None:
        """A book is wrong since this message of it went out: whoever gave it is left, and the book is proved anew.

        Where each message is proved by itself (a checksum, a whole book) that is the venue's own book, and left alone.
        """
        stream = self._streams.get(message.stream)
        if isinstance(stream, GuardedChain):
            stream.blame(message, cause, now_ns)
        elif isinstance(stream, LeadStream):
            stream.blame(now_ns)
        if stream is not None:
            self._watch(message.stream, stream, now_ns)

    def is_holding(self) -> bool:
        """Tell whether any stream holds messages back that may still go out."""
        return any(stream.is_holding for stream in self._streams.values())

    def release(self) -> None:
        """Give out what is held back, flagged `UNAPPLIED`: nothing more will come."""
        for stream in self._streams.values():
            stream.release()

    def validate(self) -> None:
        """Raise InvariantError where a stream's inner state contradicts itself."""
        for stream in self._streams.values():
            stream.validate()

    def _receive_line(self, line: str, message: Message, now_ns: Nanos) -> None:
        is_up = message.kind is LINE_UP
        if message.line == line:
            (self.receive_line_up if is_up else self._end_line)(line, now_ns)
        news = self._words.hear(line, message)
        if news is not None:
            self._outlet.messages.append(news)

    def _open(self, key: StreamKey) -> StreamArbiter:
        rule = self._rules(*key)
        stream: StreamArbiter
        match rule.rule:
            case Rule.LOOSE | Rule.STRICT:
                stream = GuardedChain(key, rule, self._outlet, self._settings)
            case Rule.DENSE:
                stream = ChainStream(key, rule, self._outlet, self._settings)
            case Rule.LEAD:
                stream = LeadStream(key, rule, self._outlet, self._settings)
            case Rule.NEWEST:
                stream = NewestStream(key, self._outlet, self._settings)
            case Rule.TRADE:
                stream = TradeStream(key, self._outlet)
        self._streams[key] = stream
        return stream

    def _watch(self, key: StreamKey, stream: StreamArbiter, now_ns: Nanos) -> None:
        due_ns = stream.deadline_ns()
        if self._settings.held_ns and (stream.is_holding or (self._holds and key in self._holds)):
            hold_ns = self._watch_hold(key, stream, now_ns)
            due_ns = hold_ns if due_ns is None else min(due_ns, hold_ns or due_ns)
        if due_ns is not None:
            self._timers[key] = due_ns
        elif self._timers and key in self._timers:
            del self._timers[key]

    def _watch_hold(self, key: StreamKey, stream: StreamArbiter, now_ns: Nanos) -> Nanos | None:
        """Tell of what is held back for too long, once; gives when that will be."""
        if not stream.is_holding:
            self._holds.pop(key, None)
            return None
        last_id = stream.counts.last_id or 0
        hold = self._holds.get(key)
        if hold is None or hold.last_id != last_id:
            hold = self._holds[key] = _Hold(now_ns + self._settings.held_ns, last_id)
        if hold.is_told:
            return None
        if now_ns < hold.due_ns:
            return hold.due_ns
        hold.is_told = True
        self._outlet.emit(Held(instrument=key[0], channel=key[1], id_last=last_id, ts_recv_ns=now_ns))
        return None


class _Hold(msgspec.Struct):
    """Something is held back behind `last_id`; when to tell."""

    due_ns: Nanos
    last_id: int
    is_told: bool = False


def line_totals(streams: dict[StreamKey, StreamCounts]) -> dict[str, LineCounts]:
    """Add up the counts of each line over the given streams."""
    totals: dict[str, LineCounts] = {}
    for counts in streams.values():
        for line, part in counts.lines.items():
            total = totals.setdefault(line, LineCounts())
            total.updates += part.updates
            total.wins += part.wins
            total.duplicates += part.duplicates
            total.gaps_seen += part.gaps_seen
            total.gaps_healed += part.gaps_healed
            total.disagreements += part.disagreements
            total.lead.merge(part.lead)
    return totals
