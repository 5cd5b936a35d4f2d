"""Trades with sparse or non-numeric ids: the first copy per trade id goes out, whatever line it comes from.

A bounded number of ids is remembered. Where ids are rising numbers, what was forgotten leaves a floor below
which everything counts as seen, because venues send their last trades again after a reconnect; what is below the
floor and yet newer than all before is of a venue that has restarted its ids. Ids with holes prove nothing, so
coverage is claimed by the lines' uptime alone: a time without any line is a gap.
"""

from __future__ import annotations

import msgspec

from raytrade.arbitration.stream import LineCounts, Outlet, StreamCounts, StreamKey
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Gap, GapKind, Resynced
from raytrade.core.message import Kind, Message, decode
from raytrade.core.recent import Recent
from raytrade.errors import InvariantError

REMEMBERED_MAX = 16_384
RESET_NS = SECOND
"""By how much a trade below the floor must be newer than all before to count as one of restarted ids."""


GAPS_NS = 10 * SECOND
"""Lines that leave something out within this time of each other may have left out the same."""


class TradeStream:
    """Arbiter of one instrument's trades."""

    def __init__(self, stream: StreamKey, outlet: Outlet) -> None:
        self.stream = stream
        self.counts = StreamCounts()
        self._outlet = outlet
        self._seen: Recent[bytes, tuple[Nanos, str, int]] = Recent(REMEMBERED_MAX)
        self._floor = 0
        self._ts_venue_ns: Nanos = 0
        self._up: dict[str, bool] = {}
        self._gaps: dict[str, Nanos] = {}
        self._stalled = False

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Give the trade out if it is new."""
        if message.kind is Kind.STALLED:
            self._up.setdefault(line, True)
            self.receive_line_down(line, now_ns)
            return
        self.receive_line_up(line, now_ns)
        if message.kind is Kind.GAP:
            self._receive_gap(line, message, now_ns)
        if message.kind is not Kind.TRADE:
            return
        counts = self.counts.line(line)
        counts.updates += 1
        trade_id = message.tail()
        first = self._seen.get(trade_id)
        if first is not None:
            self._receive_copy(line, counts, trade_id, first, now_ns)
        elif 0 < message.id_last <= self._floor and message.ts_venue_ns < self._ts_venue_ns + RESET_NS:
            counts.duplicates += 1
        else:
            self._accept(line, counts, trade_id, message, now_ns)

    def _receive_gap(self, line: str, message: Message, now_ns: Nanos) -> None:
        """A line says that it has left something out; when all lines that are up have, nobody may have brought it."""
        gap = decode(message)
        assert isinstance(gap, Gap)
        self._gaps[line] = now_ns
        up = [other for other, is_up in self._up.items() if is_up]
        if all(now_ns - self._gaps.get(other, now_ns - 2 * GAPS_NS) <= GAPS_NS for other in up):
            self._gaps.clear()
            self.counts.gaps += 1
            self.counts.resyncs += 1
            instrument, channel = self.stream
            self._outlet.emit(msgspec.structs.replace(gap, lines=tuple(sorted(up)), ts_recv_ns=now_ns))
            id_last = self.counts.last_id or 0
            resynced = Resynced(instrument=instrument, channel=channel, id_last=id_last, ts_recv_ns=now_ns)
            self._outlet.emit(resynced)

    def _accept(self, line: str, counts: LineCounts, trade_id: bytes, message: Message, now_ns: Nanos) -> None:
        if 0 < message.id_last <= self._floor:
            self._floor = 0
            self._seen.clear()
            self.counts.resets += 1
        self._ts_venue_ns = max(self._ts_venue_ns, message.ts_venue_ns)
        forgotten = self._seen.add(trade_id, (now_ns, line, message.id_last))
        if forgotten is not None:
            self._floor = max(self._floor, forgotten[2])
        counts.wins += 1
        self.counts.updates += 1
        if self.counts.first_id is None:
            self.counts.first_id = message.id_last
        self.counts.last_id = message.id_last
        self._outlet.messages.append(message)

    def _receive_copy(
        self, line: str, counts: LineCounts, trade_id: bytes, first: tuple[Nanos, str, int], now_ns: Nanos
    ) -> None:
        counts.duplicates += 1
        seen_ns, winner, sequence = first
        if winner and winner != line:
            self.counts.line(winner).lead.record(now_ns - seen_ns)
            self._seen[trade_id] = (seen_ns, "", sequence)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """Note that the line is there; what happened while none was is not known."""
        self._up[line] = True
        if not self._stalled:
            return
        self._stalled = False
        instrument, channel = self.stream
        id_last = self.counts.last_id or 0
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=GapKind.VENUE,
            id_prev=id_last,
            id_last=0,
            cause="no line was up",
            ts_recv_ns=now_ns,
        )
        self.counts.gaps += 1
        self.counts.resyncs += 1
        self._outlet.emit(gap)
        self._outlet.emit(Resynced(instrument=instrument, channel=channel, id_last=id_last, ts_recv_ns=now_ns))

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """With the last line the stream is stalled: trades without dense ids claim coverage by line uptime only."""
        if not self._up.get(line, False):
            return
        self._up[line] = False
        if not any(self._up.values()) and not self._stalled:
            self._stalled = True
            self._outlet.emit_stalled(self.stream, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Nothing is ever held."""

    def deadline_ns(self) -> Nanos | None:
        """Nothing is ever due."""
        return None

    @property
    def is_holding(self) -> bool:
        """Nothing is held back."""
        return False

    def release(self) -> None:
        """Nothing is held back."""

    def validate(self) -> None:
        """Raise InvariantError where the memory is over its bound."""
        if len(self._seen) > REMEMBERED_MAX:
            raise InvariantError(f"{self.stream}: remembers {len(self._seen)} trades")
