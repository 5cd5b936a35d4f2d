"""Small captures made by a test."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.importer import Importer
from raytrade.storage.captures import Capture
from raytrade.storage.sink import ParquetSink

START_NS: Nanos = 1_700_000_000 * SECOND
Pairs = list[list[str]]


def header(
    venue: str = "binance-spot", symbols: tuple[str, ...] = ("BTCUSDT",), conns: tuple[str, ...] = ("1",)
) -> Any:
    return {"kind": "header", "version": 1, "venue": venue, "symbols": list(symbols), "connections": list(conns)}


def recv(at_ms: int, frame: object, conn: str = "1") -> dict[str, Any]:
    """Give the record of a frame: text or bytes as they are, anything else as JSON."""
    record: dict[str, Any] = {"kind": "recv", "conn": conn, "ts_ns": START_NS + at_ms * MILLISECOND}
    if isinstance(frame, bytes):
        return record | {"b64": base64.b64encode(frame).decode()}
    return record | {"data": frame if isinstance(frame, str) else json.dumps(frame)}


def depth(first: int, last: int, bids: Pairs, asks: Pairs, symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 1_700_000_000_000, "s": symbol, "U": first, "u": last, "b": bids, "a": asks}


def rest(at_ms: int, last: int, bids: Pairs, asks: Pairs, symbol: str = "BTCUSDT") -> dict[str, Any]:
    body = json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks})
    url = f"https://api.binance.com/api/v3/depth?symbol={quote(symbol)}&limit=1000"
    return {"kind": "rest", "ts_ns": START_NS + at_ms * MILLISECOND, "url": url, "status": None, "data": body}


def good(symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    """Give a little life of a Binance book: five deltas, the second already in the snapshot."""
    records = [
        recv(0, depth(1, 10, [["99", "1"]], [], symbol)),
        rest(50, 10, [["100", "1"], ["99", "1"]], [["101", "2"]], symbol),
    ]
    for at in range(1, 5):
        records += [recv(100 * at, depth(10 * at + 1, 10 * at + 10, [["100", str(at)]], [["102", "0.5"]], symbol))]
    return records


def write(path: Path, *records: object) -> Path:
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    return path


def imported(path: Path, out: Path | None = None) -> Importer:
    importer = Importer(Capture(path), ParquetSink(out) if out is not None else None)
    importer.run()
    return importer
