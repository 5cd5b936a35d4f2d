"""One client connection as the feeds see it: messages in, faults applied, bytes out.

Invariant: what a link writes keeps the order in which it was posted, faults of order apart, and
never waits; a client that does not read is told apart by `backlog_bytes`. Called by the feeds
(`post`) and by the server (`poll`, `flush`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from websockets.protocol import State

from .dialect import Session, Topic
from .faults import FaultPlan
from .journal import DeliveryLog, Journal
from .message import Message

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


class Link:
    """The sending side of one connection; `number` counts connections from 1."""

    def __init__(self, connection: ServerConnection, number: int, session: Session, journal: Journal) -> None:
        self.number = number
        self.session = session
        self.topics: dict[Topic, None] = {}
        self.plan: FaultPlan | None = None
        self.is_ready = False
        self.counter = 0
        self.congested_s: float | None = None
        self._connection = connection
        self._journal = journal
        self._delivery: DeliveryLog = journal.add_connection(number, session.path)
        self._lagging: deque[tuple[float, Message]] = deque()
        self._outbox: list[bytes] = []
        self.held_bytes = 0
        self._now_s = 0.0
        self._is_cut = False

    @property
    def is_open(self) -> bool:
        """Tell whether the connection still takes frames."""
        return not self._is_cut and self._connection.protocol.state is State.OPEN

    @property
    def peer(self) -> str:
        """Address of the client, as the client itself knows it where nothing translates."""
        host, port = self._connection.remote_address[:2]
        return f"{host}:{port}"

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is held back by a fault."""
        return not self._lagging

    @property
    def backlog_bytes(self) -> int:
        """Count the bytes that the client has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    def post(self, message: Message) -> None:
        """Send a message, through the faults in force; a closed connection takes none."""
        if not self.is_open:
            return
        if message.tail is not None:
            message = message.number(self.counter)
            self.counter += 1
        if self.plan is None and not self._lagging:
            self._write(message)
        else:
            self._judge(message)

    def post_text(self, text: str, tail: str | None = None) -> None:
        """Send a control text."""
        end = None if tail is None else tail.encode()
        self.post(Message(text.encode(), tail=end))

    def poll(self, now_s: float) -> None:
        """Do what is due at `now_s`: cuts at a time, and the release of lagging messages."""
        self._now_s = now_s
        if self.plan is not None and self.plan.is_cut_due(now_s):
            self.cut("cut")
        while self._lagging and self._lagging[0][0] <= now_s:
            message = self._lagging.popleft()[1]
            self.held_bytes -= len(message.payload)
            self._write(message)

    def lift_faults(self) -> None:
        """End every fault; what they held back is due now."""
        if self.plan is not None:
            self.plan.clear()
        self._lagging = deque((0.0, message) for _, message in self._lagging)

    def release(self) -> None:
        """Send what is held for reordering, as the stream has ended."""
        if self.plan is not None:
            for message in self.plan.release():
                self._write(message)

    def flush(self) -> None:
        """Hand what was posted to the socket."""
        if not self._outbox:
            return
        if self.is_open:
            self._connection.transport.write(b"".join(self._outbox))
        self._outbox.clear()

    def cut(self, kind: str) -> None:
        """Close the TCP connection at once, without a closing handshake."""
        if not self.is_open:
            return
        self._journal.add_fault(kind, self.number)
        self._abort()

    def report(self, kind: str, symbol: str) -> None:
        """Journal a fault that touches a subscription, not a message."""
        self._journal.add_fault(kind, self.number, Message(b"", symbol))

    def _abort(self) -> None:
        self.flush()
        self._lagging.clear()
        self.held_bytes = 0
        self._is_cut = True
        self._connection.transport.abort()

    def _judge(self, message: Message) -> None:
        if self.plan is None:
            self._send_after(message, 0.0)
            return
        verdict = self.plan.judge(message, self._now_s)
        for kind in verdict.kinds:
            self._journal.add_fault(kind, self.number, message)
        if verdict.is_cut:
            self._abort()
            return
        for each in verdict.messages:
            self._send_after(each, verdict.delay_s)

    def _send_after(self, message: Message, delay_s: float) -> None:
        if not delay_s and not self._lagging:
            self._write(message)
            return
        release_s = self._now_s + delay_s
        if self._lagging:
            release_s = max(release_s, self._lagging[-1][0])
        self._lagging.append((release_s, message))
        self.held_bytes += len(message.payload)

    def _write(self, message: Message) -> None:
        self._outbox.append(message.encode())
        self._delivery.add(message)


def is_congested(links: list[Link], bytes_max: int) -> bool:
    """Tell whether a client has more than `bytes_max` waiting; it also dates the congestion."""
    now_s = asyncio.get_running_loop().time()
    found = False
    for link in links:
        if link.backlog_bytes <= bytes_max:
            link.congested_s = None
            continue
        found = True
        if link.congested_s is None:
            link.congested_s = now_s
    return found
