"""The recordings, each imported once by the real `Importer`; what its arbiter was given and gave is kept."""

from __future__ import annotations

import gzip
import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raytrade.arbitration import Arbiter
from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Gap
from raytrade.core.message import Kind, Message, decode
from raytrade.importer import Importer, JsonObject
from raytrade.rules import rule_of
from raytrade.storage.captures import Capture, CaptureRecord
from raytrade.storage.sink import ParquetSink

DRAIN_NS: Nanos = 5 * SECOND

BINANCE = [
    "binance-spot/20210405-btcaud-10sym",
    "binance-spot/20210417-swrvbusd-10sym",
    "binance-spot/20211012-nknusdt-4sym",
    "binance-spot/20240808-btcusdt",
    "binance-us/20210405-btcusd-10sym",
    "binance-us/20210814-batusd-4sym",
    "binance-usdm/20210405-sandusdt-5sym",
    "binance-usdm/20210722-sushiusdt-4sym",
    "binance-usdm/20240718-btcusdt",
    "binance-usdm/20240808-btcusdt",
    "binance-usdm/20240808-ethusdt",
    "binance-coinm/20210722-btcusd-211231-10sym",
    "binance-coinm/20240808-btcusd-perp",
    "binance-coinm/20240808-ethusd-perp",
]
HITBTC = ["hitbtc-v2/20210405-bcneos-10sym", "bitcoincom/20210405-ethbtc-10sym"]
HITBTC_REDUNDANT = ["hitbtc-v2/20210715-dntbtc-10sym-x4", "bitcoincom/20210715-xrpusdt-10sym-x4"]
OKX_REDUNDANT = [
    "okx-v5/20210722-btc-usd-210924-66000-c-10sym-x3",
    "okcoin-v3/20210405-eth-usd-10sym-x3",
    "okcoin-v3/20210417-btc-usdt-10sym-x3",
]
COUNTED = ["coinbase-advanced/20260809-btc-usd-2sym", "bybit-v5/20260809-btcusdt-4sym"]
OTHERS = [
    "kraken-v2/20260802-btc-usd",
    "kraken-v2/20260802-eth-usd",
    "gemini-v2/20210405-etheur-10sym",
    "gemini-v2/20260809-btcusd-10sym",
    "okx-v5/20220513-btc-usdt-3sym",
    "okcoin-v5/20230527-btc-usd-4sym",
]
CHAINED = [*BINANCE, *HITBTC, *HITBTC_REDUNDANT]
EVERYTHING = [*CHAINED, *OKX_REDUNDANT, *COUNTED, *OTHERS]


class Arrival(NamedTuple):
    """A message, the line that delivered it and when."""

    line: str
    message: Message
    now_ns: Nanos


class Tap(Arbiter):
    """The importer's arbiter, which also remembers the book messages that go in and come out."""

    def __init__(self) -> None:
        super().__init__("import", rule_of)
        self.arrivals: list[Arrival] = []
        self.given: list[Message] = []

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        if message.channel is Channel.BOOK:
            self.arrivals.append(Arrival(line, message, now_ns))
        super().receive(line, message, now_ns)

    def output(self) -> list[Message]:
        drained = super().output()
        self.given += [message for message in drained if message.channel is Channel.BOOK]
        return drained


class Recording:
    """One recording after its import into `directory`."""

    def __init__(self, name: str, path: Path, expected: Path, directory: Path) -> None:
        self.name = name
        self.path = path
        self.directory = directory
        self._expected = expected
        self.importer = Importer(Capture(path), ParquetSink(directory))
        tap = self.importer._arbiter = Tap()
        self.importer.run()
        self.arrivals, self.given = tap.arrivals, tap.given
        self.summary: JsonObject = self.importer.summary()
        self.books: JsonObject = self.importer.final_books()

    @property
    def venue(self) -> str:
        return self.name.partition("/")[0]

    @cached_property
    def expected(self) -> dict[str, Any]:
        """What an independent rebuild found."""
        with gzip.open(self._expected, "rt", encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found

    @cached_property
    def streams(self) -> dict[str, list[Arrival]]:
        """The arrivals by instrument."""
        streams: dict[str, list[Arrival]] = {}
        for arrival in self.arrivals:
            streams.setdefault(arrival.message.instrument, []).append(arrival)
        return streams

    @property
    def lines(self) -> list[str]:
        return sorted({arrival.line for arrival in self.arrivals})

    def truth(self, instrument: str) -> dict[str, Any]:
        """What the rebuild found of one instrument."""
        found: dict[str, Any] = self.expected["symbols"][instrument.partition(":")[2]]
        return found


class Library:
    """The recordings of a folder, each imported when it is first asked for."""

    def __init__(self, folder: Path, directory: Path) -> None:
        self._folder = folder
        self._directory = directory
        self._recordings: dict[str, Recording] = {}

    def __call__(self, name: str) -> Recording:
        """Give the recording, or skip the test."""
        recording = self._recordings.get(name)
        if recording is None:
            path = self._need(f"{name}.jsonl.gz")
            expected = self._need(f"expected/{name}.json.gz")
            recording = Recording(name, path, expected, self._directory / name.replace("/", "-"))
            self._recordings[name] = recording
        return recording

    def _need(self, name: str) -> Path:
        path = self._folder / name
        if not path.is_file():
            pytest.skip(f"no recording {path}")
        return path


class Partial(NamedTuple):
    """What an import gave that some records were kept from."""

    importer: Importer
    given: list[Message]


def import_records(capture: Capture, records: list[CaptureRecord]) -> Partial:
    """Import these records, without a sink."""
    importer = Importer(capture)
    tap = importer._arbiter = Tap()
    for number, record in enumerate(records, start=2):
        importer._receive(record, number)
    importer._run_timers(importer._now_ns + DRAIN_NS)
    tap.validate()
    return Partial(importer, tap.given)


def arbitrate(arrivals: list[Arrival]) -> list[Message]:
    """Run an arbiter of its own over the arrivals and let the time after the last run out."""
    arbiter = Arbiter("test", rule_of)
    given: list[Message] = []
    for line, message, now_ns in arrivals:
        given += run_timers(arbiter, now_ns)
        arbiter.receive(line, message, now_ns)
        given += arbiter.output()
    if arrivals:
        given += run_timers(arbiter, arrivals[-1].now_ns + DRAIN_NS)
    arbiter.validate()
    return given


def run_timers(arbiter: Arbiter, until_ns: Nanos) -> list[Message]:
    while (due_ns := arbiter.deadline_ns()) is not None and due_ns <= until_ns:
        arbiter.receive_timeout(due_ns)
    return arbiter.output()


def books_of(given: list[Message]) -> dict[str, L2Book]:
    """Apply an arbitrated stream to books, as every consumer does."""
    books: dict[str, L2Book] = {}
    for message in given:
        book = books.setdefault(message.instrument, L2Book(message.instrument))
        if message.kind is Kind.GAP:
            book.invalidate()
        elif message.kind is Kind.RESYNCED:
            book.revalidate()
        else:
            event = decode(message)
            assert isinstance(event, BookDelta | BookSnapshot)
            book.apply(event)
    return books


def gaps_of(given: list[Message]) -> list[Gap]:
    """Give the gaps of a stream."""
    gaps = [decode(message) for message in given if message.kind is Kind.GAP]
    return [gap for gap in gaps if isinstance(gap, Gap)]
