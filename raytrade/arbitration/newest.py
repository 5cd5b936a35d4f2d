"""Newest-wins arbitration: every message is the whole book, so a lost one costs freshness and nothing else."""

from __future__ import annotations

from raytrade.arbitration.stream import ArbiterSettings, Outlet, SnapshotRequests, StreamCounts, StreamKey
from raytrade.core.clock import Nanos
from raytrade.core.events import Resynced
from raytrade.core.message import Kind, Message


class NewestStream:
    """Arbiter of one stream of whole books: a book goes out if its venue time (then its id) is newer."""

    def __init__(self, stream: StreamKey, outlet: Outlet, settings: ArbiterSettings) -> None:
        self.stream = stream
        self.counts = StreamCounts()
        self._outlet = outlet
        self._newest: tuple[Nanos, int] = (-1, -1)
        self._up: dict[str, bool] = {}
        self._stalled = False
        self._requests = SnapshotRequests(stream[0], outlet, settings, self.counts)

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Give the book out if it is newer than all before."""
        self._up.setdefault(line, True)
        if message.kind is Kind.STALLED:
            self.receive_line_down(line, now_ns)
        elif message.kind is Kind.RESYNCED:
            self.receive_line_up(line, now_ns)
        if message.kind is not Kind.SNAPSHOT:
            return
        self._up[line] = True
        counts = self.counts.line(line)
        counts.updates += 1
        age = (message.ts_venue_ns, message.id_last)
        if age <= self._newest:
            counts.duplicates += 1
            if age == self._newest:
                self._prove(message, now_ns)
            return
        self._newest = age
        counts.wins += 1
        self.counts.updates += 1
        self.counts.snapshots += 1
        if self.counts.first_id is None:
            self.counts.first_id = message.id_last
        self.counts.last_id = message.id_last
        self._outlet.messages.append(message)
        self._prove(message, now_ns)

    def _prove(self, message: Message, now_ns: Nanos) -> None:
        """The book that was given out last is the newest one still, or again."""
        if self._stalled:
            self._stalled = False
            self._requests.cancel()
            self._resync(message, now_ns)

    def _resync(self, message: Message, now_ns: Nanos) -> None:
        instrument, channel = self.stream
        self.counts.resyncs += 1
        resynced = Resynced(
            instrument=instrument,
            channel=channel,
            id_last=message.id_last,
            ts_recv_ns=now_ns,
            epoch=message.epoch,
        )
        self._outlet.emit(resynced)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """Note that the line is there; its next book makes the stream whole again, and should come soon."""
        self._up[line] = True
        if self._stalled:
            self._requests.expect_soon(now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """With the last line the stream is stalled."""
        if not self._up.get(line, False):
            return
        self._up[line] = False
        if not any(self._up.values()) and not self._stalled:
            self._stalled = True
            self._outlet.emit_stalled(self.stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Ask for a book that did not come."""
        if self._requests.due_ns is not None and now_ns >= self._requests.due_ns:
            self._requests.ask(now_ns, "no snapshot came")

    def deadline_ns(self) -> Nanos | None:
        """When a book is asked for."""
        return self._requests.due_ns

    @property
    def is_holding(self) -> bool:
        """Nothing is held back."""
        return False

    def release(self) -> None:
        """Nothing is held back."""

    def validate(self) -> None:
        """There is nothing to contradict."""
