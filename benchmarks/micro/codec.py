"""A batch of messages of 8 levels, written and read again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

from benchmarks.micro.inputs import Feed, deltas_of
from benchmarks.micro.rounds import Benchmark, Contender, Work
from raytrade.core.events import BookDelta
from raytrade.core.message import decode, encode
from raytrade.links.batch import BatchHeader, decode_batch, encode_batch

BATCH = 64
SIDE_LEVELS = 4
LINE = "east/1"


def benchmark(feed: Feed) -> Benchmark:
    """Give the benchmark of the codec."""
    deltas = [
        msgspec.structs.replace(delta, bids=delta.bids[: 2 * SIDE_LEVELS], asks=delta.asks[: 2 * SIDE_LEVELS])
        for delta in deltas_of(feed)
        if min(len(delta.bids), len(delta.asks)) >= 2 * SIDE_LEVELS
    ]
    batches = [deltas[at : at + BATCH] for at in range(0, len(deltas), BATCH)]

    def each(work_on: Callable[[list[BookDelta]], object]) -> Callable[[], Work]:
        def work() -> None:
            for batch in batches:
                work_on(batch)

        return lambda: work

    source = f"{feed.source}; those with {SIDE_LEVELS} levels a side, cut to them, {BATCH} to a batch"
    contenders = [
        Contender("raytrade, to events", each(_ours), "bytes to all fields and levels"),
        Contender("raytrade, to headers", each(_forwarded), "what an arbiter needs; levels stay bytes"),
        Contender("pickle, protocol 5", each(_pickle), ""),
        Contender("msgspec, typed MessagePack", each(_msgpack), ""),
        Contender("pyarrow, a RecordBatch of 8 rows each", each(_arrow), "back to columns, not to objects"),
    ]
    return Benchmark("codec", "Codec, there and back", "message", len(deltas), source, contenders)


def _written(batch: list[BookDelta]) -> bytes:
    return encode_batch(BatchHeader(1, 2, 3, 4, len(batch)), b"".join([encode(delta, LINE) for delta in batch]))


def _ours(batch: list[BookDelta]) -> object:
    return [decode(message) for message in decode_batch(_written(batch))[1]]


def _forwarded(batch: list[BookDelta]) -> object:
    return decode_batch(_written(batch))


def _pickle(batch: list[BookDelta]) -> object:
    return pickle.loads(pickle.dumps(batch, protocol=5))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[BookDelta])


def _msgpack(batch: list[BookDelta]) -> object:
    return _decoder.decode(_encoder.encode(batch))


_SCHEMA = pa.schema(
    [
        ("price", pa.int64()),
        ("size", pa.int64()),
        ("is_bid", pa.bool_()),
        ("id_prev", pa.int64()),
        ("id_last", pa.int64()),
    ]
)


def _arrow(batch: list[BookDelta]) -> object:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for delta in batch:
            writer.write_batch(_record_batch(delta))
    with pa.ipc.open_stream(sink.getvalue()) as reader:
        return [part.to_pydict() for part in reader]


def _record_batch(delta: BookDelta) -> Any:
    bids, asks = delta.bids, delta.asks
    rows = (len(bids) + len(asks)) // 2
    columns = [
        pa.array(bids[::2] + asks[::2], pa.int64()),
        pa.array(bids[1::2] + asks[1::2], pa.int64()),
        pa.array([True] * (len(bids) // 2) + [False] * (len(asks) // 2), pa.bool_()),
        pa.array([delta.id_prev] * rows, pa.int64()),
        pa.array([delta.id_last] * rows, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
