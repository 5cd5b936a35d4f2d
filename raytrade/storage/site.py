"""The market as one line saw it, or the fastest of all: the recording's events when it had brought them.

From the table of arrivals. Where lines share ids, a line has brought an event when its ids have covered it, whatever
windows its venue cut them into; what the line itself lost counts from when it had passed it, and what it never reached
is not seen at all. Times are the receive times of the line's own host. Where ids count per connection this cannot be
said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Trade
from raytrade.errors import ConfigError
from raytrade.storage.arrivals import each_segment
from raytrade.storage.source import TimedEvent

StreamKey = tuple[str, Channel]
_COLUMNS = ["line", "instrument", "channel", "kind", "epoch", "id_last", "ts_recv_ns"]
FIRST = "first"
_KINDS = pa.array(["delta", "trade"])


class View(Protocol):
    """Shows a stream otherwise than it was recorded."""

    def seen(self, key: StreamKey, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        """Give the events, at times that never step back."""
        ...


class Site:
    """What one line brought when (`FIRST`: whichever line was the first); memory is 16 bytes a message.

    Raises:
        ConfigError: the recording has no arrivals of this line.
        StorageError: a segment cannot be read.
    """

    def __init__(self, directory: Path, line: str) -> None:
        self.line = line
        self._pieces: dict[StreamKey, list[np.ndarray]] = {}
        self._counted: set[StreamKey] = set()
        lines: set[str] = set()
        for _, table in each_segment(directory, _COLUMNS):
            lines |= {str(name) for name in pc.unique(table.column("line").cast("string")).to_pylist()}
            names = table.column("line").cast("string")
            rows = table.filter(pc.not_equal(names, "") if line == FIRST else pc.equal(names, line))
            for channel in Channel:
                self._take(rows.filter(pc.equal(rows.column("channel").cast("string"), channel.name.lower())), channel)
        if line not in lines and (line != FIRST or not lines - {""}):
            known = ", ".join(sorted(lines - {""})) or "none"
            raise ConfigError("", line, f"no arrivals of this line are recorded; there are {known}")

    def _take(self, rows: pa.Table, channel: Channel) -> None:
        names = rows.column("instrument").cast("string")
        for name in pc.unique(names).to_pylist():
            own = rows.filter(pc.equal(names, name))
            own = own.filter(pc.is_in(own.column("kind").cast("string"), value_set=_KINDS))
            if pc.any(pc.not_equal(own.column("epoch"), 0)).as_py():
                self._counted.add((name, channel))
            pair = np.stack([own.column("ts_recv_ns").to_numpy(), own.column("id_last").to_numpy()])
            self._pieces.setdefault((name, channel), []).append(pair)

    def seen(self, key: StreamKey, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        """Give a stream's events at the times at which the line had brought them.

        Raises:
            ConfigError: the stream's ids count per connection, or the line did not carry it.
        """
        if key in self._counted:
            raise ConfigError("", key[0], f"ids count per connection: what {self.line} saw cannot be told from them")
        if key not in self._pieces:
            raise ConfigError("", key[0], f"{self.line} did not carry its {key[1].name.lower()}")
        return self._seen(np.concatenate(self._pieces[key], axis=1), events)

    def _seen(self, pairs: np.ndarray, events: Iterator[TimedEvent]) -> Iterator[TimedEvent]:
        times, ids = pairs[:, np.argsort(pairs[0], kind="stable")]
        reached = np.maximum.accumulate(ids) if len(ids) else ids
        now_ns: Nanos | None = None
        for _, event in events:
            if isinstance(event, BookDelta | BookSnapshot | Trade):
                id_last = event.sequence if isinstance(event, Trade) else event.id_last
                at = int(np.searchsorted(reached, id_last))
                if at == len(reached):
                    return
                now_ns = int(times[at]) if now_ns is None else max(now_ns, int(times[at]))
            if now_ns is not None:
                yield now_ns, event
