"""A recording elsewhere: any URI that `pyarrow.fs` knows (``s3://``, ``gs://``, ``file://``, ...), written and read.

A recorder writes to its own disk and `Uploader` carries what is closed to the target, so that no network stands in the
way of recording: what cannot be carried waits on the disk. Whoever reads gets a copy of the target in a cache; files
never change, so only those are fetched that are new.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs

from raytrade.errors import ConfigError, StorageError
from raytrade.storage.files import QUARANTINE
from raytrade.storage.names import replaced
from raytrade.storage.retention import FILE as RETENTION
from raytrade.storage.wal import FOLDER as WAL_FOLDER

CHUNK_BYTES = 8 * 1024 * 1024
_URI = re.compile(r"[a-z][a-z0-9+.-]+://.*")
_LEFT_OUT = (WAL_FOLDER, QUARANTINE, RETENTION)
_WHOLE_AT_CLOSE = ("s3", "gcs", "abfs")
"""Stores in which an object appears when it is closed, and not before."""

Failure = (OSError, pa.ArrowException, ValueError)


def is_uri(text: str) -> bool:
    """Tell whether a place is named by a URI, not by a path."""
    return _URI.fullmatch(text) is not None


class Place:
    """A folder of a file system."""

    def __init__(self, uri: str, filesystem: Any = None) -> None:
        """`filesystem`: instead of the one that the URI names; the URI is then a path in it.

        Raises:
            ConfigError: nothing is known of such a URI.
        """
        self.uri = uri
        try:
            self.filesystem, path = (filesystem, uri) if filesystem is not None else pafs.FileSystem.from_uri(uri)
        except Failure as error:
            raise ConfigError("", uri, f"cannot be used: {_line(error)}") from None
        self.path = path.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """Give the files below, each with its size.

        Raises:
            StorageError: they cannot be listed.
        """
        try:
            selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=True)
            found = self.filesystem.get_file_info(selector)
        except Failure as error:
            raise StorageError(self.uri, f"cannot be listed: {_line(error)}") from None
        skip = len(self.path) + 1
        return {info.path[skip:]: info.size for info in found if info.type == pafs.FileType.File}

    def put(self, source: Path, name: str) -> int:
        """Carry a file there; it is there whole or not at all. Gives its size.

        Raises:
            StorageError: it could not be carried.
        """
        target = f"{self.path}/{name}"
        is_whole_at_close = getattr(self.filesystem, "type_name", "") in _WHOLE_AT_CLOSE
        written = target if is_whole_at_close else f"{target}.part"
        try:
            self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            with source.open("rb") as file, self.filesystem.open_output_stream(written) as stream:
                while chunk := file.read(CHUNK_BYTES):
                    stream.write(chunk)
            size, there = source.stat().st_size, self.filesystem.get_file_info(written).size
            if there != size:
                raise OSError(f"{there} bytes of {size} are there")
            if not is_whole_at_close:
                self.filesystem.move(written, target)
        except Failure as error:
            raise StorageError(f"{self.uri}/{name}", f"cannot be written: {_line(error)}") from None
        return size

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file from there.

        Raises:
            StorageError: it cannot be read, or not be written here.
        """
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream, part.open("wb") as file:
                while chunk := stream.read(CHUNK_BYTES):
                    file.write(chunk)
            part.rename(target)
        except Failure as error:
            with suppress(OSError):
                part.unlink()
            raise StorageError(f"{self.uri}/{name}", f"cannot be fetched: {_line(error)}") from None

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            self.filesystem.delete_file(f"{self.path}/{name}")
        except FileNotFoundError:
            pass
        except Failure as error:
            raise StorageError(f"{self.uri}/{name}", f"cannot be removed: {_line(error)}") from None


class Uploaded(msgspec.Struct):
    """What has been carried, what waits, and why it does."""

    files: int = 0
    bytes: int = 0
    waiting: int = 0
    problem: str = ""


class Uploader:
    """Keeps a target equal to what is closed of a recording; days that are removed here stay there."""

    def __init__(self, directory: Path, place: Place) -> None:
        self.directory = directory
        self.place = place
        self.name = place.uri
        self.counts = Uploaded()
        self._there: dict[str, int] | None = None

    def run(self) -> Uploaded:
        """Carry what is not there yet; what fails is tried again by the next call, and the rest is carried anyway."""
        counts = self.counts
        try:
            if self._there is None:
                self._there = self.place.sizes()
            left = {name: size for name, size in _closed(self.directory) if self._there.get(name) != size}
            counts.waiting, counts.problem = len(left), ""
            for name, size in left.items():
                self._carry(name, size)
            self._remove_replaced()
        except StorageError as error:
            counts.problem = str(error)
        return counts

    def close(self) -> None:
        """Nothing is held open."""

    def _carry(self, name: str, size: int) -> None:
        assert self._there is not None
        counts = self.counts
        try:
            self.place.put(self.directory / name, name)
        except StorageError as error:
            if not (self.directory / name).exists():  # compacted or removed meanwhile
                counts.waiting -= 1
                return
            counts.problem = str(error)
            return
        self._there[name] = size
        counts.files += 1
        counts.bytes += size
        counts.waiting -= 1

    def _remove_replaced(self) -> None:
        assert self._there is not None
        for path in replaced(Path(name) for name in self._there):
            self.place.remove(str(path))
            del self._there[str(path)]


def _closed(directory: Path) -> Iterator[tuple[str, int]]:
    """Give the files of a recording that are whole, the oldest first."""
    found = []
    for path in directory.rglob("*"):
        parts = path.relative_to(directory).parts
        if path.suffix in (".parquet", ".json") and parts[0] not in _LEFT_OUT and not parts[-1].startswith("."):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, "/".join(parts), status.st_size))
    return ((name, size) for _, name, size in sorted(found))


def mirror(uri: str, cache: Path | None = None, *, place: Place | None = None) -> Path:
    """Bring a copy of a recording up to date and give where it lies; only what is new is fetched.

    Raises:
        ConfigError: nothing is known of such a URI, or no recording is there.
        StorageError: the place cannot be listed, or a file cannot be fetched.
    """
    place = place or Place(uri)
    directory = cache or _cache_of(uri)
    sizes = place.sizes()
    wanted = {name for name in sizes if name.endswith((".parquet", ".json"))}
    wanted -= {str(path) for path in replaced(Path(name) for name in wanted)}
    if not wanted:
        raise ConfigError("", uri, "has no recording in it")
    held = dict(_closed(directory)) if directory.is_dir() else {}
    for name in sorted(wanted):
        if held.get(name) != sizes[name]:
            place.fetch(name, directory / name)
    for name in held.keys() - wanted:
        (directory / name).unlink(missing_ok=True)
    return directory


def _cache_of(uri: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "raytrade" / sha256(uri.encode()).hexdigest()[:16]


def _line(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())[:200]
