"""What machines share whose book is followed on one line and not merged (class lead).

`LeadMachine` numbers a symbol's messages where the venue does not, keeps their chain, and verifies the
venue's checksum on a book of its own. On a break it emits one `Gap` and asks for a fresh book until one
comes; deltas go on meanwhile. A machine decodes a whole frame before it hands over the first `Reading`: a
bad frame changes nothing.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Gap, GapKind, Levels, Trade
from raytrade.venues.protocol import Endpoint, SendFrame, VenueMachine

RESUBSCRIBE_NS_MIN = 5 * SECOND
RESUBSCRIBE_NS_MAX = 60 * SECOND
_CHECKED = int(Flag.CHECKED)


class Reading(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One book message, decoded and not yet taken in; without `id_last` the messages are counted."""

    symbol: str
    instrument: str
    is_snapshot: bool
    bids: Levels
    asks: Levels
    price_scale: int
    size_scale: int
    ts_venue_ns: Nanos
    epoch: int
    id_prev: int = 0
    id_last: int | None = None
    checksum: int | None = None
    depth: int = 0


class BookStream(msgspec.Struct):
    """What one connection has told of one symbol's book; `live` from a good snapshot to the next break."""

    symbol: str
    id_last: int = 0
    epoch: int = 0
    live: bool = False
    book: L2Book | None = None
    asked_ns: Nanos = 0
    wait_ns: Nanos = 0


class LeadMachine(VenueMachine):
    """A line whose book messages stand in one chain of its own.

    A venue's class gives, besides what `VenueMachine` demands, `_resubscribe`.
    """

    survives_bad_frame: ClassVar[bool] = False
    checksum: ClassVar[str] = ""
    """Name in `CHECKSUMS`; a book is kept only where messages carry one."""
    chain: ClassVar[str] = ""
    """The venue's name for the id whose chain is checked; cause of the gaps it shows."""

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        super().__init__(venue, endpoint)
        self._streams: dict[str, BookStream] = {}
        self._due: dict[str, Nanos] = {}
        self._wanted = frozenset(self._subscribed(Channel.BOOK))

    def _resubscribe(self, symbol: str) -> list[str]:
        """Give the frames that end and renew the subscription of `symbol`'s book."""
        raise NotImplementedError(symbol)

    # What the owner calls.

    def receive_open(self, now_ns: Nanos) -> None:
        """The connection is open; what the last one told is void."""
        self._streams = {}
        self._due = {}
        super().receive_open(now_ns)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Besides the common duties, ask again for books that have not come."""
        super().receive_timeout(now_ns)
        for symbol in [symbol for symbol, due_ns in self._due.items() if now_ns >= due_ns]:
            self.request_snapshot(symbol, now_ns)

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due; None while closed."""
        deadline_ns = super().deadline_ns()
        if deadline_ns is None or not self._due:
            return deadline_ns
        return min(deadline_ns, *self._due.values())

    def request_snapshot(self, symbol: str, now_ns: Nanos) -> None:
        """Subscribe anew, now or as soon as the pause since the last time is over, until a book comes."""
        if not self._open or symbol not in self._wanted:
            return
        stream = self._stream(symbol)
        if now_ns < stream.asked_ns + stream.wait_ns:
            self._due[symbol] = stream.asked_ns + stream.wait_ns
            return
        is_calm = now_ns - stream.asked_ns > 2 * RESUBSCRIBE_NS_MAX
        stream.wait_ns = RESUBSCRIBE_NS_MIN if is_calm else min(2 * stream.wait_ns, RESUBSCRIBE_NS_MAX)
        stream.asked_ns = now_ns
        self._due[symbol] = now_ns + stream.wait_ns
        self._commands.extend(SendFrame(frame) for frame in self._resubscribe(symbol))

    # What the venues' classes use.

    def _stream(self, symbol: str) -> BookStream:
        stream = self._streams.get(symbol)
        if stream is None:
            stream = self._streams[symbol] = BookStream(symbol, asked_ns=-4 * RESUBSCRIBE_NS_MAX)
        return stream

    def _refuse_unserved(self, reason: str) -> None:
        """Refuse all that an error without a symbol may mean: books not served yet, and trades alone."""
        for subscription in self.endpoint.subscriptions:
            if subscription.symbol in self._awaited or Channel.BOOK not in subscription.channels:
                self._refuse(subscription.symbol, reason)

    def _take_trade(self, symbol: str, trade: Trade) -> None:
        counts = self._counts(symbol)
        if trade.flags & Flag.HISTORY:
            counts.trades_history += 1
        else:
            counts.trades += 1
        self._events.append(trade)

    def _take_book(self, reading: Reading, ts_recv_ns: Nanos) -> None:
        self._served(reading.symbol)
        stream = self._stream(reading.symbol)
        if reading.is_snapshot:
            self._take_snapshot(stream, reading, ts_recv_ns)
        else:
            self._take_delta(stream, reading, ts_recv_ns)

    def _take_snapshot(self, stream: BookStream, reading: Reading, ts_recv_ns: Nanos) -> None:
        """Start over from the snapshot; one that fails its own checksum is not passed on."""
        self._counts(stream.symbol).snapshots += 1
        event = BookSnapshot(
            instrument=reading.instrument,
            id_last=stream.id_last + 1 if reading.id_last is None else reading.id_last,
            bids=reading.bids,
            asks=reading.asks,
            price_scale=reading.price_scale,
            size_scale=reading.size_scale,
            ts_venue_ns=reading.ts_venue_ns,
            ts_recv_ns=ts_recv_ns,
            epoch=reading.epoch,
            depth=reading.depth,
            state_hash=reading.checksum or 0,
            flags=0 if reading.checksum is None else _CHECKED,
        )
        book = None
        if reading.checksum is not None:
            book = L2Book(event.instrument)
            book.apply(event)
            if not self._verify(book, stream, reading.checksum):
                self._break(stream, "checksum", ts_recv_ns)
                return
        stream.id_last, stream.epoch, stream.live, stream.book = event.id_last, event.epoch, True, book
        self._due.pop(stream.symbol, None)
        self._events.append(event)

    def _take_delta(self, stream: BookStream, reading: Reading, ts_recv_ns: Nanos) -> None:
        self._counts(stream.symbol).updates += 1
        id_prev, id_last = reading.id_prev, reading.id_last
        if id_last is None:
            id_prev, id_last = stream.id_last, stream.id_last + 1
        if stream.live:
            if id_last == stream.id_last:
                return  # sent again, or a keep-alive
            self._follow(stream, id_prev, id_last, ts_recv_ns)
        elif stream.symbol not in self._due:
            self.request_snapshot(stream.symbol, ts_recv_ns)
        if id_prev < id_last:
            event = self._delta(reading, id_prev, id_last, ts_recv_ns)
            self._events.append(self._applied(stream, event, ts_recv_ns))
        stream.id_last = id_last

    def _delta(self, reading: Reading, id_prev: int, id_last: int, ts_recv_ns: Nanos) -> BookDelta:
        return BookDelta(
            instrument=reading.instrument,
            id_prev=id_prev,
            id_last=id_last,
            bids=reading.bids,
            asks=reading.asks,
            price_scale=reading.price_scale,
            size_scale=reading.size_scale,
            ts_venue_ns=reading.ts_venue_ns,
            ts_recv_ns=ts_recv_ns,
            epoch=reading.epoch,
            state_hash=reading.checksum or 0,
            flags=0 if reading.checksum is None else _CHECKED,
        )

    def _follow(self, stream: BookStream, id_prev: int, id_last: int, ts_recv_ns: Nanos) -> None:
        """Check the chain; ids that go down are the venue's new start."""
        if id_last < stream.id_last:
            self._break(stream, self.chain, ts_recv_ns, kind=GapKind.RESET)
        elif id_prev != stream.id_last:
            self._break(stream, self.chain, ts_recv_ns, id_after=max(id_prev, 0))

    def _applied(self, stream: BookStream, event: BookDelta, ts_recv_ns: Nanos) -> BookDelta:
        """Move the line's own book, where it keeps one, and verify it; a gap goes before the event that shows
        it.
        """
        book = stream.book
        if book is None:
            return event
        book.apply(event)
        event = self._cut(book, event)
        if event.flags & _CHECKED and not self._verify(book, stream, event.state_hash):
            self._break(stream, "checksum", ts_recv_ns)
        return event

    def _cut(self, book: L2Book, event: BookDelta) -> BookDelta:
        """Cut the book where the venue sends no deletion for it; give the event with the deletions."""
        return event

    def _verify(self, book: L2Book, stream: BookStream, checksum: int) -> bool:
        counts = self._counts(stream.symbol)
        is_equal = CHECKSUMS[self.checksum](book) == checksum
        if is_equal:
            counts.checksums_ok += 1
        else:
            counts.checksums_failed += 1
        return is_equal

    def _break(
        self,
        stream: BookStream,
        cause: str,
        ts_recv_ns: Nanos,
        *,
        id_after: int = 0,
        kind: GapKind = GapKind.VENUE,
    ) -> None:
        """Report the loss, once, and ask for a fresh book."""
        self._lose(stream, cause, ts_recv_ns, id_after, kind)
        self.request_snapshot(stream.symbol, ts_recv_ns)

    def _lose(
        self,
        stream: BookStream,
        cause: str,
        ts_recv_ns: Nanos,
        id_after: int = 0,
        kind: GapKind = GapKind.VENUE,
    ) -> None:
        if not stream.live:
            return
        stream.live, stream.book = False, None
        self._counts(stream.symbol).gaps += 1
        self._events.append(
            Gap(
                instrument=self._instrument(stream.symbol),
                channel=Channel.BOOK,
                kind=kind,
                id_prev=stream.id_last,
                id_last=id_after,
                cause=cause,
                ts_recv_ns=ts_recv_ns,
                epoch=stream.epoch,
            )
        )

    def _receive_bad_frame(self, frame: bytes | str, error: Exception) -> None:
        super()._receive_bad_frame(frame, error)
        if not self.survives_bad_frame:
            for stream in self._streams.values():
                self._lose(stream, "undecodable frame", self._heard_ns)
