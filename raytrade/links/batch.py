"""The envelope of a batch: whose link it belongs to, its place in it, and whole messages one after the other.

A batch without messages is a heartbeat. A closing batch says in words why its link ends for good. Whatever carries
batches may lose, repeat or reorder them: the reader sees it by `(link, index)`.
"""

from __future__ import annotations

import struct

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.message import SCHEMA_VERSION, Message, split_checked
from raytrade.errors import MalformedBatch, VersionSkew

_MAGIC = b"RTBT"
_CLOSING = b"RTCL"
_HEADER = struct.Struct("<4sHIQQqIQ")
SAMPLED_EVERY = 4
"""Of how many batches one is timed."""
BATCH_BYTES_MAX = 128 * 1024 * 1024


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """`link` names one opening of a link, `index` counts its batches, `next_index` is the writer's ring index after it.

    `ts_sent_ns` is the writer's clock when the batch was cut. `closing` is the reason why this is the last one.
    """

    link: int
    index: int
    next_index: int
    ts_sent_ns: Nanos
    count: int
    closing: str = ""


def encode_batch(header: BatchHeader, payload: bytes) -> bytes:
    """Put an envelope around messages, or around the reason of a closing batch."""
    if header.closing:
        payload = header.closing.encode()
    return (
        _HEADER.pack(
            _CLOSING if header.closing else _MAGIC,
            SCHEMA_VERSION,
            header.count,
            header.link,
            header.index,
            header.ts_sent_ns,
            len(payload),
            header.next_index,
        )
        + payload
    )


def decode_batch(data: bytes) -> tuple[BatchHeader, list[Message]]:
    """Open the envelope.

    Raises:
        VersionSkew: the writer speaks another schema.
        MalformedBatch: the bytes are not a whole batch.
    """
    if len(data) < _HEADER.size or len(data) > BATCH_BYTES_MAX:
        raise MalformedBatch(f"batch of {len(data)} bytes")
    magic, version, count, link, index, ts_sent_ns, length, next_index = _HEADER.unpack_from(data)
    if magic != _MAGIC and magic != _CLOSING:
        raise MalformedBatch(f"batch begins with {data[:4]!r}")
    if version != SCHEMA_VERSION:
        raise VersionSkew(version, SCHEMA_VERSION)
    if length != len(data) - _HEADER.size:
        raise MalformedBatch(f"batch of {len(data)} bytes claims {length + _HEADER.size}")
    if magic == _CLOSING:
        reason = data[_HEADER.size :].decode(errors="replace") or "no reason given"
        return BatchHeader(link, index, next_index, ts_sent_ns, 0, reason), []
    messages = split_checked(data, _HEADER.size)
    if len(messages) != count:
        raise MalformedBatch(f"batch of {len(messages)} messages claims {count}")
    return BatchHeader(link, index, next_index, ts_sent_ns, count), messages
