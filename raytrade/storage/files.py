"""Files that are there whole or not at all: written under another name, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raytrade.errors import StorageError

QUARANTINE = "quarantine"
PAGE_BYTES = 64 * 1024
"""Pages this small keep the memory of a reader that merges many streams small; each has a checksum."""


def write_table(path: Path, table: pa.Table, **options: Any) -> int:
    """Write a Parquet file with checksums on its pages; gives its size in bytes.

    Raises:
        StorageError: it could not be written; nothing is left of it.
    """
    options = {"write_page_checksum": True, "data_page_size": PAGE_BYTES} | options
    return _write(path, lambda temporary: pq.write_table(table, temporary, **options))


def write_text(path: Path, data: bytes) -> int:
    """Write bytes; gives their number.

    Raises:
        StorageError: it could not be written; nothing is left of it.
    """
    return _write(path, lambda temporary: temporary.write_bytes(data))


def _write(path: Path, write: Callable[[Path], object]) -> int:
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        size = put_in_place(temporary, path)
    except OSError as error:
        discard(temporary, path)
        raise StorageError(str(path), f"cannot be written: {reason_of(error)}") from None
    except BaseException:
        discard(temporary, path)
        raise
    return size


def move_aside(directory: Path, path: Path) -> Path:
    """Move a file that cannot be used out of a recording's way, to the same place under ``quarantine``; gives where.

    Raises:
        OSError: it cannot be moved.
    """
    aside = directory / QUARANTINE / path.relative_to(directory)
    aside.parent.mkdir(parents=True, exist_ok=True)
    path.rename(aside)
    return aside


def reason_of(error: OSError) -> str:
    """Say in one line what the system says."""
    return " ".join((error.strerror or str(error)).split())


def put_in_place(temporary: Path, path: Path) -> int:
    """Give a file that is written its name, from one moment to the next; gives its size in bytes.

    Raises:
        OSError: the device does not take it.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    size = temporary.stat().st_size
    temporary.rename(path)
    _sync_directory(path.parent)
    return size


def discard(*paths: Path) -> None:
    """Remove what a failed write has left, so that the next one does not write it twice."""
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
