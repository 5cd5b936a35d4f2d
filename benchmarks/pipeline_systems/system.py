"""What a system under measurement is, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .market import FIRST_ID, symbol_names, updates_of

READY_TIMEOUT_S = 120.0


class Unavailable(Exception):
    """The system cannot run here; says why."""


class Failed(Exception):
    """The system or the exchange did not do as it was told."""


@dataclass(frozen=True)
class Shape:
    """How many there are of what a pipeline may have many of; a consumer is a strategy."""

    collectors: int = 2
    consumers: int = 1
    instruments: int = 1


@dataclass(frozen=True)
class Task:
    """One run: the exchange's port, a directory of its own, how many updates there will be, and the last one's id.

    With several instruments a number takes the place of the id in the logs: `FIRST_ID` and the place among all updates.
    """

    port: int
    directory: Path
    capacity: int
    last_id: int
    shape: Shape = Shape()

    @property
    def applied_path(self) -> Path:
        """Where the (first) strategy logs what it applied, see `AppliedLog`."""
        return self.applied_paths[0]

    @property
    def applied_paths(self) -> list[Path]:
        """The same for every strategy."""
        return [self.directory / f"applied-{at}" for at in range(self.shape.consumers)]

    @property
    def last_ids(self) -> dict[str, int]:
        """Give the id of each symbol's last update."""
        total, names = self.last_id - FIRST_ID + 1, symbol_names(self.shape.instruments)
        return {name: FIRST_ID + updates_of(at, len(names), total) - 1 for at, name in enumerate(names)}

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

    def digests(self) -> list[str]:
        """Give the digest of every strategy's books after the last update; to be asked for when it has been applied."""

    def stop(self) -> None:
        """End every process that was started."""
