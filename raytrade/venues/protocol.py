"""The contract of a venue machine: one line's conversation with one venue, without any I/O.

The owner (a socket, a capture, a simulation) feeds `receive_*`, then drains `events()` and runs `commands()`.
A machine never raises on what the venue sends: a bad frame is counted, and ends in `Reconnect` where the
venue gives no means to see the loss. Frames of one connection only; a new connection begins with
`receive_open`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel, Event
from raytrade.core.instrument import check_symbol, instrument_name
from raytrade.core.prices import Quantizer
from raytrade.errors import ConfigError, DecodeError

Identifier = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An id as venues count them; what does not fit in 63 bits is refused with the frame."""
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=(2**63 - 1) // MILLISECOND)]
"""A venue's time in ms since the epoch, small enough to be nanoseconds in 63 bits."""
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A venue's time as RFC 3339 text; one without a zone is refused with the frame."""

FRAME_BYTES_MAX = 32 * 1024 * 1024
BAD_FRAMES_MAX = 8
"""Undecodable frames in a row after which a line is opened anew, whatever the venue."""
SERVICE_TIMEOUT_NS = 30 * SECOND


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def timestamp_ns(moment: datetime) -> Nanos:
    """Give a time with a zone in nanoseconds since the epoch, without a float in between.

    Raises:
        DecodeError: it lies before 1970 or does not fit in 63 bits.
    """
    nanos = (moment - _EPOCH) // _MICROSECOND * 1000
    if not 0 <= nanos < 2**63:
        raise DecodeError("time out of range", moment.isoformat())
    return nanos


class MergeClass(StrEnum):
    """How copies of a stream from several lines are merged (ARCHITECTURE.md, "Arbitration")."""

    LOOSE = "chain, loose"
    """Global ids, full depth, windows list every level touched: accept if ``prev <= P < last``."""
    STRICT = "chain, strict"
    """Global ids, net changes: accept only if ``prev == P``."""
    LEAD = "lead"
    """Ids per connection or none: follow one line, switch at a state-equal point."""
    NEWEST = "newest"
    """Every message is the whole book: the newest venue time wins."""
    TRADE = "trade id"
    """First copy per trade id."""
    DENSE = "trade id, dense"
    """First copy per trade id, and ids rise by one, so that a missing trade is seen."""


class ChannelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a venue: how it is called there, how it is merged, what proves it complete."""

    name: str
    merge: MergeClass
    integrity: str
    checksum: str = ""
    """Name of a checksum in `raytrade.core.checksum` that the venue sends with each message."""
    contiguous: bool = False
    """True where ids of one symbol rise without holes, so that a snapshot ahead of the stream proves a loss."""
    snapshot: str = ""
    """Where the first book comes from: ``rest``, ``in band`` or ``every message``."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue allows; 0 where it states nothing."""

    streams_per_connection_max: int = 0
    connections_per_window_max: int = 0
    connection_window_s: int = 0
    connection_life_s: int = 0
    snapshot_weight: int = 0
    """Weight of one snapshot request at the depth we ask for."""
    weight_per_minute_max: int = 0


class Subscription(msgspec.Struct, frozen=True):
    """A symbol and the channels wanted of it."""

    symbol: str
    channels: tuple[Channel, ...] = (Channel.BOOK, Channel.TRADES)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One websocket to open: its address and what is subscribed on it.

    `part` tells apart the sockets that a venue needs for one set of subscriptions (empty if one is enough).
    """

    url: str
    subscriptions: tuple[Subscription, ...]
    part: str = ""
    rest_url: str = ""


class SendFrame(msgspec.Struct, frozen=True):
    """Send this text to the venue."""

    data: str


class FetchSnapshot(msgspec.Struct, frozen=True):
    """Request this REST book and hand its body to `receive_snapshot`."""

    symbol: str
    url: str
    weight: int


class Reconnect(msgspec.Struct, frozen=True):
    """Close the connection and open it anew."""

    reason: str


class Refused(msgspec.Struct, frozen=True):
    """The venue refused a subscription, or acknowledged it and does not serve it; tell the user.

    Without a reason: it is served after all.
    """

    symbol: str
    reason: str


Command = SendFrame | FetchSnapshot | Reconnect | Refused


class InstrumentCounts(msgspec.Struct):
    """What one line's machine saw of one instrument."""

    snapshots: int = 0
    updates: int = 0
    trades: int = 0
    trades_history: int = 0
    checksums_ok: int = 0
    checksums_failed: int = 0
    gaps: int = 0


class LineStatistics(msgspec.Struct):
    """Counts of one line since its machine was made."""

    frames: int = 0
    frames_bytes: int = 0
    undecodable: int = 0
    connections: int = 0
    last_problem: str = ""
    instruments: dict[str, InstrumentCounts] = {}


class VenueMachine:
    """What all venue machines share: the drains, the counts, heartbeats and time-outs.

    A venue's class gives the class variables and the methods `_read`, `_subscribe` and `request_snapshot`.
    """

    survives_bad_frame: ClassVar[bool] = True
    """True where a lost frame shows in the ids or checksums that follow, so that the line may go on."""
    silence_ns_max: ClassVar[Nanos] = 60 * SECOND
    """Without any frame for this long the connection is taken for dead."""
    ping_interval_ns: ClassVar[Nanos] = 0
    """How often `ping_frame` must be sent; 0 where the venue pings by itself."""
    ping_frame: ClassVar[str] = ""
    service_timeout_ns: Nanos = SERVICE_TIMEOUT_NS
    """A subscription whose first book message has not come by then counts as refused."""

    def __init__(self, venue: str, endpoint: Endpoint) -> None:
        self.venue = venue
        self.endpoint = endpoint
        self.epoch = 0
        self._events: list[Event] = []
        self._commands: list[Command] = []
        self._quantizers: dict[str, Quantizer] = {}
        self._names: dict[str, str] = {}
        self._statistics = LineStatistics()
        self._bad_frames = 0
        self._heard_ns: Nanos = 0
        self._pinged_ns: Nanos = 0
        self._awaited: dict[str, Nanos] = {}
        self._unserved: set[str] = set()
        self._open = False

    # What a venue's class must give.

    @classmethod
    def endpoints(cls, ws_url: str, rest_url: str, subscriptions: tuple[Subscription, ...]) -> list[Endpoint]:
        """Give the sockets that these subscriptions need; one, unless the venue splits them."""
        return [Endpoint(url=ws_url, rest_url=rest_url, subscriptions=subscriptions)]

    def _read(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        """Take one frame in; may raise DecodeError or a msgspec error."""
        raise DecodeError("this venue has no reader")

    def _subscribe(self) -> list[str]:
        """Give the frames that subscribe the endpoint's subscriptions."""
        return []

    def request_snapshot(self, symbol: str, now_ns: Nanos) -> None:
        """Ask the venue for a fresh book of `symbol`: by REST, or by subscribing anew where it comes in band."""
        raise NotImplementedError(symbol)

    def _read_snapshot(self, symbol: str, body: bytes, ts_recv_ns: Nanos) -> None:
        """Take the body of a REST book in."""
        raise DecodeError("this venue has no REST book")

    # What the owner calls.

    def receive_open(self, now_ns: Nanos) -> None:
        """The connection is open."""
        self.epoch = now_ns
        self._open = True
        self._heard_ns = self._pinged_ns = now_ns
        self._bad_frames = 0
        self._statistics.connections += 1
        self._awaited = {
            subscription.symbol: now_ns + self.service_timeout_ns
            for subscription in self.endpoint.subscriptions
            if Channel.BOOK in subscription.channels
        }
        self._commands.extend(SendFrame(frame) for frame in self._subscribe())

    def receive_frame(self, frame: bytes | str, ts_recv_ns: Nanos) -> None:
        """One frame came, read off the socket at `ts_recv_ns`."""
        statistics = self._statistics
        statistics.frames += 1
        statistics.frames_bytes += len(frame)
        self._heard_ns = ts_recv_ns
        kept = len(self._events)
        try:
            if len(frame) > FRAME_BYTES_MAX:
                raise DecodeError(f"frame of {len(frame)} bytes")
            self._read(frame, ts_recv_ns)
            self._bad_frames = 0
        except (DecodeError, msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            del self._events[kept:]
            self._receive_bad_frame(frame, error)

    def receive_snapshot(self, symbol: str, body: bytes, ts_recv_ns: Nanos) -> bool:
        """The REST book asked for has come; tells whether it could be read."""
        try:
            self._read_snapshot(symbol, body, ts_recv_ns)
        except (DecodeError, msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            self._statistics.undecodable += 1
            self._statistics.last_problem = f"snapshot of {symbol}: {error}"
            return False
        return True

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`deadline_ns` has passed: ping, give up a silent connection, report what is not served."""
        if not self._open:
            return
        if self.ping_interval_ns and now_ns - self._pinged_ns >= self.ping_interval_ns:
            self._pinged_ns = now_ns
            self._commands.append(SendFrame(self.ping_frame))
        if now_ns - self._heard_ns >= self.silence_ns_max:
            self._heard_ns = now_ns
            self._commands.append(Reconnect(f"silent for {self.silence_ns_max // SECOND} s"))
        for symbol in [symbol for symbol, due_ns in self._awaited.items() if now_ns >= due_ns]:
            del self._awaited[symbol]
            self._unserved.add(symbol)
            self._commands.append(Refused(symbol, "subscribed but not served"))

    def receive_close(self, now_ns: Nanos) -> None:
        """The connection is gone."""
        self._open = False

    def events(self) -> list[Event]:
        """Drain what the line delivered."""
        drained, self._events = self._events, []
        return drained

    def commands(self) -> list[Command]:
        """Drain what the owner must do."""
        drained, self._commands = self._commands, []
        return drained

    def deadline_ns(self) -> Nanos | None:
        """When `receive_timeout` is due; None while closed."""
        if not self._open:
            return None
        due = [self._heard_ns + self.silence_ns_max, *self._awaited.values()]
        if self.ping_interval_ns:
            due.append(self._pinged_ns + self.ping_interval_ns)
        return min(due)

    @property
    def is_served(self) -> bool:
        """Tell whether no book subscription waits for its first message."""
        return self._open and not self._awaited

    def statistics(self) -> LineStatistics:
        """Give the counts; a live view."""
        return self._statistics

    # What the venues' classes use.

    def _receive_bad_frame(self, frame: bytes | str, error: Exception) -> None:
        head = frame[:80].decode(errors="replace") if isinstance(frame, bytes) else frame[:80]
        self._statistics.undecodable += 1
        self._statistics.last_problem = f"{error} in {head!r}"
        self._bad_frames += 1
        if not self.survives_bad_frame or self._bad_frames >= BAD_FRAMES_MAX:
            self._bad_frames = 0
            self._commands.append(Reconnect(f"undecodable frame: {error}"))

    def _instrument(self, symbol: str) -> str:
        name = self._names.get(symbol)
        if name is None:
            try:
                check_symbol(symbol)
            except ConfigError as error:
                raise DecodeError(str(error)) from None
            name = self._names[symbol] = instrument_name(self.venue, symbol)
        return name

    def _quantizer(self, symbol: str) -> Quantizer:
        quantizer = self._quantizers.get(symbol)
        if quantizer is None:
            quantizer = self._quantizers[symbol] = Quantizer()
        return quantizer

    def _counts(self, symbol: str) -> InstrumentCounts:
        counts = self._statistics.instruments.get(symbol)
        if counts is None:
            counts = self._statistics.instruments[symbol] = InstrumentCounts()
        return counts

    def _served(self, symbol: str) -> None:
        """A book message of `symbol` has come."""
        if self._awaited:
            self._awaited.pop(symbol, None)
        if self._unserved and symbol in self._unserved:
            self._unserved.discard(symbol)
            self._commands.append(Refused(symbol, ""))

    def _refuse(self, symbol: str, reason: str) -> None:
        self._awaited.pop(symbol, None)
        self._commands.append(Refused(symbol, reason))

    def _subscribed(self, channel: Channel) -> list[str]:
        return [s.symbol for s in self.endpoint.subscriptions if channel in s.channels]


class VenueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the rest of the program knows about a venue."""

    name: str
    title: str
    machine: type[VenueMachine]
    ws_url: str
    rest_url: str = ""
    channels: dict[Channel, ChannelSpec]
    limits: Limits = Limits()
    note: str = ""
    display_id: Callable[[int, Nanos], int | str | None] | None = None
    """Gives the id of a book message as the venue writes it, from (id_last, ts_venue_ns)."""
