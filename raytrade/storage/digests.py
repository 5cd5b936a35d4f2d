"""`RowsDigest`: a hash over the content of rows, whichever way they are cut into files and encoded in them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa


class RowsDigest:
    """Takes tables of the same columns, in order; equal digests mean equal rows in equal order."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, Any] = {}

    def update(self, table: pa.Table) -> None:
        """Take the rows of a table."""
        self.rows += table.num_rows
        for name, column in zip(table.column_names, table.columns, strict=True):
            digest = self._columns.setdefault(name, sha256())
            for chunk in column.chunks:
                digest.update(_content(chunk))
            if pa.types.is_decimal(column.type):
                missing = self._columns.setdefault(f"{name} is missing", sha256())
                missing.update(column.is_null().to_numpy().view(np.uint8).data)

    def text(self) -> str:
        """Give the digest of all rows taken so far."""
        whole = sha256(str(self.rows).encode())
        for name, digest in sorted(self._columns.items()):
            whole.update(name.encode() + digest.digest())
        return whole.hexdigest()[:32]


def _content(chunk: pa.Array) -> Any:
    kind = chunk.type
    if pa.types.is_dictionary(kind):
        crcs = [crc32(str(text).encode()) for text in chunk.dictionary.to_pylist()]
        codes = chunk.indices.fill_null(len(crcs)).to_numpy(zero_copy_only=False)
        return np.array([*crcs, 0], np.uint32)[codes].data
    if pa.types.is_decimal(kind):
        words = np.frombuffer(chunk.buffers()[1], "V16")[chunk.offset : chunk.offset + len(chunk)]
        if chunk.null_count:
            words = words.copy()
            words[chunk.is_null().to_numpy(zero_copy_only=False)] = np.void(b"\0" * 16)
        return np.ascontiguousarray(words).view(np.uint8).data
    if pa.types.is_string(kind):
        return b"".join(b"%d:" % len(text) + text for text in (str(value).encode() for value in chunk.to_pylist()))
    return np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).view(np.uint8).data
