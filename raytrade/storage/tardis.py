"""A recording as Tardis CSV: ``incremental_book_L2``, ``book_snapshot_25``, ``trades`` and ``quotes``.

https://docs.tardis.dev/downloadable-csv-files/data-types (read 2026-11-23): one gzipped file per kind, day (of the
receive time, UTC) and symbol; times in microseconds, cut off; prices and sizes are exact text. Each day begins with the
whole book. Deltas that no book may use (`UNAPPLIED`) are left out, and so is what follows a gap until the next whole
book, which is marked as a snapshot. A row of the best levels or a quote stands where they have changed and the book was
LIVE with both sides; missing levels are empty.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Event, Flag, Side, Trade
from raytrade.core.instrument import split_instrument
from raytrade.core.message import decode
from raytrade.core.prices import format_decimal
from raytrade.replay import Timed, apply
from raytrade.storage.day_files import Pending, day_of

NAMES = {
    "binance-spot": "binance",
    "binance-usdm": "binance-futures",
    "binance-coinm": "binance-delivery",
    "hitbtc-v2": "hitbtc",
    "kraken-v2": "kraken",
    "coinbase-advanced": "coinbase",
    "bybit-v5": "bybit-spot",
    "gemini-v2": "gemini",
    "okx-v5": "okex",
}
"""What Tardis calls the venues that it has; others keep our name."""

SNAPSHOT_LEVELS = 25
_COMMON = "exchange,symbol,timestamp,local_timestamp"
_LEVELS = [
    f"{side}[{at}].{what}" for at in range(SNAPSHOT_LEVELS) for side in ("asks", "bids") for what in ("price", "amount")
]
HEADERS = {
    "incremental_book_L2": f"{_COMMON},is_snapshot,side,price,amount",
    "book_snapshot_25": ",".join([_COMMON, *_LEVELS]),
    "trades": f"{_COMMON},id,side,price,amount",
    "quotes": f"{_COMMON},ask_amount,ask_price,bid_price,bid_amount",
}
_AGGRESSORS = {Side.BUY: "buy", Side.SELL: "sell", Side.NONE: "unknown"}
_NO_LEVEL = ("", "")
_COMPRESSION = 6


def export_tardis(instrument: str, messages: Iterable[Timed], out: Path) -> list[Path]:
    """Write the files of one instrument; `messages` are its book and trades in the order of time.

    Raises:
        OSError: a file cannot be written; then none of them is there.
    """
    with Pending(out) as pending:
        writer = _Writer(instrument, pending)
        for _, message in messages:
            event = decode(message)
            if isinstance(event, Trade):
                writer.take_trade(event)
            else:
                writer.begin_day(event)
                apply(writer.book, event)
                if isinstance(event, BookDelta | BookSnapshot):
                    writer.take_book(event)
    return pending.written


class _Writer:
    """One instrument on its way into files."""

    def __init__(self, instrument: str, pending: Pending) -> None:
        venue, symbol = split_instrument(instrument)
        self.book = L2Book(instrument)
        self._exchange, self._symbol = NAMES.get(venue, venue), symbol.upper()
        self._pending = pending
        self._files: dict[tuple[str, str], IO[str]] = {}
        self._best: tuple[list[tuple[str, str]], ...] = ()
        self._day = ""

    def begin_day(self, event: Event) -> None:
        """Write the book as it stands when the first event of another day comes."""
        day = day_of(event.ts_recv_ns)
        if day != self._day and self.book.state is BookState.LIVE and isinstance(event, BookDelta):
            times = {"ts_recv_ns": event.ts_recv_ns, "ts_venue_ns": event.ts_venue_ns}
            self.take_book(msgspec.structs.replace(self.book.snapshot(), **times))
        self._day = day

    def _write(self, kind: str, ts_recv_ns: Nanos, text: str) -> None:
        day = day_of(ts_recv_ns)
        file = self._files.get((kind, day))
        if file is None:
            symbol = quote(self._symbol, safe="")
            path = self._pending.path(f"{self._exchange}_{kind}_{day}_{symbol}.csv.gz")
            opened = gzip.open(path, "wt", _COMPRESSION, encoding="utf-8", newline="\n")  # noqa: SIM115 - kept open
            file = self._files[kind, day] = self._pending.keep(opened)
            file.write(HEADERS[kind] + "\n")
        file.write(text)

    def _start(self, event: BookDelta | BookSnapshot | Trade) -> str:
        local_us = event.ts_recv_ns // 1000
        return f"{self._exchange},{self._symbol},{event.ts_venue_ns // 1000 or local_us},{local_us},"

    def take_trade(self, trade: Trade) -> None:
        """Write a trade, unless it is from before the subscription."""
        if not trade.flags & Flag.HISTORY:
            price, size = format_decimal(trade.price, trade.price_scale), format_decimal(trade.size, trade.size_scale)
            row = f"{self._start(trade)}{trade.trade_id},{_AGGRESSORS[trade.aggressor]},{price},{size}\n"
            self._write("trades", trade.ts_recv_ns, row)

    def take_book(self, event: BookDelta | BookSnapshot) -> None:
        """Write what has come of the book, which has taken it in."""
        book = self.book
        if book.state is not BookState.LIVE or event.flags & Flag.UNAPPLIED:
            return
        start = self._start(event)
        is_snapshot = isinstance(event, BookSnapshot)
        levels = [(side, book.texts(side)) for side in (Side.BUY, Side.SELL)] if is_snapshot else _changes(event)
        flag = "true" if is_snapshot else "false"
        rows = [
            f"{start}{flag},{'bid' if side is Side.BUY else 'ask'},{price},{size}\n"
            for side, texts in levels
            for price, size in texts
        ]
        if rows:
            self._write("incremental_book_L2", event.ts_recv_ns, "".join(rows))
        self._take_best(start, event.ts_recv_ns)

    def _take_best(self, start: str, ts_recv_ns: Nanos) -> None:
        asks, bids = (self.book.texts(side, SNAPSHOT_LEVELS) for side in (Side.SELL, Side.BUY))
        last, self._best = self._best, (asks, bids)
        if not asks or not bids or last == self._best:
            return
        cells: list[str] = []
        for at in range(SNAPSHOT_LEVELS):
            for side in (asks, bids):
                cells += side[at] if at < len(side) else _NO_LEVEL
        self._write("book_snapshot_25", ts_recv_ns, f"{start}{','.join(cells)}\n")
        if not last or (last[0][:1], last[1][:1]) != (asks[:1], bids[:1]):
            (ask, ask_size), (bid, bid_size) = asks[0], bids[0]
            self._write("quotes", ts_recv_ns, f"{start}{ask_size},{ask},{bid},{bid_size}\n")


def _changes(event: BookDelta | BookSnapshot) -> list[tuple[Side, list[tuple[str, str]]]]:
    """Give the levels of an event as texts."""
    found = []
    for side, flat in ((Side.BUY, event.bids), (Side.SELL, event.asks)):
        prices = [format_decimal(price, event.price_scale) for price in flat[::2]]
        sizes = [format_decimal(size, event.size_scale) for size in flat[1::2]]
        found.append((side, list(zip(prices, sizes, strict=True))))
    return found
