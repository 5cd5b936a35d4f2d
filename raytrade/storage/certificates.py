"""Certificates: what a start of a recorder says of each hour of each stream, in a form that the files can be asked for.

One certificate holds for the rows of one stream and hour that one start of a recorder wrote, up to `index_last`; what
comes later for the same hour gets another one. Everything in it can be computed again from the files:
`raytrade.storage.verification` does. Certificates lie in ``certificates/date=D/<start>-<number>.json``, each file
sealed with a hash and numbered without holes.

The hour is that of the venue's time (of the receive time where the venue gives none), as the days of the partitions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.errors import StorageError
from raytrade.storage.files import write_text

VERSION = 2
"""2: with what is said of the tables of gaps and states; 1 is still read."""
FOLDER = "certificates"
HOUR_NS: Nanos = 3600 * SECOND
GRACE_NS: Nanos = 120 * SECOND
"""An hour is certified this long after its end: what was held back has come by then."""
HASH_BYTES = 16
"""How much of a SHA-256 is kept; processors compute it faster than any other hash of the standard library."""


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """The state of the book behind a message: `raytrade.core.book.L2Book.state_hash` of its best levels."""

    index: int
    id_last: int
    state_hash: int


class Certificate(msgspec.Struct, kw_only=True, frozen=True):
    """One hour of one stream. Ids are those of the venue; `first_id` and `last_id` by the order of the stream.

    `missing`: ranges ``(after, up to]`` of ids that are not there, where ids prove it. `lines`: messages by the line
    whose copy was recorded; `copies`: all copies by line, where the arrivals are recorded (by their time of receipt).
    `checksums`: messages that carry the venue's own checksum of the book, which holds. `states`: the book every ten
    seconds of the venue's time. `content`: SHA-256 over all columns of all rows, in the order of the index.
    """

    instrument: str
    channel: str
    hour: str
    index_first: int
    index_last: int
    first_id: int
    last_id: int
    messages: int
    rows: int
    snapshots: int
    unapplied: int
    missing: list[tuple[int, int]]
    lines: dict[str, int]
    copies: dict[str, int]
    silence_ns: Nanos
    checksums: int
    states: list[Checkpoint]
    content: str


class NotesCertificate(msgspec.Struct, kw_only=True, frozen=True):
    """What the start had written to a table of notes (`gaps` or `states`) until then, from its first row on."""

    table: str
    rows: int
    content: str
    """`raytrade.storage.digests.RowsDigest` of the rows, in the order of the segments."""


class CertificateFile(msgspec.Struct, kw_only=True, frozen=True):
    """What one start certified at one time; `is_final`: it has written nothing after this."""

    version: int
    start: str
    number: int
    is_final: bool
    is_recovered: bool
    """Computed from the files afterwards, because that start did not live to do it."""
    certificates: list[Certificate]
    seal: str = ""
    notes: list[NotesCertificate] = []


class _FirstVersion(msgspec.Struct, kw_only=True, frozen=True):
    """A file of version 1, to see whether its seal holds."""

    version: int
    start: str
    number: int
    is_final: bool
    is_recovered: bool
    certificates: list[Certificate]
    seal: str = ""


def hour_text(hour: int) -> str:
    """Give the hour (hours since 1970) as ``2026-11-23T14``."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")


def hour_number(text: str) -> int:
    """Give the hours since 1970.

    Raises:
        ValueError: the text names no hour.
    """
    return int(datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()) // 3600


def _seal_of(file: CertificateFile) -> str:
    unsealed: CertificateFile | _FirstVersion = msgspec.structs.replace(file, seal="")
    if file.version == 1:
        fields = _FirstVersion.__struct_fields__
        unsealed = _FirstVersion(**{name: getattr(unsealed, name) for name in fields})
    plain = msgspec.json.encode(unsealed, order="deterministic")
    return sha256(plain).hexdigest()[: 2 * HASH_BYTES]


def write_certificates(directory: Path, file: CertificateFile) -> Path:
    """Write a file of certificates.

    Raises:
        StorageError: it could not be written.
    """
    sealed = msgspec.structs.replace(file, seal=_seal_of(file))
    hours = [certificate.hour for certificate in file.certificates]
    date = min(hours, default="1970-01-01T00").partition("T")[0]
    path = directory / FOLDER / f"date={date}" / f"{file.start}-{file.number:06d}.json"
    data = msgspec.json.encode(sealed, order="deterministic")
    write_text(path, msgspec.json.format(data, indent=1) + b"\n")
    return path


def certificate_paths(directory: Path) -> list[Path]:
    """Give all files of certificates."""
    return sorted((directory / FOLDER).glob("date=*/*.json"))


def read_certificates(path: Path) -> CertificateFile:
    """Read one file.

    Raises:
        StorageError: it cannot be read, is no file of certificates, or its seal is broken.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=CertificateFile)
    except OSError as error:
        raise StorageError(str(path), f"cannot be read: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageError(str(path), f"is no file of certificates: {error}") from None
    if not 1 <= file.version <= VERSION:
        raise StorageError(str(path), f"has version {file.version}, this program reads 1 to {VERSION}")
    if file.seal != _seal_of(file):
        raise StorageError(str(path), "its seal does not hold: it was changed after it was written")
    if path.stem != f"{file.start}-{file.number:06d}":
        raise StorageError(str(path), f"says that it is {file.start}-{file.number:06d}")
    return file
