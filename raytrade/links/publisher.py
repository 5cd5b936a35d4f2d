"""`Publisher`: the writing side of an actor: one ring, and a link for each reader.

A lane carries batches, see `Sent`. The publisher's methods are called by the owner's machine thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from raytrade.core.clock import SECOND, Nanos
from raytrade.core.instrument import Filter
from raytrade.core.message import Message
from raytrade.core.ring import MessageRing
from raytrade.links.conflating import ConflatingWriter
from raytrade.links.digest import DigestWriter
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.links.writer import LinkCounts, LinkSettings, LinkWriter

BATCHES_AT_ONCE_MAX = 16
"""Batches that a link behind may send before the next link has its turn."""

EPISODE_NS = 10 * SECOND
"""A reader that is too slow again within this time is so still: that is told once."""

Done = Callable[[str | None], None]


class Sent(Enum):
    """What became of a batch."""

    TAKEN = "taken"
    """It is on its way; `done` is not called."""
    PENDING = "pending"
    """`done` will be called from any thread: with None when it was taken, else with the problem."""
    FULL = "full"
    """The lane has no room now: the same batch must be offered again."""
    LOST = "lost"
    """The reader is gone."""


class Lane(Protocol):
    """Carries batches to one reader, in order. A local lane costs so little that its batches may follow closely."""

    name: str
    is_local: bool

    def send(self, data: bytes, done: Done) -> Sent:
        """Send a batch."""

    def close(self) -> None:
        """Let go of what the lane holds."""


class Publisher:
    """Keeps what an actor gives out, and sends it to whoever opened a link."""

    def __init__(
        self,
        writer_id: int,
        settings: LinkSettings,
        images: Callable[[Filter], list[Message]],
        wake: Callable[[int, str | None], None],
    ) -> None:
        """`wake(link, problem)` is called from any thread when a batch was taken; it must end in `sent`."""
        self.writer_id = writer_id
        self.ring = MessageRing(settings.ring_bytes_max, settings.ring_items_max)
        self._settings = settings
        self._images = images
        self._wake = wake
        self._links: dict[int, tuple[LinkWriter, Lane]] = {}
        self.episodes: dict[str, int] = {}
        """How often each reader began to be too slow."""
        self._slow_ns: dict[str, Nanos] = {}
        self._notes: list[str] = []
        self._refused: dict[str, str] = {}
        self._rests_at = -1
        """The ring's end when `due_ns` found no link that waits for its reader: until `_rests_until_ns`, or until the
        ring or the links change, there is nothing to do. -1: look at every link."""
        self._rests_until_ns: Nanos | None = None

    def append(self, messages: list[Message]) -> None:
        """Take what is to go out."""
        append = self.ring.append
        for message in messages:
            append(message)

    def open(self, wish: OpenLink, lane: Lane, now_ns: Nanos) -> None:
        """Open a link; an earlier one of the same reader is closed."""
        self._rests_at = -1
        for link, (writer, _) in list(self._links.items()):
            if writer.wish.reader == wish.reader:
                self._close(link)
        spacing_ns = max(wish.spacing_ns, 0 if lane.is_local else self._settings.spacing_ns)
        writer = _kind_of(wish)(wish, self.ring, self.writer_id, self._settings, spacing_ns)
        writer.open(self._images, now_ns)
        self._links[wish.link] = (writer, lane)
        self._refused.pop(wish.reader, None)
        self._hear(writer, now_ns)

    def refuse(self, reader: str, problem: str) -> None:
        """A wish of the reader was refused: said once for each reason, and in the status until one is granted."""
        if self._refused.get(reader) != problem:
            self._refused[reader] = problem
            self._notes.append(f"link for {reader} refused: {problem}")

    def _hear(self, writer: LinkWriter, now_ns: Nanos) -> None:
        """Report a reader that is too slow, once for as long as it goes on."""
        slow, writer.slow = writer.slow, ""
        if not slow:
            return
        reader = writer.wish.reader
        since_ns, self._slow_ns[reader] = self._slow_ns.get(reader), now_ns
        if since_ns is None or now_ns - since_ns > EPISODE_NS:
            self.episodes[reader] = self.episodes.get(reader, 0) + 1
            self._notes.append(slow)

    def notes(self) -> list[str]:
        """Drain what is to be logged: readers that were too slow, and wishes that were refused."""
        drained, self._notes = self._notes, []
        return drained

    def problems(self) -> dict[str, str]:
        """Give why readers were refused, of those that were not granted a link since."""
        return dict(self._refused)

    def sent(self, link: int, problem: str | None) -> None:
        """A batch of the link was taken, or its reader is gone (it will open anew when it is back)."""
        held = self._links.get(link)
        if held is None:
            return
        held[0].sent_done()
        if problem is not None or held[0].is_ended:
            self._close(link)

    def _close(self, link: int) -> None:
        self._rests_at = -1
        _, lane = self._links.pop(link)
        lane.close()

    def pump(self, now_ns: Nanos) -> None:
        """Send what is due."""
        if self._rests_at == self.ring.end and (self._rests_until_ns is None or now_ns < self._rests_until_ns):
            return
        self._rests_at = -1
        for link, (writer, lane) in list(self._links.items()):
            for _ in range(BATCHES_AT_ONCE_MAX):
                data = writer.cut(self._images, now_ns)
                if writer.slow:
                    self._hear(writer, now_ns)
                if data is None or not self._send(link, writer, lane, data, now_ns):
                    break

    def _send(self, link: int, writer: LinkWriter, lane: Lane, data: bytes, now_ns: Nanos) -> bool:
        """Send a batch; tells whether the lane may take another."""
        sent = lane.send(data, lambda problem: self._wake(link, problem))
        match sent:
            case Sent.TAKEN:
                writer.sent_done()
                if writer.is_ended:
                    self._close(link)
                    return False
            case Sent.FULL:
                writer.put_back(data, now_ns)
            case Sent.LOST:
                self._close(link)
        return sent is Sent.TAKEN or sent is Sent.PENDING

    def due_ns(self) -> Nanos | None:
        """When `pump` has something to do."""
        if self._rests_at == self.ring.end:
            return self._rests_until_ns
        due = [writer.due_ns() for writer, _ in self._links.values()]
        times = [at for at in due if at is not None]
        self._rests_until_ns = min(times) if times else None
        if len(times) == len(due):
            self._rests_at = self.ring.end
        return self._rests_until_ns

    def close(self) -> None:
        """Close all links."""
        for link in list(self._links):
            self._close(link)

    def statistics(self) -> dict[str, LinkCounts]:
        """Give the counts per reader."""
        return {writer.wish.reader: writer.statistics() for writer, _ in self._links.values()}

    def lanes(self) -> dict[str, str]:
        """Give the lane per reader."""
        return {writer.wish.reader: lane.name for writer, lane in self._links.values()}

    def is_drained(self) -> bool:
        """Tell whether every reader has taken everything."""
        return all(writer.is_drained() for writer, _ in self._links.values())


def _kind_of(wish: OpenLink) -> type[LinkWriter]:
    if wish.digest:
        return DigestWriter
    return ConflatingWriter if wish.policy is Policy.CONFLATE else LinkWriter
