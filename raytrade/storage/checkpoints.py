"""Checkpoints: whole books beside a recording, so that the book of any instant is read from near by.

``checkpoints/venue=V/instrument=S/date=D/<start>-<index>.parquet`` is the book behind the message `index` of a start,
as the one snapshot of a table like that of the books. A sink that keeps accounts has the book and writes one when
enough rows have passed to make it worth its bytes. They are a shortcut only: without them, or where one cannot be read,
the same book is folded from the last snapshot of the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa

from raytrade.core.events import BookSnapshot, Flag
from raytrade.core.instrument import split_instrument
from raytrade.core.message import encode, parse
from raytrade.core.prices import FRACTION_DIGITS_MAX
from raytrade.errors import StorageError
from raytrade.storage.accounts import Account, Head
from raytrade.storage.day_files import day_of
from raytrade.storage.decoding import BOOK_COLUMNS, book_events
from raytrade.storage.files import write_table
from raytrade.storage.names import span_of, start_of
from raytrade.storage.schema import BOOK, book_rows, writing_of
from raytrade.storage.segments import open_file

FOLDER = "checkpoints"
ROWS_BETWEEN = 50_000
LEVELS_SHARE = 20
"""Rows that must have passed for each level of the book: a checkpoint adds a twentieth to the files at most."""


class Checkpoints:
    """Writes those of one start of a sink."""

    def __init__(self, directory: Path, start: str) -> None:
        self._directory = directory
        self._start = start
        self._rows: dict[str, int] = {}

    def take(self, account: Account, rows: int) -> None:
        """Write the book of an account, if that is worth it after so many more rows.

        Raises:
            StorageError: it could not be written.
        """
        instrument, head = account.instrument, account.head
        passed = self._rows[instrument] = self._rows.get(instrument, 0) + rows
        if head is None or not account.book.is_whole or passed < ROWS_BETWEEN:
            return
        sides = account.book.levels(0), account.book.levels(1)
        if passed < LEVELS_SHARE * sum(map(len, sides)):
            return
        event = _image(instrument, head, sides)
        table = pa.Table.from_batches([book_rows([parse(encode(event, ""))], [head.index])]).cast(BOOK)
        folder = _folder(self._directory, instrument) / f"date={day_of(head.ts_recv_ns)}"
        write_table(folder / f"{self._start}-{head.index:012d}.parquet", table, compression="zstd", **writing_of(BOOK))
        self._rows[instrument] = 0


def _image(instrument: str, head: Head, sides: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> BookSnapshot:
    divisors = 10 ** (FRACTION_DIGITS_MAX - head.price_scale), 10 ** (FRACTION_DIGITS_MAX - head.size_scale)
    bids, asks = (
        tuple(value // divisor for level in side for value, divisor in zip(level, divisors, strict=True))
        for side in sides
    )
    return BookSnapshot(
        instrument=instrument,
        id_last=head.id_last,
        bids=bids,
        asks=asks,
        price_scale=head.price_scale,
        size_scale=head.size_scale,
        ts_venue_ns=head.ts_venue_ns,
        ts_recv_ns=head.ts_recv_ns,
        epoch=head.epoch,
        depth=head.depth,
        flags=Flag.IMAGE,
    )


def _folder(directory: Path, instrument: str) -> Path:
    venue, symbol = split_instrument(instrument)
    return directory / FOLDER / f"venue={quote(venue, safe='')}" / f"instrument={quote(symbol, safe='')}"


def checkpoint_before(
    directory: Path, instrument: str, start: str, bounds: tuple[int, int], skip: Callable[[StorageError], None]
) -> tuple[int, BookSnapshot] | None:
    """Give the last readable checkpoint of a start whose index is within bounds (both inside), and its index."""
    paths = _folder(directory, instrument).glob(f"date=*/{start}-*.parquet")
    spans = [(span[0], path) for path in paths if (span := span_of(path)) is not None and start_of(path) == start]
    for index, path in sorted(spans, reverse=True):
        if bounds[0] <= index <= bounds[1]:
            try:
                return index, read_checkpoint(path, instrument)
            except StorageError as error:
                skip(error)
    return None


def read_checkpoint(path: Path, instrument: str) -> BookSnapshot:
    """Read one.

    Raises:
        StorageError: it cannot be read, or is no checkpoint.
    """
    with open_file(path, BOOK) as file, suppress(OSError, pa.ArrowException, ValueError, IndexError):
        batches = file.read(columns=BOOK_COLUMNS, use_threads=False).select(BOOK_COLUMNS).to_batches()
        ((_, event),) = (numbered for block in book_events(instrument, batches, str(path)) for numbered in block)
        if isinstance(event, BookSnapshot):
            return event
    raise StorageError(str(path), "is no checkpoint")


def checkpoint_paths(directory: Path) -> list[tuple[Path, str]]:
    """Give every checkpoint, each with its instrument."""
    paths = sorted((directory / FOLDER).glob("venue=*/instrument=*/date=*/*.parquet"))
    names = [[unquote(part.partition("=")[2]) for part in path.parts[-4:-2]] for path in paths]
    return [(path, ":".join(name)) for path, name in zip(paths, names, strict=True)]
