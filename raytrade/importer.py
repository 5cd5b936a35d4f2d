"""Imports a capture: raw frames through the venue machines and the arbiter into books and a recording.

Each recorded connection is a line. Time is the recording's: held messages expire by the recorded receive times, so the
result does not depend on how fast the import runs.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

from raytrade.arbitration import Arbiter, line_totals
from raytrade.core.arrivals import ArrivalLog
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Side
from raytrade.core.instrument import instrument_name, split_instrument
from raytrade.core.message import Kind, Message, decode, message_of
from raytrade.errors import CaptureError
from raytrade.rules import rule_of
from raytrade.storage.arrivals import ArrivalSink
from raytrade.storage.captures import Capture, CaptureRecord
from raytrade.storage.sink import ParquetSink
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, InstrumentCounts, Subscription, VenueMachine

DRAIN_NS = 5 * SECOND
"""After the last record time runs on this long, so that what is held back is decided."""
WRITE_EVERY_MESSAGES = 4096
TIMER_STEPS_MAX = 10_000

JsonObject = dict[str, object]


class Importer:
    """One capture's way through machines, arbiter, books and (if given) a sink."""

    def __init__(self, capture: Capture, sink: ParquetSink | None = None, arrivals: ArrivalSink | None = None) -> None:
        """`arrivals`: where the log of every copy goes, if the capture has several lines."""
        self.capture = capture
        self.spec = find_venue(capture.header.venue)
        self.books: dict[str, L2Book] = {}
        self.problem: CaptureError | None = None
        """Where the capture breaks off."""
        self.bad_frame: CaptureError | None = None
        """The first frame or REST book that could not be read."""
        self._sink = sink
        self._arrivals = arrivals if len(capture.header.connections) > 1 else None
        self._logged = 0
        self._log = ArrivalLog("import", crc32(capture.path.name.encode()) | 1)
        self._machines: dict[str, VenueMachine] = {}
        self._urls: dict[str, str] = {}
        self._arbiter = Arbiter("import", rule_of)
        self._pending: list[Message] = []
        self._trades: dict[str, int] = {}
        self._first_ns: dict[str, Nanos] = {}
        self._now_ns: Nanos = 0

    def run(self, advance: Callable[[int], None] = lambda bytes_read: None) -> None:
        """Read the whole capture; `advance` is told the number of compressed bytes read so far.

        A damaged capture is imported as far as it is good; `problem` then holds the break.

        Raises:
            StorageError: the recording cannot be written.
        """
        try:
            for number, record in enumerate(self.capture.records()):
                self._receive(record, number + 2)
                if number % 512 == 0:
                    advance(self.capture.bytes_read)
        except CaptureError as problem:
            self.problem = problem
        self._run_timers(self._now_ns + DRAIN_NS)
        self._arbiter.release()
        self._deliver()
        self._write(0)
        self._keep_arrivals(is_due=True)
        for sink in (self._sink, self._arrivals):
            if sink is not None:
                sink.flush()
        advance(self.capture.bytes_read)

    def _receive(self, record: CaptureRecord, number: int) -> None:
        ts_ns = self._now_ns = record.ts_ns if record.ts_ns is not None else self._now_ns
        self._run_timers(ts_ns)
        match record.kind:
            case "connect":
                self._receive_connect(record, number, ts_ns)
            case "recv":
                self._receive_frame(record, number, ts_ns)
            case "rest":
                self._receive_rest(record, number, ts_ns)

    def _receive_connect(self, record: CaptureRecord, number: int, ts_ns: Nanos) -> None:
        try:
            urlsplit(record.url or "")
        except ValueError as error:
            raise CaptureError(str(self.capture.path), number, f"damaged url: {error}") from None
        self._urls[record.conn] = record.url or ""
        self._machine(record.conn).receive_open(ts_ns)

    def _receive_frame(self, record: CaptureRecord, number: int, ts_ns: Nanos) -> None:
        try:
            frame = record.frame()
        except ValueError as error:
            raise CaptureError(str(self.capture.path), number, f"damaged base64: {error}") from None
        machine = self._machine(record.conn)
        undecodable = machine.statistics().undecodable
        machine.receive_frame(frame, ts_ns)
        if machine.statistics().undecodable > undecodable:
            self._note_bad_frame(machine, number)
        self._collect(record.conn, machine, ts_ns)

    def _note_bad_frame(self, machine: VenueMachine, number: int) -> None:
        """Keep the first: what follows is often its consequence."""
        if self.bad_frame is None:
            problem = f"undecodable frame: {' '.join(machine.statistics().last_problem.split())}"
            self.bad_frame = CaptureError(str(self.capture.path), number, problem)

    def _receive_rest(self, record: CaptureRecord, number: int, ts_ns: Nanos) -> None:
        """Hand a REST book to the first line, as the line that asked would get it."""
        symbol = depth_symbol(record.url)
        if symbol is None:
            return
        line = next(iter([*self._machines, *self.capture.header.connections]), "")
        machine = self._machine(line)
        if not machine.receive_snapshot(symbol, (record.data or "").encode(), ts_ns):
            self._note_bad_frame(machine, number)
        self._collect(line, machine, ts_ns)

    def _machine(self, line: str) -> VenueMachine:
        machine = self._machines.get(line)
        if machine is None:
            subscriptions = tuple(Subscription(symbol) for symbol in self.capture.header.symbols)
            endpoint = Endpoint(url=self._urls.get(line, ""), subscriptions=subscriptions)
            machine = self._machines[line] = self.spec.machine(self.spec.name, endpoint)
            if line not in self._urls:
                machine.receive_open(self._now_ns)
        return machine

    def _collect(self, line: str, machine: VenueMachine, ts_ns: Nanos) -> None:
        messages = [message_of(event, line) for event in machine.events()]
        if self._arrivals is not None and messages:
            self._log.note(messages, ts_ns)
        for message in messages:
            self._arbiter.receive(line, message, ts_ns)
        machine.commands()
        self._deliver()

    def _run_timers(self, until_ns: Nanos) -> None:
        """Let time run to `until_ns`; over a leap that no recording has, the last step takes the rest."""
        steps = 0
        while (due_ns := self._arbiter.deadline_ns()) is not None and due_ns <= until_ns:
            steps += 1
            self._arbiter.receive_timeout(due_ns if steps < TIMER_STEPS_MAX else until_ns)
            self._deliver()

    def _deliver(self) -> None:
        messages = self._arbiter.output()
        self._arbiter.commands()
        for message in messages:
            self._apply(message)
        if self._arrivals is not None:
            self._log.give(messages)
            self._keep_arrivals()
        self._pending += messages
        self._write(WRITE_EVERY_MESSAGES)

    def _keep_arrivals(self, *, is_due: bool = False) -> None:
        if self._arrivals is None:
            return
        self._log.cut(self._now_ns, is_due=is_due)
        blocks = self._log.since(self._log.incarnation, self._logged)
        if blocks:
            self._logged += len(blocks)
            self._arrivals.write(blocks, self._now_ns)

    def _write(self, pending_min: int) -> None:
        if len(self._pending) > pending_min:
            if self._sink is not None:
                self._sink.write(self._pending, self._now_ns)
            self._pending = []

    def _apply(self, message: Message) -> None:
        name = message.instrument
        match message.kind:
            case Kind.DELTA | Kind.SNAPSHOT:
                event = decode(message)
                assert isinstance(event, BookDelta | BookSnapshot)
                self._first_ns.setdefault(name, event.ts_venue_ns)
                self._book(name).apply(event)
            case Kind.TRADE:
                if not message.flags & Flag.HISTORY:
                    self._trades[name] = self._trades.get(name, 0) + 1
            case Kind.GAP if message.channel is Channel.BOOK:
                self._book(name).invalidate()
            case Kind.RESYNCED if message.channel is Channel.BOOK:
                self._book(name).revalidate()

    def _book(self, instrument: str) -> L2Book:
        book = self.books.get(instrument)
        if book is None:
            book = self.books[instrument] = L2Book(instrument)
        return book

    @property
    def undecodable(self) -> int:
        """How many frames and REST books could not be read."""
        return sum(machine.statistics().undecodable for machine in self._machines.values())

    def summary(self) -> JsonObject:
        """Give counts per line and per instrument, as `raytrade import --json` prints them."""
        streams = self._arbiter.statistics()
        totals = line_totals({key: counts for key, counts in streams.items() if key[1] is Channel.BOOK})
        lines: JsonObject = {}
        for line, machine in sorted(self._machines.items()):
            counts = totals.get(line)
            lines[line] = {
                "frames": machine.statistics().frames,
                "updates": counts.updates if counts else 0,
                "wins": counts.wins if counts else 0,
                "duplicates": counts.duplicates if counts else 0,
                "gaps_seen": counts.gaps_seen if counts else 0,
                "gaps_healed": counts.gaps_healed if counts else 0,
            }
        names = {key[0] for key in streams} | set(self.books)
        return {
            "venue": self.spec.name,
            "undecodable": self.undecodable,
            "lines": lines,
            "instruments": {name: self._instrument_summary(name) for name in sorted(names)},
        }

    def _instrument_summary(self, name: str) -> JsonObject:
        counts = self._arbiter.statistics().get((name, Channel.BOOK))
        _, symbol = split_instrument(name)
        seen = [m.statistics().instruments.get(symbol, InstrumentCounts()) for m in self._machines.values()]
        return {
            "updates": counts.updates if counts else 0,
            "snapshots": sum(part.snapshots for part in seen),
            "trades": self._trades.get(name, 0),
            "gaps": counts.gaps if counts else 0,
            "resyncs": counts.resyncs if counts else 0,
            "checksums_ok": sum(part.checksums_ok for part in seen),
            "checksums_failed": sum(part.checksums_failed for part in seen),
            **self._ids(name),
            "top": self._top(name),
        }

    def _ids(self, name: str) -> JsonObject:
        counts = self._arbiter.statistics().get((name, Channel.BOOK))
        if counts is None or counts.first_id is None or counts.last_id is None:
            return {"first_id": None, "last_id": None}
        if self.spec.display_id is None:
            return {"first_id": counts.first_id, "last_id": counts.last_id}
        first_ns, last_ns = self._first_ns.get(name, 0), self._book(name).ts_venue_ns
        display = self.spec.display_id
        return {"first_id": display(counts.first_id, first_ns), "last_id": display(counts.last_id, last_ns)}

    def _top(self, name: str) -> JsonObject:
        book = self.books.get(name)
        if book is None:
            return {"bid": None, "ask": None}
        bids, asks = book.texts(Side.BUY, 1), book.texts(Side.SELL, 1)
        return {"bid": list(bids[0]) if bids else None, "ask": list(asks[0]) if asks else None}

    def final_books(self) -> JsonObject:
        """Give the final books in full depth, as ``--book FILE`` writes them."""
        books: JsonObject = {}
        for name in sorted({instrument_name(self.spec.name, s) for s in self._symbols()} | set(self.books)):
            book = self.books.get(name, L2Book(name))
            books[name] = {
                "symbol": split_instrument(name)[1],
                "state": "live" if book.state is BookState.LIVE else "stale",
                "bids": book.texts(Side.BUY),
                "asks": book.texts(Side.SELL),
            }
        return books

    def _symbols(self) -> set[str]:
        return {symbol for machine in self._machines.values() for symbol in machine.statistics().instruments}


def depth_symbol(url: str | None) -> str | None:
    """Give the symbol of a REST book's address, None for any other address."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    symbols = parse_qs(parts.query).get("symbol")
    return symbols[0] if symbols and parts.path.rstrip("/").endswith("depth") else None
