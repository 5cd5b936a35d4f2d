"""What recording costs and how fast it is read: bytes and CPU per level row, rows a second, a book at an instant.

    python -m benchmarks.recording [bytes|cpu|read|book ...] [--quick] [--json FILE]

`bytes`: the large Binance captures (`RAYTRADE_CAPTURES`) as a recorder writes them, and compacted. `cpu`: what the sink
of a recorder takes for a row when all of them come at once, with certificates and the log, beside writing the same rows
with pyarrow from Python tuples. `read`: rows into Arrow on one core. `book`: the book at instants of a synthetic day.
Without captures a synthetic market takes their place, and the outcome says so.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.micro.inputs import captures_folder
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel
from raytrade.core.message import Message, decode, encode, parse
from raytrade.importer import Importer
from raytrade.storage.captures import Capture
from raytrade.storage.compaction import compact
from raytrade.storage.recording import open_recording
from raytrade.storage.schema import BOOK
from raytrade.storage.sink import ParquetSink, SinkSettings
from raytrade.storage.wal import Sync

INSTRUMENT = "binance-spot:BTCUSDT"
DAY_S = 86_400
START_NS = 1_700_006_400 * SECOND
LARGE_BYTES = 2_000_000
TOGETHER_NS = 20_000_000
TARGETS = {"bytes": "<= 4 a row", "cpu": "<= half of pyarrow's", "read": ">= 5 M rows/s a core", "book": "< 1 s"}
Stream = list[Message]
Timed = list[tuple[Nanos, Message]]


class _Kept(ParquetSink):
    """Keeps messages instead of writing them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.kept: Stream = []

    def write(self, messages: list[Message], now_ns: Nanos) -> None:
        self.kept += messages


def streams(quick: bool) -> tuple[dict[str, Stream], str]:
    """Give the messages of each large Binance capture, after the arbiter; else of a synthetic market."""
    folder = captures_folder()
    paths = sorted(path for path in folder.glob("binance-*/*.jsonl.gz") if path.stat().st_size > LARGE_BYTES)
    found: dict[str, Stream] = {}
    for path in paths[-1:] if quick else paths:
        with tempfile.TemporaryDirectory() as scratch:
            sink = _Kept(Path(scratch))
            Importer(Capture(path), sink).run()
            found[f"{path.parent.name}/{path.name}"] = [m for m in sink.kept if m.channel is Channel.BOOK]
    if found:
        return found, "captures"
    return {"synthetic": list(market(600 if quick else 3_600, 10))}, "synthetic"


def market(seconds: int, rate: int, levels: int = 4, seed: int = 1) -> Iterator[Message]:
    """Give one whole book, then so many updates a second around a touch that walks."""
    rng = random.Random(seed)
    mid = 6_000_000
    common: dict[str, Any] = {"instrument": INSTRUMENT, "price_scale": 2, "size_scale": 5}
    for number in range(seconds * rate):
        mid += rng.choice((-1, 0, 0, 0, 1))
        count = 500 if number == 0 else levels
        sides = {
            side: tuple(
                value
                for at in range(count)
                for value in (
                    mid + sign * (1 + (at if number == 0 else min(int(rng.expovariate(0.05)), 499))),
                    0 if number and rng.random() < 0.2 else int(rng.lognormvariate(8, 2)) + 1,
                )
            )
            for side, sign in (("bids", -1), ("asks", 1))
        }
        at_ns = START_NS + number * SECOND // rate
        fields = common | sides | {"id_last": number + 1, "ts_venue_ns": at_ns, "ts_recv_ns": at_ns + 3_000_000}
        event = BookDelta(id_prev=number, **fields) if number else BookSnapshot(depth=1000, **fields)
        yield parse(encode(event, "collector-a/binance-spot"))


def at_once(found: dict[str, Stream]) -> Timed:
    """Give all streams as if they had begun at the same instant; captures of one instrument become instruments."""
    merged: Timed = []
    for number, messages in enumerate(found.values()):
        name = f"{messages[0].instrument}-{number}"
        first_ns = messages[0].ts_recv_ns
        merged += [
            (START_NS + message.ts_recv_ns - first_ns, parse(encode(renamed(message, name), message.line)))
            for message in messages
        ]
    return sorted(merged, key=lambda timed: timed[0])


def renamed(message: Message, name: str) -> BookSnapshot | BookDelta:
    """Give the event of a message under another name."""
    event = decode(message)
    assert isinstance(event, BookSnapshot | BookDelta)
    return msgspec.structs.replace(event, instrument=name)


def alone(messages: Stream) -> Timed:
    """Give a stream with its own times."""
    return [(message.ts_recv_ns, message) for message in messages]


def write(directory: Path, timed: Timed, settings: SinkSettings, *, certify: bool = True) -> float:
    """Write as a recorder does: what comes within 20 ms together; gives the seconds of CPU."""
    sink = ParquetSink(directory, settings, certify=certify)
    began, flushed_ns, opened_ns = process_time(), 0, timed[0][0]
    group: Stream = []
    for at_ns, message in timed:
        if at_ns - opened_ns > TOGETHER_NS:
            sink.write(group, opened_ns)
            if opened_ns - flushed_ns >= SECOND:
                flushed_ns = opened_ns
                sink.flush_due(opened_ns)
            group, opened_ns = [], at_ns
        group.append(message)
    sink.write(group, opened_ns)
    sink.close()
    return process_time() - began


def size(directory: Path) -> tuple[int, int]:
    """Give the bytes and rows of the tables of books."""
    paths = list(directory.glob("venue=*/*/channel=book/*/*.parquet"))
    return sum(path.stat().st_size for path in paths), sum(pq.read_metadata(path).num_rows for path in paths)


def bytes_per_row(found: dict[str, Stream]) -> dict[str, Any]:
    """Write every capture and compact it."""
    table: dict[str, Any] = {}
    sums = [0, 0, 0]
    for name, messages in found.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), alone(messages), SinkSettings(), certify=False)
            written, rows = size(Path(folder))
            compact(Path(folder), "9999-01-01")
            compacted, _ = size(Path(folder))
        table[name] = {"rows": rows, "written": round(written / rows, 2), "compacted": round(compacted / rows, 2)}
        sums = [sums[0] + rows, sums[1] + written, sums[2] + compacted]
    table["all"] = {"rows": sums[0], "written": round(sums[1] / sums[0], 2), "compacted": round(sums[2] / sums[0], 2)}
    return table


def cpu_per_row(found: dict[str, Stream], rounds: int) -> dict[str, Any]:
    """Write the same rows in three ways, in turns, and give the least microseconds of CPU a row of each."""
    messages = at_once(found)
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "first", messages, SinkSettings(), certify=False)
        paths = sorted((Path(folder) / "first").glob("venue=*/*/channel=book/*/*.parquet"))
        parts = [[tuple(row.values()) for row in pq.ParquetFile(path).read().to_pylist()] for path in paths]
        rows = sum(map(len, parts))
        for number in range(rounds):
            place = Path(folder) / str(number)
            logged = SinkSettings(wal=Sync.INTERVAL)
            taken = {
                "segments only": write(place / "plain", messages, SinkSettings(), certify=False),
                "with certificates": write(place / "certified", messages, SinkSettings()),
                "with certificates and log": write(place / "logged", messages, logged),
                "pyarrow from tuples": write_tuples(place / "tuples", parts),
            }
            for name, seconds in taken.items():
                least[name] = min(least.get(name, 1e9), seconds * 1e6 / rows)
    ratio = least["with certificates and log"] / least["pyarrow from tuples"]
    return {"us a row": {name: round(value, 3) for name, value in least.items()}, "ratio": round(ratio, 3)}


def write_tuples(directory: Path, parts: list[list[tuple[Any, ...]]]) -> float:
    """Write rows that are Python tuples, a file of the same size for each segment."""
    directory.mkdir(parents=True)
    began = process_time()
    for number, rows in enumerate(parts):
        columns = [
            pa.array(column, _plain(field.type)) for column, field in zip(zip(*rows, strict=True), BOOK, strict=True)
        ]
        table = pa.table(columns, names=BOOK.names)
        pq.write_table(table, directory / f"{number}.parquet", compression="zstd", write_page_checksum=True)
    return process_time() - began


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def rows_per_second(found: dict[str, Stream], rounds: int) -> dict[str, Any]:
    """Read whole recordings into Arrow on one core, as written and compacted."""
    best: dict[str, float] = {}
    cores = pa.cpu_count()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, messages in enumerate(found.values()):
            write(Path(folder) / str(number), alone(messages), SinkSettings(), certify=False)
        for state in ("written", "compacted"):
            for _ in range(rounds):
                began, rows = process_time(), 0
                for number in range(len(found)):
                    recording = open_recording(Path(folder) / str(number))
                    rows += sum(recording.book(name, use_threads=False).num_rows for name in recording.instruments())
                best[state] = max(best.get(state, 0.0), rows / (process_time() - began))
            for number in range(len(found)):
                compact(Path(folder) / str(number), "9999-01-01")
    pa.set_cpu_count(cores)
    return {f"{state}, million rows/s": round(value / 1e6, 2) for state, value in best.items()}


def book_at(rate: int, draws: int) -> dict[str, Any]:
    """Ask for the book at instants drawn from a day that has one whole book, at its beginning."""
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_stream(directory, market(DAY_S, rate))
        outcome["rows"] = size(directory)[1]
        rng = random.Random(2)
        instants = [START_NS + rng.randrange(DAY_S * SECOND) for _ in range(draws)]
        for state in ("written", "compacted"):
            began = perf_counter()
            recording = open_recording(directory)
            recording.book_at(INSTRUMENT, START_NS)
            opened = perf_counter() - began
            seconds = []
            began_cpu = process_time()
            for at in instants:
                began = perf_counter()
                recording.book_at(INSTRUMENT, at)
                seconds.append(perf_counter() - began)
            ordered = sorted(seconds)
            outcome[state] = {
                "opened, s": round(opened, 3),
                "median, s": round(ordered[len(ordered) // 2], 3),
                "longest, s": round(ordered[-1], 3),
                "CPU each, s": round((process_time() - began_cpu) / draws, 3),
            }
            compact(directory, "9999-01-01")
    return outcome


def write_stream(directory: Path, messages: Iterator[Message]) -> None:
    """Write a stream without keeping it."""
    sink = ParquetSink(directory, SinkSettings(), certify=True)
    for number, message in enumerate(messages):
        sink.write([message], message.ts_recv_ns)
        if number % 100 == 0:
            sink.flush_due(message.ts_recv_ns)
    sink.close()


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description="Recording and reading")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one capture, one round, one update a second")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    names = options.names or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(TARGETS)}")
    rounds = 1 if options.quick else 3
    found, source = streams(options.quick) if set(names) - {"book"} else ({}, "synthetic")
    outcome: dict[str, Any] = {"source": source}
    for name in names:
        match name:
            case "bytes":
                outcome[name] = bytes_per_row(found)
            case "cpu":
                outcome[name] = cpu_per_row(found, rounds)
            case "read":
                outcome[name] = rows_per_second(found, rounds)
            case _:
                outcome[name] = book_at(1 if options.quick else 10, 5 if options.quick else 30)
        print(json.dumps({name: outcome[name], "target": TARGETS[name]}, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main()
