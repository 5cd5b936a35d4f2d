"""Lead arbitration: ids count per connection, or none are sent, so copies cannot be compared by id.

Where the messages carry the venue's checksum of the book they still merge message by message (`StateChain`);
else one line is followed and the others stand by with books of their own (`Standby`).
"""

from __future__ import annotations

from raytrade.arbitration.checked_book import CheckedBook
from raytrade.arbitration.standby import Standby
from raytrade.arbitration.state_chain import StateChain
from raytrade.arbitration.stream import ArbiterSettings, Outlet, StreamArbiter, StreamCounts, StreamKey, StreamRule
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import Nanos
from raytrade.core.events import Flag
from raytrade.core.message import Kind, Message

WINDOWED = frozenset({"kraken"})
"""Checksums of venues that send no deletion for levels that fall out of the depth subscribed."""

_NEED_NO_CHECKSUM = Flag.CHECKED | Flag.SPLICE | Flag.IMAGE


class LeadStream:
    """Arbiter of one book without ids that all lines share.

    A venue may stop sending its checksum: with the first message without one the stream goes over to a lead line.
    """

    def __init__(self, stream: StreamKey, rule: StreamRule, outlet: Outlet, settings: ArbiterSettings) -> None:
        self.stream = stream
        self._outlet = outlet
        self._settings = settings
        self._snapshots: dict[str, Message] = {}
        self._up: dict[str, bool] = {}
        checksum = CHECKSUMS.get(rule.checksum)
        self._is_proved = checksum is not None
        self._part: StreamArbiter
        if checksum is None:
            self._part = Standby(stream, outlet, settings)
        else:
            book = CheckedBook(stream[0], checksum, rule.checksum in WINDOWED)
            self._part = StateChain(stream, rule, outlet, settings, book)

    @property
    def counts(self) -> StreamCounts:
        """What the stream gave so far."""
        return self._part.counts

    @counts.setter
    def counts(self, counts: StreamCounts) -> None:
        self._part.counts = counts

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message from `line`."""
        if self._is_proved:
            if message.kind in (Kind.SNAPSHOT, Kind.DELTA) and not message.flags & _NEED_NO_CHECKSUM:
                self._follow_one_line(now_ns)
            elif message.kind is Kind.SNAPSHOT:
                self._snapshots[line] = message
        self._part.receive(line, message, now_ns)

    def _follow_one_line(self, now_ns: Nanos) -> None:
        self._is_proved = False
        part = Standby(self.stream, self._outlet, self._settings, is_resumed=self.counts.snapshots > 0)
        part.counts = self._part.counts
        self._part = part
        for line, snapshot in self._snapshots.items():
            part.receive(line, snapshot, now_ns)
            if not self._up.get(line, True):
                part.receive_line_down(line, now_ns)
        self._snapshots.clear()

    def blame(self, now_ns: Nanos) -> None:
        """The book is wrong; one that the venue's checksums prove is as the venue has it."""
        if isinstance(self._part, Standby):
            self._part.blame(now_ns)

    def receive_line_up(self, line: str, now_ns: Nanos) -> None:
        """A line that may carry the stream is connected."""
        self._up[line] = True
        self._part.receive_line_up(line, now_ns)

    def receive_line_down(self, line: str, now_ns: Nanos) -> None:
        """A line is lost."""
        self._up[line] = False
        self._part.receive_line_down(line, now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed."""
        self._part.receive_timeout(now_ns)

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due."""
        return self._part.deadline_ns()

    @property
    def is_holding(self) -> bool:
        """Tell whether messages are held back that may still go out."""
        return self._part.is_holding

    def release(self) -> None:
        """Give out what is held back, not to be applied: the recording ends."""
        self._part.release()

    def validate(self) -> None:
        """Raise InvariantError where the inner state contradicts itself."""
        self._part.validate()
