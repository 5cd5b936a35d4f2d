"""Retention: whole days that are older than a recording is to reach back are removed.

What was certified of them stays certified: ``retention.json`` says since when files are kept, and verification asks no
more for what came before. It is written first, so that a removal that is broken off makes nothing untrue.
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.files import reason_of, write_text

FILE = "retention.json"
_DAYS = re.compile(r"([1-9]\d{0,4})d")
_PATTERNS = ("venue=*/instrument=*/channel=*/date=*", "arrivals/date=*", "checkpoints/venue=*/instrument=*/date=*")


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the file: nothing before this day (UTC) is kept."""

    version: int = 1
    before: str = ""


class Pruned(msgspec.Struct):
    """What was removed."""

    before: str
    days: int = 0
    files: int = 0
    bytes: int = 0


def days_of(text: str) -> int:
    """Read a number of days, as in ``30d``.

    Raises:
        ConfigError: it is none.
    """
    found = _DAYS.fullmatch(text)
    if found is None:
        raise ConfigError("", repr(text), "no number of days: write 30d")
    return int(found[1])


def read_retention(directory: Path) -> Retention:
    """Give since when files are kept.

    Raises:
        StorageError: the file cannot be read.
    """
    path = directory / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Retention)
        if found.before:
            date.fromisoformat(found.before)
    except FileNotFoundError:
        return Retention()
    except OSError as error:
        raise StorageError(str(path), f"cannot be read: {reason_of(error)}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise StorageError(str(path), f"does not say since when files are kept: {error}") from None
    return found


def prune(directory: Path, days: int, now_ns: Nanos, *, is_dry: bool = False) -> Pruned:
    """Remove the days that ended more than `days` days ago.

    Raises:
        ConfigError: there is no such directory.
        StorageError: a day could not be removed, or the file of retention cannot be read or written.
    """
    if not directory.is_dir():
        raise ConfigError("", str(directory), "is no directory" if directory.exists() else "no such directory")
    today = datetime.fromtimestamp(now_ns // SECOND, UTC).date()
    before = max(f"{today - timedelta(days=days):%Y-%m-%d}", read_retention(directory).before)
    old = [folder for folder in _day_folders(directory) if folder.name.partition("=")[2] < before]
    pruned = Pruned(before, days=len({folder.name for folder in old}))
    if not old:
        return pruned
    if not is_dry:
        write_text(directory / FILE, msgspec.json.encode(Retention(before=before)) + b"\n")
    for folder in old:
        files = [path for path in folder.iterdir() if path.is_file()]
        pruned.files += len(files)
        pruned.bytes += sum(path.stat().st_size for path in files)
        if not is_dry:
            _remove(folder)
    return pruned


def _day_folders(directory: Path) -> list[Path]:
    return sorted(folder for pattern in _PATTERNS for folder in directory.glob(pattern) if folder.is_dir())


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(str(folder), f"cannot be removed: {reason_of(error)}") from None
