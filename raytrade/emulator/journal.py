"""The truth: what the market did, what was sent to whom, and every fault that was injected.

Invariant: nothing is written here that a client could not have been told; `delivered` means
handed to the socket of the connection. Called by the feeds and links (writing) and by checkers
(`Truth`). Memory: 20 bytes per update, 8 bytes per delivered message.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import IO

import msgspec

from raytrade.errors import ConfigError

from .digits import canonical_text
from .market import Step, SymbolBook, Trade
from .message import Content, Message

FAULTS_MAX = 1_000_000
"""Fault records kept in memory; the counts go on beyond it."""
FILE_BUFFER_BYTES = 1 << 20


class FaultRecord(msgspec.Struct, frozen=True):
    """One injected fault, with the ids of the message it hit (0 where it hit none)."""

    kind: str
    connection: int
    symbol: str
    id_first: int
    id_last: int
    time_ns: int


class TrueBook(msgspec.Struct, frozen=True):
    """A book as canonical decimal texts (no exponent, no trailing zeros), best level first."""

    id_last: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]

    def cut(self, depth: int) -> TrueBook:
        """Return the best `depth` levels per side."""
        return TrueBook(self.id_last, self.bids[:depth], self.asks[:depth])


class Truth(msgspec.Struct):
    """What really happened, up to the moment it was asked for.

    `ids[symbol]`, `levels[symbol]` and `sent_ns[symbol]` run in parallel: id at the end of each
    update, number of its levels, and wall time (ns) at which it was sent. In capture mode the
    symbol is `conn=<recorded id>` and the ids are frame indices of that recorded connection.
    """

    venue: str
    is_finished: bool
    ids: dict[str, list[int]]
    levels: dict[str, list[int]]
    sent_ns: dict[str, list[int]]
    trades: dict[str, list[int]]
    books: dict[str, TrueBook]
    opening_ids: dict[str, int]
    delivered: dict[int, dict[str, list[int]]]
    delivered_trades: dict[int, dict[str, list[int]]]
    faults: list[FaultRecord]
    fault_counts: dict[str, int]
    counts: dict[str, int]

    def book(self, symbol: str, depth: int | None = None) -> TrueBook:
        """Return the true book of a symbol, cut to `depth` levels per side if given."""
        book = self.books[symbol]
        return book if depth is None else book.cut(depth)

    def sent_at_ns(self, symbol: str) -> dict[int, int]:
        """Map each update id to the wall time (ns) at which it was sent."""
        return dict(zip(self.ids[symbol], self.sent_ns[symbol], strict=True))


class SymbolLog:
    """The updates and trades of one symbol, in arrays."""

    __slots__ = ("ids", "levels", "opening_id", "sent_ns", "trades")

    def __init__(self, opening_id: int) -> None:
        self.opening_id = opening_id
        self.ids = array("q")
        self.levels = array("i")
        self.sent_ns = array("q")
        self.trades = array("q")


class DeliveryLog:
    """What one connection was sent: ids by symbol, books and trades apart."""

    __slots__ = ("books", "trades")

    def __init__(self) -> None:
        self.books: dict[str, array[int]] = {}
        self.trades: dict[str, array[int]] = {}

    def add(self, message: Message) -> None:
        """Note a message handed to the socket."""
        if message.content is Content.CONTROL:
            return
        log = self.books if message.content is Content.BOOK else self.trades
        ids = log.get(message.symbol)
        if ids is None:
            ids = log[message.symbol] = array("q")
        ids.append(message.id_last)


class Journal:
    """Collects the truth in memory and, if a path is given, as JSON lines in a file.

    Raises:
        ConfigError: the file cannot be opened for writing.
    """

    def __init__(self, venue: str, path: str = "") -> None:
        self.venue = venue
        self._file: IO[bytes] | None = None
        self.symbols: dict[str, SymbolLog] = {}
        self.deliveries: dict[int, DeliveryLog] = {}
        self.faults: list[FaultRecord] = []
        self.fault_counts: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        if path:
            try:
                self._file = open(path, "wb", buffering=FILE_BUFFER_BYTES)  # noqa: SIM115
            except OSError as error:
                raise ConfigError("", "journal", f"cannot write {path}: {error}") from error

    def add_symbol(self, symbol: str, opening_id: int = 0) -> SymbolLog:
        """Begin the log of a symbol whose book starts at `opening_id`."""
        log = self.symbols[symbol] = SymbolLog(opening_id)
        return log

    def add_connection(self, connection: int, path: str) -> DeliveryLog:
        """Begin the log of a client connection."""
        self.counts["connections"] += 1
        self._write({"kind": "connect", "connection": connection, "path": path})
        log = self.deliveries[connection] = DeliveryLog()
        return log

    def add_update(self, step: Step, time_ns: int) -> None:
        """Note an update of the true book and when it was sent."""
        log = self.symbols[step.symbol]
        log.ids.append(step.id_last)
        log.levels.append(len(step.levels))
        log.sent_ns.append(time_ns)
        if self._file is not None:
            record = {"kind": "update", "symbol": step.symbol, "id_prev": step.id_prev}
            sizes = {"id_last": step.id_last, "levels": len(step.levels), "time_ns": time_ns}
            self._write(record | sizes)

    def add_trade(self, trade: Trade, time_ns: int) -> None:
        """Note a public trade."""
        self.symbols[trade.symbol].trades.append(trade.trade_id)
        if self._file is not None:
            record = {"kind": "trade", "symbol": trade.symbol, "trade_id": trade.trade_id}
            self._write(record | {"time_ns": time_ns})

    def add_frame(self, symbol: str, index: int, time_ns: int) -> None:
        """Note a captured frame whose time has come."""
        log = self.symbols[symbol]
        log.ids.append(index)
        log.levels.append(0)
        log.sent_ns.append(time_ns)

    def add_fault(self, kind: str, connection: int, message: Message | None = None) -> None:
        """Note an injected fault and the message it hit."""
        self.fault_counts[kind] += 1
        symbol, id_first, id_last = "", 0, 0
        if message is not None:
            symbol, id_first, id_last = message.symbol, message.id_first, message.id_last
        record = FaultRecord(kind, connection, symbol, id_first, id_last, time.time_ns())
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(record)
        if self._file is not None:
            self._write({"kind": "fault", "fault": record})

    def truth(self, books: Mapping[str, TrueBook], is_finished: bool) -> Truth:
        """Copy the truth as of now."""
        logs = self.symbols.items()
        deliveries = self.deliveries.items()
        return Truth(
            venue=self.venue,
            is_finished=is_finished,
            ids={symbol: log.ids.tolist() for symbol, log in logs},
            levels={symbol: log.levels.tolist() for symbol, log in logs},
            sent_ns={symbol: log.sent_ns.tolist() for symbol, log in logs},
            trades={symbol: log.trades.tolist() for symbol, log in logs},
            books=dict(books),
            opening_ids={symbol: log.opening_id for symbol, log in logs},
            delivered={number: _lists(log.books) for number, log in deliveries},
            delivered_trades={number: _lists(log.trades) for number, log in deliveries},
            faults=list(self.faults),
            fault_counts=dict(self.fault_counts),
            counts=dict(self.counts),
        )

    def close(self, books: Mapping[str, TrueBook]) -> None:
        """Write the final books and deliveries, and close the file."""
        if self._file is None:
            return
        for symbol, book in books.items():
            self._write({"kind": "book", "symbol": symbol, "book": book})
        for number, log in self.deliveries.items():
            sent = {"books": _lists(log.books), "trades": _lists(log.trades)}
            self._write({"kind": "delivered", "connection": number} | sent)
        self._file.close()
        self._file = None

    def _write(self, record: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(record) + b"\n")


def true_book(book: SymbolBook, price_scale: int, size_scale: int) -> TrueBook:
    """Print the true book with canonical digits."""

    def texts(levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
        return [(canonical_text(price, price_scale), canonical_text(size, size_scale)) for price, size in levels]

    return TrueBook(book.id_last, texts(book.best_bids()), texts(book.best_asks()))


def _lists(arrays: Mapping[str, array[int]]) -> dict[str, list[int]]:
    return {symbol: ids.tolist() for symbol, ids in arrays.items()}
