"""Faults in a replay, by time: what a strategy would have been shown, had all lines failed together then.

A stream is changed before it is merged with others, so that what is late stays in the order of times:

* `drop`: what comes then is not there. Where that is a stretch of time, a `Gap` is told when the stream goes on, with
  the ids, and the true book follows as a whole (`IMAGE`), as after a resync; trades are simply missing.
* `delay`: what comes then comes so much later; `stall`: all of it comes at the end, at once.
* `silent`: as `drop`, but told when it begins (`Stalled`), as when every line is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Channel, Gap, GapKind, Stalled, Trade
from raytrade.errors import ConfigError
from raytrade.replay import apply
from raytrade.storage.site import View
from raytrade.storage.source import RecordedEvent, TimedEvent

StreamKey = tuple[str, Channel]
KINDS = ("drop", "delay", "stall", "silent")


class StreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault from `start_ns` for `duration_ns` on, of the streams of one symbol (empty: of all).

    Raises:
        ConfigError: a replay has no such fault.
    """

    kind: str
    start_ns: Nanos
    duration_ns: Nanos
    delay_ns: Nanos = 0
    symbol: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError("", "--fault", f"{self.kind}: a replay has {', '.join(KINDS)}")
        if self.duration_ns <= 0:
            raise ConfigError("", "--fault", f"{self.kind}: say from when and how long, as in {self.kind}@5s:2s")

    def covers(self, now_ns: Nanos) -> bool:
        """Tell whether the fault is in force."""
        return self.start_ns <= now_ns < self.start_ns + self.duration_ns


class Faults:
    """Changes streams; see the module."""

    def __init__(self, faults: Sequence[StreamFault]) -> None:
        self._faults = faults

    def seen(self, key: StreamKey, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        """Give a stream with its faults."""
        symbol = key[0].partition(":")[2]
        own = [fault for fault in self._faults if fault.symbol in ("", symbol, key[0])]
        return _Faulty(key, own).run(events) if own else events


class _Faulty:
    """One stream on its way."""

    def __init__(self, key: StreamKey, faults: Sequence[StreamFault]) -> None:
        self._key = key
        self._faults = faults
        self._truth = L2Book(key[0])
        self._now_ns: Nanos = -(2**63)
        self._lost: StreamFault | None = None
        self._id_before = 0

    def run(self, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        """Give the events that are left, and what is told of the others."""
        for now_ns, event in events:
            fault = next((fault for fault in self._faults if fault.covers(now_ns)), None)
            if fault is not None and fault.kind in ("drop", "silent"):
                yield from self._lose(fault, event)
                continue
            if fault is not None:
                end_ns = fault.start_ns + fault.duration_ns
                now_ns = now_ns + fault.delay_ns if fault.kind == "delay" else max(now_ns, end_ns)
            now_ns = self._now_ns = max(now_ns, self._now_ns)
            if self._lost is not None:
                yield from self._resync(now_ns)
            self._follow(event)
            yield now_ns, event

    def _lose(self, fault: StreamFault, event: RecordedEvent) -> Iterator[TimedEvent]:
        if self._lost is None:
            self._lost, self._id_before = fault, self._truth.id_last
            if fault.kind == "silent":
                at_ns = max(self._now_ns, fault.start_ns)
                yield at_ns, Stalled(instrument=self._key[0], channel=self._key[1], cause="fault", ts_recv_ns=at_ns)
        self._follow(event)

    def _follow(self, event: RecordedEvent) -> None:
        if self._key[1] is Channel.BOOK and not isinstance(event, Trade):
            apply(self._truth, event)

    def _resync(self, now_ns: Nanos) -> Iterator[TimedEvent]:
        """Tell what was lost, and give the book as it is now."""
        lost, self._lost = self._lost, None
        if lost is None or self._key[1] is not Channel.BOOK:
            return
        yield (
            now_ns,
            Gap(
                instrument=self._key[0],
                channel=Channel.BOOK,
                kind=GapKind.VENUE,
                id_prev=self._id_before,
                id_last=self._truth.id_last,
                cause=f"fault: {lost.kind}",
                ts_recv_ns=now_ns,
                epoch=self._truth.epoch,
            ),
        )
        if self._truth.state is BookState.LIVE:
            yield now_ns, self._truth.snapshot()


class Views:
    """Several changes of a stream, one behind the other."""

    def __init__(self, *parts: View) -> None:
        self._parts = parts

    def seen(self, key: StreamKey, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        """Give a stream as it comes out of the last."""
        for part in self._parts:
            events = part.seen(key, events)
        return events
