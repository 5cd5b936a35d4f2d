"""A day-scale recording in bounded memory: written, compacted, verified, queried, replayed.

    python -m benchmarks.day [--rows 100000000] [--instruments 8] [--keep DIR] [--json FILE]

A synthetic market is written by a recorder's sink as if it had come over 24 hours, 20 levels an update; every step
is a process of its own, whose largest resident size and CPU are reported. Ends with 1 if a step fails or takes more
than 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from raytrade.core.clock import SECOND
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.message import Message, encode, parse

START_NS = 1_700_006_400 * SECOND
DAY_NS = 86_400 * SECOND
LEVELS = 20
BATCH = 500
LIMIT_BYTES = 1_500_000_000
STEPS = ("write", "verify", "compact", "verify again", "query", "replay")
REPLAYED = 1_000_000
"""Events that are replayed of all instruments together; as many levels as `LEVELS` times that."""


def updates(number: int, count: int) -> Any:
    """Give the updates of one instrument, the first a whole book; a block of random numbers at a time."""
    rng = np.random.default_rng(number)
    mid, done, half = 1_000_000 * (number + 1), 0, LEVELS // 2
    common: dict[str, Any] = {"instrument": f"binance-spot:DAY{number}USDT", "price_scale": 2, "size_scale": 4}
    while done < count:
        offsets = 1 + np.minimum(rng.geometric(0.05, (BATCH, 2, half)), 400)
        sizes = np.where(rng.random((BATCH, 2, half)) < 0.2, 0, rng.geometric(0.001, (BATCH, 2, half)))
        steps = np.cumsum(rng.integers(-1, 2, BATCH)) + mid
        mid = int(steps[-1])
        prices = steps[:, None, None] + offsets * np.array([-1, 1])[None, :, None]
        flat = np.stack([prices, sizes], axis=3).reshape(BATCH, 2, LEVELS).tolist()
        for bids, asks in flat[: count - done]:
            done += 1
            at_ns = START_NS + DAY_NS * done // (count + 1)
            fields: dict[str, Any] = common | {"bids": tuple(bids), "asks": tuple(asks), "id_last": done}
            times: dict[str, Any] = {"ts_venue_ns": at_ns, "ts_recv_ns": at_ns + 2_000_000}
            if done == 1:
                yield BookSnapshot(**fields, **times)
            else:
                yield BookDelta(id_prev=done - 1, **fields, **times)


def write(directory: Path, rows: int, instruments: int) -> dict[str, Any]:
    """Write the day; the instruments take turns, as in one stream of time."""
    from raytrade.storage.sink import ParquetSink, SinkSettings
    from raytrade.storage.wal import Sync

    sink = ParquetSink(directory, SinkSettings(wal=Sync.NONE), certify=True)
    count = rows // LEVELS // instruments
    sources = [updates(number, count) for number in range(instruments)]
    now_ns = START_NS
    while batch := _messages(sources):
        now_ns = batch[-1].ts_recv_ns
        sink.write(batch, now_ns)
        sink.flush_due(now_ns)
    sink.close()
    return {"rows": sink.counts.rows, "segments": sink.counts.segments}


def _messages(sources: list[Any]) -> list[Message]:
    found = [parse(encode(event, "a")) for source in sources for event in islice(source, BATCH // len(sources) + 1)]
    return sorted(found, key=lambda message: message.ts_recv_ns)


def compact_day(directory: Path) -> dict[str, Any]:
    """Compact it."""
    from raytrade.storage.compaction import compact

    done = compact(directory, "9999-01-01")
    assert not done.problems, done.problems
    return {"files": done.results, "bytes a row": round(done.bytes_after / done.rows, 2)}


def verify(directory: Path) -> dict[str, Any]:
    """Compute every certificate again."""
    from raytrade.storage.verification import verify_recording

    found = verify_recording(directory)
    assert not found.lies, found.lies[:3]
    return {"certified": sum(report.certified for report in found.streams)}


def query(directory: Path) -> dict[str, Any]:
    """Ask in SQL."""
    from raytrade.storage.queries import Database
    from raytrade.storage.recording import open_recording

    text = "SELECT instrument, count(*) AS n, max(price) AS highest FROM book GROUP BY ALL ORDER BY instrument"
    table = Database(open_recording(directory)).query(text)
    return {"rows": sum(table.column("n").to_pylist()), "instruments": table.num_rows}


def replay(directory: Path) -> dict[str, Any]:
    """Play a part of it into books, all instruments merged."""
    from raytrade.core.book import L2Book
    from raytrade.storage.recording import open_recording

    books: dict[str, L2Book] = {}
    count = 0
    for _, event in islice(open_recording(directory).timed_events(), REPLAYED):
        if isinstance(event, BookDelta | BookSnapshot):
            books.setdefault(event.instrument, L2Book(event.instrument)).apply(event)
            count += 1
    return {"updates": count, "books": len(books)}


def step(name: str, directory: Path, rows: int, instruments: int) -> dict[str, Any]:
    """Run one step in this process."""
    began = perf_counter()
    match name:
        case "write":
            outcome = write(directory, rows, instruments)
        case "compact":
            outcome = compact_day(directory)
        case "query":
            outcome = query(directory)
        case "replay":
            outcome = replay(directory)
        case _:
            outcome = verify(directory)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss * 1024
    cpu = round(usage.ru_utime + usage.ru_stime, 1)
    return outcome | {"seconds": round(perf_counter() - began, 1), "CPU seconds": cpu, "peak bytes": peak}


def run(directory: Path, rows: int, instruments: int) -> dict[str, Any]:
    """Run every step as a process of its own."""
    outcome: dict[str, Any] = {}
    for name in STEPS:
        command = [sys.executable, "-m", "benchmarks.day", "--step", name, "--keep", str(directory)]
        command += ["--rows", str(rows), "--instruments", str(instruments)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{name}: {ended.stderr.strip()[-2000:]}")
        outcome[name] = json.loads(ended.stdout)
        print(json.dumps({name: outcome[name]}), flush=True)
    return outcome


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description="A day-scale recording")
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--instruments", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="write there and leave it")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        print(json.dumps(step(options.step, options.keep, options.rows, options.instruments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(options.keep or Path(folder), options.rows, options.instruments)
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1) + "\n")
    if max(figures["peak bytes"] for figures in outcome.values()) > LIMIT_BYTES:
        raise SystemExit("a step took more than 1.5 GB")


if __name__ == "__main__":
    main()
