"""Where a recorded stream was stalled: all lines silent or lost, so that what its book says may be old."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from raytrade.core.events import Channel, Resynced, Stalled
from raytrade.errors import StorageError
from raytrade.storage.runs import Run

State = Stalled | Resynced
Placed = tuple[str, int, State]
"""The start that recorded it, the index of the message it stands before, and what it says."""


def states_of(start: str, table: pa.Table, path: Path) -> Iterator[Placed]:
    """Read the rows of a segment of the states.

    Raises:
        StorageError: a row says what this program does not know.
    """
    for row in table.to_pylist():
        try:
            names = {"instrument": row["instrument"], "channel": Channel[row["channel"].upper()]}
        except (KeyError, AttributeError):
            raise StorageError(str(path), f"has a state of unknown channel {row['channel']}") from None
        state: State
        match row["state"]:
            case "stalled":
                state = Stalled(**names, cause=row["cause"] or "", ts_recv_ns=row["ts_recv_ns"])
            case "resynced":
                ids = {"id_last": row["id_last"], "epoch": row["epoch"]}
                state = Resynced(**names, **ids, ts_recv_ns=row["ts_recv_ns"])
            case other:
                raise StorageError(str(path), f"has an unknown state {other}")
        yield start, row["index"], state


def place_states(runs: list[Run], states: list[Placed]) -> None:
    """Put each behind its message; a stall that a run did not live to end is over when the next one goes on."""
    last: dict[int, State] = {}
    for start, index, state in sorted(states, key=lambda placed: placed[2].ts_recv_ns):
        for run in runs:
            if run.start == start and max(run.index_from, run.units[0].index_first) <= index - 1 <= run.index_to:
                run.gaps = sorted([*run.gaps, (index - 1, state)], key=lambda pair: (pair[0], pair[1].ts_recv_ns))
                last[id(run)] = state
                break
    for run, following in pairwise(runs):
        state_left = last.get(id(run))
        if isinstance(state_left, Stalled) and following.opening is None:
            following.opening = Resynced(
                instrument=state_left.instrument,
                channel=state_left.channel,
                id_last=0,
                ts_recv_ns=max(state_left.ts_recv_ns, following.ts_first_ns),
            )
