"""`LinkReader`: the reading end of a link: order, loss and silence, by `(link, index)` and heartbeats."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.message import SCHEMA_VERSION, Message
from raytrade.core.metrics import Histogram
from raytrade.links.batch import SAMPLED_EVERY, decode_batch
from raytrade.links.opening import NOWHERE, OpenLink


class ReaderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in nanoseconds: when a silent writer counts as lost, and how often opening is tried again."""

    silence_ns_max: Nanos = SECOND
    retry_ns: Nanos = 500 * MILLISECOND


class ReaderCounts(msgspec.Struct):
    """What came over the link, over all its openings."""

    batches: int = 0
    messages: int = 0
    openings: int = 0
    foreign: int = 0
    malformed: int = 0
    refused: str = ""
    """What was wrong with the last batch that was refused."""
    repeated: int = 0
    out_of_order: int = 0
    transit: Histogram = msgspec.field(default_factory=Histogram)
    """Sampled: from the cut of a batch by the writer until it was taken here; two hosts' clocks in one figure."""


class LinkReader:
    """Follows one writer. Openings are numbered from `first_link` on, and no number is used again."""

    def __init__(
        self,
        writer: str,
        first_link: int,
        settings: ReaderSettings | None = None,
        check: Callable[[list[Message]], None] = lambda _messages: None,
    ) -> None:
        """`check` raises MalformedBatch for messages that the owner cannot take; nothing of the batch is taken then."""
        self.writer = writer
        self.counts = ReaderCounts()
        self.is_up = False
        self.closed = ""
        """Why the writer has ended the link for good; empty while it has not."""
        self.is_resumed = False
        """Whether the link goes on exactly where its last opening ended."""
        self._settings = settings or ReaderSettings()
        self._check = check
        self._link = first_link
        self._expected = 0
        self._writer_id = 0
        self._next_index = NOWHERE
        self._is_fresh = False
        self._fresh: set[str] = set()
        self._asked: set[str] = set()
        self._heard_ns: Nanos = 0
        self._retry_ns: Nanos = 0
        self._resumes_at = 0
        self._refused_at: tuple[int, int] | None = None

    def wish(self, reader: str, template: OpenLink, now_ns: Nanos) -> OpenLink:
        """Give the wish for a new opening; what an earlier opening still sends is foreign from now on."""
        self._link += 1
        self._expected = 0
        self._retry_ns = now_ns + self._settings.retry_ns
        self._asked = set(self._fresh)
        self.is_resumed = False
        self._resumes_at = self._writer_id if self._next_index != NOWHERE else 0
        self.counts.openings += 1
        return msgspec.structs.replace(
            template,
            schema=SCHEMA_VERSION,
            link=self._link,
            reader=reader,
            writer=self._writer_id,
            next_index=self._next_index,
            positions={} if self._is_fresh else template.positions,
            fresh=tuple(sorted(self._fresh)),
        )

    def opened(self, writer_id: int, now_ns: Nanos) -> None:
        """The writer has taken the wish."""
        self.is_resumed = writer_id == self._resumes_at
        self._writer_id = writer_id
        self._heard_ns = now_ns
        self._retry_ns = now_ns + 2 * self._settings.silence_ns_max
        self._fresh -= self._asked

    def receive(self, data: bytes, now_ns: Nanos) -> list[Message] | None:
        """Take a batch; None if it does not belong here or breaks the order (then the link must be opened anew).

        Raises:
            MalformedBatch, VersionSkew: the bytes are none of ours.
        """
        header, messages = decode_batch(data)
        if header.link != self._link:
            self.counts.foreign += 1
            return None
        if header.index < self._expected:
            self.counts.repeated += 1
            return None
        if header.index > self._expected:
            self.counts.out_of_order += 1
            self.is_up = False
            return None
        self._check(messages)
        self._expected += 1
        if header.closing:
            self.is_up, self.closed = False, header.closing
            return None
        self._next_index = header.next_index
        self._heard_ns = now_ns
        self.is_up = True
        self._is_fresh = False
        self.counts.batches += 1
        self.counts.messages += len(messages)
        if messages and header.index % SAMPLED_EVERY == 0:
            self.counts.transit.record(now_ns - header.ts_sent_ns)
        return messages

    def must_open(self, now_ns: Nanos) -> bool:
        """Tell whether to try (again) to open the link."""
        if self.is_up and now_ns - self._heard_ns > self._settings.silence_ns_max:
            self.is_up = False
        return not self.closed and (not self.is_up or bool(self._fresh)) and now_ns >= self._retry_ns

    def excuse(self, duration_ns: Nanos, now_ns: Nanos) -> None:
        """The reader itself was busy or stopped that long: the writer was not silent meanwhile, nobody listened."""
        self._heard_ns = min(self._heard_ns + duration_ns, now_ns)

    def refresh(self, instruments: set[str]) -> None:
        """Ask for images of these instruments by opening anew; the link goes on where it was and is not lost."""
        self._fresh |= instruments
        self._retry_ns = 0

    def forget(self) -> None:
        """Open anew from images, whatever was received so far; what the link still brings is foreign from now on."""
        self._link += 1
        self.is_up = False
        self._is_fresh = True
        self._next_index = NOWHERE
        self._retry_ns = 0

    def start_over(self) -> None:
        """Open anew, by the owner's positions and not where this link was; what it still brings is foreign."""
        self._link += 1
        self.is_up = False
        self._next_index = NOWHERE
        self._retry_ns = 0

    def lost(self) -> None:
        """The writer is known to be gone."""
        self.is_up = False

    def refuse(self, now_ns: Nanos) -> None:
        """A batch made no sense: open again where it was, and from images if what is there makes no sense again."""
        self.counts.malformed += 1
        is_again, self._refused_at = self._refused_at == (self._writer_id, self._next_index), None
        if is_again:
            self.forget()
        else:
            self._refused_at = (self._writer_id, self._next_index)
            self.is_up = False
        self._retry_ns = now_ns + self._settings.retry_ns
