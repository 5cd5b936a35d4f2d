"""What one line saw, and when."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raytrade.backtest.run import run
from raytrade.core.clock import MILLISECOND
from raytrade.errors import ConfigError
from raytrade.storage.arrivals import ARRIVALS
from raytrade.storage.recording import open_recording
from raytrade.storage.site import Site
from tests.unit.backtest.markets import recorded_market
from tests.unit.backtest.test_run import settings
from tests.unit.storage.recordings import BTC, ETH

LATE_NS = 30 * MILLISECOND


def arrivals(directory: Path, line: str, rows: list[tuple[str, int, int]], *, epoch: int = 0) -> None:
    """Write (channel, id_last, ts_recv_ns) as arrivals of BTC over the line."""
    folder = directory / "arrivals" / "date=2022-01-08"
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"replica": "r", "line": line, "instrument": BTC, "epoch": epoch, "id_prev": 0, "copy": 0}
    rest = {"content": 0, "scales": 0, "won": True, "is_late": False}
    kinds = {"book": "delta", "trades": "trade"}
    found = [
        plain
        | rest
        | {"channel": channel, "kind": kinds[channel], "id_last": id_last, "ts_recv_ns": at, "ts_arrived_ns": at}
        for channel, id_last, at in rows
    ]
    pq.write_table(pa.Table.from_pylist(found, schema=ARRIVALS), folder / f"{line}.parquet")


def recorded(directory: Path, *, names: tuple[str, ...] = (BTC,)) -> list[tuple[str, int, int]]:
    """Record a market, and give what a line at the source would have brought."""
    recorded_market(directory, 120, names=names)
    rows = []
    for now_ns, message in open_recording(directory).messages(instruments=BTC):
        rows.append((message.channel.name.lower(), message.id_last, now_ns))
    return rows


def test_every_event_comes_when_the_line_had_brought_it(tmp_path: Path) -> None:
    rows = recorded(tmp_path)
    arrivals(tmp_path, "tokyo", [(channel, id_last, at + LATE_NS) for channel, id_last, at in rows])
    site = Site(tmp_path, "tokyo")
    recording = open_recording(tmp_path)
    seen, merged = (list(recording.timed_events(site=one)) for one in (site, None))
    assert [(at - LATE_NS, event) for at, event in seen] == merged and len(merged) == len(rows)


def test_windows_need_not_be_those_of_the_recording(tmp_path: Path) -> None:
    rows = [row for row in recorded(tmp_path) if row[0] == "book"]
    arrivals(tmp_path, "tokyo", rows[4:101:5])
    seen = list(open_recording(tmp_path).timed_events(channels=["book"], site=Site(tmp_path, "tokyo")))
    assert [at for at, _ in seen[:11]] == [rows[4][2]] * 5 + [rows[9][2]] * 5 + [rows[14][2]]
    assert len(seen) == 100


def test_a_backtest_as_a_line(tmp_path: Path) -> None:
    rows = recorded(tmp_path)
    arrivals(tmp_path, "tokyo", [(channel, id_last, at + LATE_NS) for channel, id_last, at in rows])
    as_line = run(settings(tmp_path, "Taker", site="tokyo"))
    assert [fill.ts_fill_ns - LATE_NS for fill in as_line.fills] == [
        fill.ts_fill_ns for fill in run(settings(tmp_path, "Taker")).fills
    ]
    assert as_line.fills


def test_the_first_of_all_lines_counts(tmp_path: Path) -> None:
    rows = recorded(tmp_path)
    for line, parity in (("tokyo", 0), ("osaka", 1)):
        late = [LATE_NS * (number % 2 == parity) for number in range(len(rows))]
        arrivals(tmp_path, line, [(row[0], row[1], row[2] + more) for row, more in zip(rows, late, strict=True)])
    seen, merged = (list(open_recording(tmp_path).timed_events(site=one)) for one in (Site(tmp_path, "first"), None))
    assert seen == merged and merged


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    rows = recorded(tmp_path, names=(BTC, ETH))
    recording = open_recording(tmp_path)
    with pytest.raises(ConfigError, match="there are none"):
        Site(tmp_path, "tokyo")
    arrivals(tmp_path, "tokyo", rows)
    with pytest.raises(ConfigError, match="there are tokyo"):
        Site(tmp_path, "osaka")
    with pytest.raises(ConfigError, match="did not carry its book"):
        list(recording.timed_events(instruments=ETH, site=Site(tmp_path, "tokyo")))
    arrivals(tmp_path, "osaka", rows, epoch=5)
    with pytest.raises(ConfigError, match="ids count per connection"):
        list(recording.timed_events(site=Site(tmp_path, "osaka")))
