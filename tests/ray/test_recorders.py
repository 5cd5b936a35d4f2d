"""Two recorders of one pipeline: one is killed, and both recordings are whole, certified and full of proofs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.demo.checker import Ranges
from raytrade.demo.nodes import Nodes
from raytrade.emulator import Truth
from raytrade.storage.league import league_of
from raytrade.storage.recording import open_recording
from raytrade.storage.repair import repair
from raytrade.storage.times import interval_ns
from raytrade.storage.verification import verify_recording
from tests.ray.running import running, until


def test_a_killed_recorder_is_filled_from_the_other(nodes: Nodes, tmp_path: Path) -> None:
    directories = tmp_path / "a", tmp_path / "b"

    def change(data: dict[str, Any]) -> None:
        (recorder,) = data["recorders"]
        data["recorders"] = [recorder | {"name": d.name, "directory": str(d)} for d in directories]

    with running("recorders", directories[0], change=change) as pipeline:
        pipeline.begin()
        pipeline.let_flow()
        pipeline.kill("recorder", "-a")
        pipeline.let_flow()
        until(pipeline.is_redundant, "the killed recorder is back")
        truths = pipeline.finish()
        pipeline.check_strategy("watch", truths)
        pipeline.stop()
        repair(*directories)
        for directory in directories:
            check_reading(directory, truths)
        assert all(not s.missing and s.is_provable for s in repair(*directories).streams)
    check_proofs(directories)


def check_reading(directory: Path, truths: Mapping[str, Truth]) -> None:
    """As it is read (filled or not) the recording has every id once, in order."""
    recording = open_recording(directory)
    for venue, truth in truths.items():
        for symbol, ids in truth.ids.items():
            name = f"{venue}:{symbol}"
            ranges: list[tuple[int, int]] = []
            last = 0
            for event in recording.events(instruments=name, channels=["book"]):
                if isinstance(event, BookSnapshot):
                    ranges.append((event.id_last - 1 if ranges else -1, event.id_last))
                elif isinstance(event, BookDelta):
                    assert event.id_last > last, name
                    ranges.append((event.id_prev, event.id_last))
                    last = event.id_last
            assert Ranges(ranges).missed(ids) == [], name
            trades = recording.trades(name).column("trade_id").to_pylist()
            assert sorted(map(int, trades)) == truth.trades[symbol], name


def check_proofs(directories: tuple[Path, Path]) -> None:
    for directory in directories:
        found = verify_recording(directory, certify=True)
        assert found.lies == []
        assert sum(stream.missing for stream in found.streams) == 0
        assert all(stream.copies > 0 for stream in found.streams)
        found = verify_recording(directory)
        assert sum(stream.uncertified for stream in found.streams) == 0
        assert found.lies == []
        league = league_of(directory, interval_ns(None, None), ["*"])
        lines = [line for line in league.lines() if "/binance-spot" in line]
        assert len(lines) == 3
        standings = [league.standings[line, "binance-spot:BTCUSDT", "book"] for line in lines]
        assert sum(standing.wins for standing in standings) > 100
        assert all(standing.brought for standing in standings)
        assert all(standing.disagreements == 0 for standing in standings)
