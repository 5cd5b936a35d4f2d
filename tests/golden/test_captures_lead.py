"""Every recording of the venues with in-band books, through the machines, against the expected state.

One machine per connection and one plain book per connection and symbol: no arbitration is involved.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytrade.core.book import L2Book
from raytrade.core.checksum import CHECKSUMS
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Event, Flag, Gap, Side, Trade
from raytrade.venues import find_venue
from raytrade.venues.protocol import Endpoint, Reconnect, Refused, Subscription, VenueMachine, VenueSpec

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "captures"
CAPTURES = Path(os.environ.get("RAYTRADE_CAPTURES", BESIDE))
NAMES = [
    "kraken-v2/20260802-btc-usd",
    "kraken-v2/20260802-eth-usd",
    "coinbase-advanced/20260809-btc-usd-2sym",
    "bybit-v5/20260809-btcusdt-4sym",
    "gemini-v2/20210405-etheur-10sym",
    "gemini-v2/20260809-btcusd-10sym",
    "okx-v5/20210722-btc-usd-210924-66000-c-10sym-x3",
    "okx-v5/20220513-btc-usdt-3sym",
    "okcoin-v5/20230527-btc-usd-4sym",
    "okcoin-v3/20210405-eth-usd-10sym-x3",
    "okcoin-v3/20210417-btc-usdt-10sym-x3",
    "hitbtc-v2/20210405-bcneos-10sym",
    "hitbtc-v2/20210715-dntbtc-10sym-x4",
    "bitcoincom/20210405-ethbtc-10sym",
    "bitcoincom/20210715-xrpusdt-10sym-x4",
]

pytestmark = pytest.mark.captures


class Connection:
    """The machine of one connection and what it delivered, by symbol."""

    def __init__(self, spec: VenueSpec, endpoint: Endpoint, opened_ns: int) -> None:
        self.machine: VenueMachine = spec.machine(spec.name, endpoint)
        self.spec = spec
        self.books: dict[str, L2Book] = {}
        self.ids: dict[str, list[object]] = {}
        self.trades: dict[tuple[str, bool], list[Trade]] = {}
        self.gaps: list[Gap] = []
        self.last_hash: dict[str, int] = {}
        self.machine.receive_open(opened_ns)
        self.machine.commands()

    def receive(self, frame: bytes | str, ts_recv_ns: int) -> None:
        self.machine.receive_frame(frame, ts_recv_ns)
        for event in self.machine.events():
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case BookSnapshot() | BookDelta():
                self._take_book(event)
            case Trade():
                key = event.instrument.partition(":")[2], bool(event.flags & Flag.HISTORY)
                self.trades.setdefault(key, []).append(event)
            case Gap():
                self.gaps.append(event)

    def _take_book(self, event: BookSnapshot | BookDelta) -> None:
        symbol = event.instrument.partition(":")[2]
        book = self.books.setdefault(symbol, L2Book(event.instrument))
        if isinstance(event, BookDelta) and self.spec.channels[Channel.BOOK].merge.value == "lead":
            assert (event.id_prev, event.epoch) == (book.id_last, book.epoch)
        book.apply(event)
        if event.flags & Flag.CHECKED:
            checksum = CHECKSUMS[self.spec.channels[Channel.BOOK].checksum]
            assert checksum(book) == event.state_hash
        if self.spec.display_id is not None:
            self.ids.setdefault(symbol, []).append(self.spec.display_id(event.id_last, event.ts_venue_ns))


def records(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for text in lines:
            yield json.loads(text)


def endpoint_of(spec: VenueSpec, header: dict[str, Any], url: str) -> Endpoint:
    prefix = url.rpartition("/")[2] + ":" if spec.name == "bybit-v5" else ""
    wanted = tuple(Subscription(prefix + symbol) for symbol in header["symbols"])
    return Endpoint(url=url, subscriptions=wanted)


def replay(name: str) -> dict[str, Connection]:
    """Feed the recording to a machine per connection."""
    spec = find_venue(name.partition("/")[0])
    header: dict[str, Any] = {}
    urls: dict[str, str] = {}
    connections: dict[str, Connection] = {}
    for record in records(CAPTURES / f"{name}.jsonl.gz"):
        match record["kind"]:
            case "header":
                header = record
            case "connect":
                urls[record["conn"]] = record["url"]
            case "recv":
                conn = record["conn"]
                if conn not in connections:
                    endpoint = endpoint_of(spec, header, urls.get(conn, spec.ws_url))
                    connections[conn] = Connection(spec, endpoint, record["ts_ns"])
                frame = base64.b64decode(record["b64"]) if "b64" in record else record["data"]
                connections[conn].receive(frame, record["ts_ns"])
    return connections


@pytest.fixture(scope="module", params=NAMES)
def replayed(request: pytest.FixtureRequest) -> tuple[dict[str, Connection], dict[str, Any]]:
    name: str = request.param
    path, expected_path = CAPTURES / f"{name}.jsonl.gz", CAPTURES / "expected" / f"{name}.json.gz"
    for needed in (path, expected_path):
        if not needed.exists():
            pytest.skip(f"{needed} is missing")
    with gzip.open(expected_path, "rt", encoding="utf-8") as file:
        return replay(name), json.load(file)


Replayed = tuple[dict[str, Connection], dict[str, Any]]


def test_every_frame_is_read_and_nothing_is_asked_for(replayed: Replayed) -> None:
    connections, expected = replayed
    assert sum(c.machine.statistics().frames for c in connections.values()) == expected["frames"]
    for connection in connections.values():
        assert (connection.machine.statistics().undecodable, connection.gaps) == (0, [])
        assert not any(isinstance(c, Reconnect | Refused) for c in connection.machine.commands())


def test_final_books(replayed: Replayed) -> None:
    connections, expected = replayed
    assert expected["symbols"]
    for symbol, truth in expected["symbols"].items():
        books = [connection.books[symbol] for connection in connections.values() if symbol in connection.books]
        wanted = len(connections) if expected["redundant"] else 1
        assert len(books) == (wanted if truth["state"] == "live" else 0)
        for book in books:
            assert [list(row) for row in book.texts(Side.BUY)] == truth["bids"]
            assert [list(row) for row in book.texts(Side.SELL)] == truth["asks"]
            assert not book.is_crossed()
            book.validate()


def test_checksums(replayed: Replayed) -> None:
    connections, expected = replayed
    for symbol, truth in expected["symbols"].items():
        counts = [c.machine.statistics().instruments.get(symbol) for c in connections.values()]
        good = sum(count.checksums_ok for count in counts if count)
        bad = sum(count.checksums_failed for count in counts if count)
        assert (good, bad) == (truth["checksums_ok"], truth["checksums_failed"])


def test_counts_of_messages(replayed: Replayed) -> None:
    connections, expected = replayed
    for symbol, truth in expected["symbols"].items():
        counts = {conn: c.machine.statistics().instruments.get(symbol) for conn, c in connections.items()}
        assert sum(count.snapshots for count in counts.values() if count) == truth["snapshots"]
        if not expected["redundant"]:
            assert sum(count.updates for count in counts.values() if count) == truth["deltas_applied"]
        for conn, told in truth.get("per_conn", {}).items():
            count = counts[conn]
            assert count is not None and count.updates == told["updates"]


def test_trades(replayed: Replayed) -> None:
    connections, expected = replayed
    for symbol, truth in expected["symbols"].items():
        for is_history, distinct, rows in (
            (False, truth["trades"], truth["trade_rows"]),
            (True, truth["trades_snapshot"], truth["trade_rows_snapshot"]),
        ):
            trades = [t for c in connections.values() for t in c.trades.get((symbol, is_history), [])]
            assert len({trade.trade_id for trade in trades}) == distinct
            assert len(trades) == rows


def test_trades_of_one_message_are_in_order(replayed: Replayed) -> None:
    connections, _ = replayed
    for connection in connections.values():
        for trades in connection.trades.values():
            sequences = [trade.sequence for trade in trades if trade.sequence]
            assert sequences == sorted(sequences)


def test_first_and_last_ids(replayed: Replayed) -> None:
    connections, expected = replayed
    for symbol, truth in expected["symbols"].items():
        for conn, connection in connections.items():
            if not connection.ids.get(symbol):
                continue
            told = truth.get("per_conn", {}).get(conn)
            first, last = (told["snapshot_id"], told["last_id"]) if told else (truth["first_id"], truth["last_id"])
            assert (connection.ids[symbol][0], connection.ids[symbol][-1]) == (first, last)
