"""`Publisher`: the writing side of an actor: one ring, and a link for each reader.

A lane carries batches; it is given a batch and a function to call when the batch was taken (with None) or could
not be delivered (with the reason). The publisher's methods are called by the owner's machine thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raytrade.core.clock import Nanos
from raytrade.core.instrument import Filter
from raytrade.core.message import Message
from raytrade.core.ring import MessageRing
from raytrade.links.writer import LinkCounts, LinkSettings, LinkWriter, OpenLink

Done = Callable[[str | None], None]


class Lane(Protocol):
    """Carries batches to one reader, in order."""

    name: str

    def send(self, data: bytes, done: Done) -> None:
        """Send a batch; `done` is called from any thread."""

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

    def append(self, messages: list[Message]) -> None:
        """Take what is to go out."""
        append = self.ring.append
        for message in messages:
            append(message)

    def open(self, wish: OpenLink, lane: Lane, now_ns: Nanos) -> None:
        """Open a link; an earlier one of the same reader is closed."""
        for link, (writer, _) in list(self._links.items()):
            if writer.wish.reader == wish.reader:
                self._close(link)
        writer = LinkWriter(wish, self.ring, self.writer_id, self._settings)
        writer.open(self._images, now_ns)
        self._links[wish.link] = (writer, lane)

    def sent(self, link: int, problem: str | None) -> None:
        """A batch of the link was taken, or its reader is gone (it will open anew when it is back)."""
        held = self._links.get(link)
        if held is None:
            return
        if problem is not None:
            self._close(link)
        else:
            held[0].sent_done()

    def _close(self, link: int) -> None:
        _, lane = self._links.pop(link)
        lane.close()

    def pump(self, now_ns: Nanos) -> None:
        """Send what is due."""
        for link, (writer, lane) in list(self._links.items()):
            data = writer.cut(self._images, now_ns)
            if data is not None:
                lane.send(data, lambda problem, link=link: self._wake(link, problem))  # type: ignore[misc]

    def due_ns(self) -> Nanos | None:
        """When `pump` has something to do."""
        due = [at for at in (writer.due_ns() for writer, _ in self._links.values()) if at is not None]
        return min(due) if due else None

    def close(self) -> None:
        """Close all links."""
        for link in list(self._links):
            self._close(link)

    def statistics(self) -> dict[str, LinkCounts]:
        """Give the counts per reader."""
        return {writer.wish.reader: writer.counts for writer, _ in self._links.values()}

    def lanes(self) -> dict[str, str]:
        """Give the lane per reader."""
        return {writer.wish.reader: lane.name for writer, lane in self._links.values()}

    def is_drained(self) -> bool:
        """Tell whether every reader has taken everything."""
        return all(writer.is_drained() for writer, _ in self._links.values())
