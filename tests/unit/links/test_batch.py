from __future__ import annotations

import struct

import pytest

from raytrade.core.message import SCHEMA_VERSION, join
from raytrade.errors import MalformedBatch, VersionSkew
from raytrade.links import batch
from raytrade.links.batch import BatchHeader, decode_batch, encode_batch
from tests.unit.links.streams import delta, trade

MESSAGES = [delta("A", 1), trade("B", 2)]
HEADER = BatchHeader(2**64 - 1, 3, 2**63 - 1, -5, 2)


def test_what_is_opened_is_what_was_closed() -> None:
    assert decode_batch(encode_batch(HEADER, join(MESSAGES))) == (HEADER, MESSAGES)


def test_a_heartbeat_has_no_messages() -> None:
    header = BatchHeader(1, 2, 3, 4, 0)
    assert decode_batch(encode_batch(header, b"")) == (header, [])


def test_another_schema_is_refused() -> None:
    raw = bytearray(encode_batch(HEADER, join(MESSAGES)))
    struct.pack_into("<H", raw, 4, SCHEMA_VERSION + 1)
    with pytest.raises(VersionSkew) as caught:
        decode_batch(bytes(raw))
    assert (caught.value.found, caught.value.expected) == (SCHEMA_VERSION + 1, SCHEMA_VERSION)


def test_every_truncation_is_refused() -> None:
    raw = encode_batch(HEADER, join(MESSAGES))
    for length in range(len(raw)):
        with pytest.raises(MalformedBatch):
            decode_batch(raw[:length])
    with pytest.raises(MalformedBatch):
        decode_batch(raw + b"\0")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_count_is_refused(count: int) -> None:
    with pytest.raises(MalformedBatch, match=f"claims {count}"):
        decode_batch(encode_batch(BatchHeader(1, 0, 0, 0, count), join(MESSAGES)))


def test_a_foreign_beginning_is_refused() -> None:
    with pytest.raises(MalformedBatch, match="begins with"):
        decode_batch(b"X" + encode_batch(HEADER, join(MESSAGES))[1:])


def test_a_batch_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode_batch(HEADER, join(MESSAGES))
    monkeypatch.setattr(batch, "BATCH_BYTES_MAX", len(raw) - 1)
    with pytest.raises(MalformedBatch, match="batch of"):
        decode_batch(raw)
