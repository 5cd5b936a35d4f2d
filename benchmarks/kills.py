"""kill -9 of a recorder at random moments: no file that cannot be read, no message lost, none twice.

    python -m benchmarks.kills [--kills 100] [--quick] [--seed N] [--json FILE]

A child process records a book and trades as a recorder does (log, segments, certificates, recovery at its start, going
on from its last ids) from a source that can give any id again, as a dedup's ring can. It is killed at a random moment,
its start included, and started again; the last one ends by itself. Then every file is read, the ids are counted, and
the recording is verified.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.core.events import BookDelta, BookSnapshot, Channel, Side, Trade
from raytrade.core.message import Message, encode, parse
from raytrade.storage.durable import last_ids, next_indexes
from raytrade.storage.recording import open_recording
from raytrade.storage.recovery import recover
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.verification import verify_recording
from raytrade.storage.wal import Sync

BTC = "binance-spot:BTCUSDT"
SETTINGS = SinkSettings(segment_age_s_max=1, segment_messages_max=3_000, wal=Sync.NONE)
PAUSE_S = 0.002
AT_ONCE = 20


def message(number: int, now_ns: int) -> list[Message]:
    """Give the update and the trade of an id."""
    common: dict[str, Any] = {"price_scale": 2, "size_scale": 3, "ts_venue_ns": now_ns, "ts_recv_ns": now_ns}
    sides: dict[str, Any] = {"bids": (10_000 - number % 50, number), "asks": (10_001 + number % 50, number)}
    if number == 1:
        book: BookSnapshot | BookDelta = BookSnapshot(instrument=BTC, id_last=1, **common, **sides)
    else:
        book = BookDelta(instrument=BTC, id_prev=number - 1, id_last=number, **common, **sides)
    trade = Trade(
        instrument=BTC,
        trade_id=str(number),
        sequence=number,
        price=10_000,
        size=number,
        aggressor=Side.BUY,
        **common,
    )
    return [parse(encode(book, "1")), parse(encode(trade, "1"))]


def record(directory: Path, until_s: float) -> None:
    """Be the recorder."""
    recover(directory, SETTINGS)
    known = last_ids(directory)
    book, trades = known.get(f"{BTC}/book", 0), known.get(f"{BTC}/trades", 0)
    sink = ParquetSink(directory, SETTINGS, next_indexes(directory), certify=True)
    number, flushed = min(book, trades), time.monotonic()
    end = time.monotonic() + until_s
    while time.monotonic() < end:
        now_ns = time.time_ns()
        batch: list[Message] = []
        for _ in range(AT_ONCE):
            number += 1
            update, trade = message(number, now_ns)
            batch += [update] * (number > book) + [trade] * (number > trades)
        sink.write(batch, now_ns)
        if time.monotonic() - flushed > 0.2:
            flushed = time.monotonic()
            sink.flush_due(now_ns)
        time.sleep(PAUSE_S)
    sink.close()


def start(directory: Path, until_s: float) -> subprocess.Popen[bytes]:
    """Start the recorder as a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.kills", "--child", str(directory), str(until_s)])


def run(directory: Path, kills: int, seed: int, start_up_s: float) -> dict[str, Any]:
    """Kill it so often and judge what is left."""
    rng = random.Random(seed)
    for _ in range(kills):
        child = start(directory, 3600)
        try:
            child.wait(start_up_s + rng.uniform(-0.3, 1.5))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        else:
            raise RuntimeError(f"the recorder ended by itself with status {child.returncode}")
    last = start(directory, 1.0)
    if last.wait(120):
        raise RuntimeError(f"the recorder ended with status {last.returncode}")
    return judge(directory) | {"kills": kills}


def judge(directory: Path) -> dict[str, Any]:
    """Read every file, count the ids, verify."""
    unreadable = []
    for path in sorted(directory.rglob("*.parquet")):
        try:
            pq.ParquetFile(path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as error:
            unreadable.append(f"{path}: {error}")
    found = verify_recording(directory, certify=True)
    recording = open_recording(directory)
    book = [event for event in recording.events(channels=[Channel.BOOK]) if isinstance(event, BookDelta | BookSnapshot)]
    trades = recording.trades(BTC).column("sequence").to_pylist()
    ids = [event.id_last for event in book]
    return {
        "files": len(list(directory.rglob("*.parquet"))),
        "starts": len({path.stem.rpartition("-")[0] for path in directory.glob("venue=*/**/*.parquet")}),
        "unreadable": unreadable,
        "left_over": [str(path) for path in [*directory.rglob("*.arrows"), *directory.rglob("*.part")]],
        "updates": len(ids),
        "updates_lost_or_twice": len(set(range(1, max(ids) + 1)) ^ set(ids)) + len(ids) - len(set(ids)),
        "trades_lost_or_twice": len(set(range(1, max(trades) + 1)) ^ set(trades)) + len(trades) - len(set(trades)),
        "in_order": ids == sorted(ids),
        "lies": [str(lie) for lie in found.lies],
    }


def start_up_s() -> float:
    """Measure how long the recorder takes from its start to its first file."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        child = start(Path(folder), 3600)
        while not list(Path(folder).glob("wal/*.arrows")):
            if child.poll() is not None:
                raise SystemExit(f"the recorder ended with status {child.returncode} before it wrote anything")
            time.sleep(0.01)
        child.kill()
        child.wait()
        return time.monotonic() - began


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and end with 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="kill -9 of a recorder")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="five kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        record(Path(options.child[0]), float(options.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), 5 if options.quick else options.kills, options.seed, start_up_s())
    text = json.dumps(outcome, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if is_bad(outcome):
        raise SystemExit(1)


def is_bad(outcome: dict[str, Any]) -> bool:
    """Tell whether anything is not as it should be."""
    names = ("unreadable", "left_over", "updates_lost_or_twice", "trades_lost_or_twice", "lies")
    return any(outcome[name] for name in names) or not outcome["in_order"]


if __name__ == "__main__":
    main()
