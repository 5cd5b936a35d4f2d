"""`Journal`: a file of records that survives its process: what `append` has returned from is on the disk.

Each record has its length and a checksum before it. One that was cut off by a crash is the last one, was never
acknowledged, and is left out when the file is read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

_HEADER = struct.Struct("<II")


class Journal:
    """One file, kept open; it and its directory are made where they are not there.

    Raises:
        OSError: from every method, where the system refuses. What was not written whole is not there afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = 0

    def read(self) -> list[bytes]:
        """Give all whole records, and cut off what follows them."""
        data = self.path.read_bytes()
        records, at = [], 0
        while at + _HEADER.size <= len(data):
            length, checksum = _HEADER.unpack_from(data, at)
            record = data[at + _HEADER.size : at + _HEADER.size + length]
            if len(record) < length or crc32(record) != checksum:
                break
            records.append(record)
            at += _HEADER.size + length
        self.size = at
        os.ftruncate(self._file, at)
        return records

    def append(self, records: Iterable[bytes]) -> None:
        """Write records, and have them on the disk."""
        data = _framed(records)
        try:
            written = os.pwrite(self._file, data, self.size)
            if written < len(data):
                raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def replace(self, records: Iterable[bytes]) -> None:
        """Put these records in the place of all that were there; a crash leaves the old ones or the new ones."""
        data = _framed(records)
        beside = self.path.with_name(self.path.name + ".new")
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, data)
            os.fsync(file)
            os.rename(beside, self.path)
        except OSError:
            os.close(file)
            raise
        os.close(self._file)
        self._file, self.size = file, len(data)
        directory = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def remove(self) -> None:
        """Nothing of it is wanted any more."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)


def _framed(records: Iterable[bytes]) -> bytes:
    return b"".join(_HEADER.pack(len(record), crc32(record)) + record for record in records)
