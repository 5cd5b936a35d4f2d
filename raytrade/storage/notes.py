"""The tables of gaps and states held against what their certificates say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from raytrade.errors import StorageError
from raytrade.storage.certificates import CertificateFile
from raytrade.storage.digests import RowsDigest
from raytrade.storage.names import segments_in, span_of, start_of
from raytrade.storage.segments import read_gaps, read_states

READERS: dict[str, Callable[[Path], pa.Table]] = {"gaps": read_gaps, "states": read_states}

NotesKey = tuple[str, str]
"""Table and start."""


def read_notes(directory: Path, damaged: Callable[[Path, StorageError], None]) -> dict[NotesKey, pa.Table]:
    """Read all rows, by table and start in the order in which they were written; what cannot be read is handed over."""
    found: dict[NotesKey, list[pa.Table]] = {}
    for name, read in READERS.items():
        for path in sorted(segments_in(directory / name), key=lambda path: (span_of(path) or (0, 0), path)):
            try:
                found.setdefault((name, start_of(path)), []).append(read(path))
            except StorageError as error:
                damaged(path, error)
    return {key: pa.concat_tables(tables) for key, tables in found.items()}


def digests_of(notes: dict[NotesKey, pa.Table], start: str) -> dict[str, RowsDigest]:
    """Give the digests of what one start has written."""
    digests: dict[str, RowsDigest] = {}
    for (name, other), table in notes.items():
        if other == start:
            digests[name] = RowsDigest()
            digests[name].update(table)
    return digests


def lies_of(start: str, files: list[tuple[Path, CertificateFile]], notes: dict[NotesKey, pa.Table]) -> list[str]:
    """Say where what one start certified of its notes is not what the files hold; the texts name the certificate."""
    lies: list[str] = []
    ordered = sorted(files, key=lambda pair: pair[1].number)
    for name in READERS:
        table = notes.get((name, start))
        held = table.num_rows if table is not None else 0
        digest, said = RowsDigest(), 0
        for path, file in ordered:
            for note in (note for note in file.notes if note.table == name):
                said = note.rows
                if table is None or note.rows > held:
                    lies.append(f"{path}: says that there are {note.rows} rows of {name}, the files hold {held}")
                    continue
                digest.update(table.slice(digest.rows, note.rows - digest.rows))
                if digest.text() != note.content:
                    lies.append(f"{path}: the rows of {name} are not those it speaks of")
        is_over = bool(ordered) and ordered[-1][1].is_final and ordered[-1][1].version > 1
        if is_over and held > said and not lies:
            lies.append(f"{ordered[-1][0]}: is the last and speaks of {said} rows of {name}, the files hold {held}")
    return lies
