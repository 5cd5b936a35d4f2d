"""The micro benchmarks run and say what they measured; no figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.micro.inputs import deltas_of, load_feed, machine, snapshot_of
from benchmarks.micro.report import Report, document
from benchmarks.micro.rounds import Benchmark, Contender, measure


def quick(*arguments: str) -> Report:
    return command.run(command.parse_arguments([*arguments, "--quick", "--captures", "nowhere"]))


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_each_benchmark_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = quick(name).results
    assert result.rows[0].name.startswith("raytrade")
    assert result.rows[0].ratio == 1
    assert len(result.rows) + len(result.missing) >= 2
    assert all(row.us > 0 and row.ratio > 0 for row in result.rows)
    assert "synthetic" in result.source
    assert result.title in capsys.readouterr().out


def test_figures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "RESULTS.md")
    command.main(["arbiter", "--quick", "--captures", "nowhere", "--json", str(tmp_path / "a.json"), "--write"])
    assert (tmp_path / "a.json").read_bytes().startswith(b"{")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| raytrade, Arbiter |" in text
    assert "Python" in text


def test_the_synthetic_feed_is_the_same_each_time_and_is_read_whole() -> None:
    feed = load_feed(50, Path("nowhere"))
    assert feed == load_feed(50, Path("nowhere"))
    line = machine()
    for frame in feed.frames:
        line.receive_frame(frame, 1)
    assert line.statistics().undecodable == 0
    assert len(line.events()) == 50


@pytest.mark.captures
def test_a_recording_is_read(captures: Path) -> None:
    feed = load_feed(50, captures)
    assert "recording" in feed.source
    assert [delta.id_prev for delta in deltas_of(feed)] == list(
        range(snapshot_of(feed).id_last, snapshot_of(feed).id_last + 50)
    )


def test_rounds_are_interleaved() -> None:
    order: list[str] = []

    def contender(name: str) -> Contender:
        return Contender(name, lambda: lambda: order.append(name))

    result = measure(Benchmark("b", "B", "run", 1, "nothing", [contender("one"), contender("two")]), 2)
    assert order == ["one", "two", "two", "one", "one", "two"]
    assert document(Report("2026-01-01", {"CPU": "x"}, [result])).count("\n| ") == 3
