"""What a system under measurement is, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

READY_TIMEOUT_S = 120.0


class Unavailable(Exception):
    """The system cannot run here; says why."""


class Failed(Exception):
    """The system or the exchange did not do as it was told."""


@dataclass(frozen=True)
class Task:
    """One run: the exchange's port, a directory of its own, how many updates there will be, and the last one's id."""

    port: int
    directory: Path
    capacity: int
    last_id: int

    @property
    def applied_path(self) -> Path:
        """Where the strategy logs what it applied, see `AppliedLog`."""
        return self.directory / "applied"

    @property
    def digest_path(self) -> Path:
        """Where the strategy writes the digest of its book after the last update."""
        return self.directory / "digest"

    @property
    def recording(self) -> Path:
        """Where the Parquet files go."""
        return self.directory / "recording"


class System(Protocol):
    """Two collectors, arbitration, a strategy with a book, a recorder; fresh for every run."""

    id_column: str
    """The column of the recording that has an update's id."""

    def start(self) -> None:
        """Start it all; comes back when every link is up. Raises `Unavailable` or `Failed`."""

    def roots(self) -> dict[int, str]:
        """Give the processes that everything descends from, with their roles."""

    def drain(self) -> None:
        """Come back when the recorder has written everything."""

    def stop(self) -> None:
        """End every process that was started."""
