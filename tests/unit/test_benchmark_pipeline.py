"""The pure parts of the pipeline benchmark: joining, percentiles, medians, tables, the search for saturation."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import burst, stopped
from benchmarks.pipeline_systems.exchange import _template
from benchmarks.pipeline_systems.market import FIRST_ID, POOL, Market, digest, texts
from benchmarks.pipeline_systems.plain import FloatBook
from benchmarks.pipeline_systems.results import (
    Measurement,
    aligned,
    cpu_table,
    highest_sustained,
    is_sustained,
    join_times,
    latency_figures,
    medians,
    percentile,
    table,
    thirds_p99_ms,
)
from benchmarks.pipeline_systems.running import Load
from benchmarks.pipeline_systems.timelog import AppliedLog, SentLog


def measurement(system: str, rate: str = "1000", p50: float = 1.0, cpu: float = 100.0, **fields: object) -> Measurement:
    values: dict[str, object] = {
        "latency_ms": {"p50": p50, "p99": 2 * p50, "p99.9": 3 * p50, "max": 4 * p50},
        "achieved": float(rate),
        "cpu_us": {"dedup": cpu},
    }
    return msgspec.structs.replace(Measurement(system=system, rate=rate, repeat=0), **values | fields)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (0.999, 100), (1.0, 100)]
)
def test_percentile_is_a_value_that_was_seen(share: float, expected: int) -> None:
    assert percentile(list(range(1, 101)), share) == expected


def test_percentile_of_few() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([7], 0.99) == 7


def test_latency_figures_are_milliseconds() -> None:
    assert latency_figures([2_000_000, 1_000_000]) == {"p50": 1.0, "p99": 2.0, "p99.9": 2.0, "max": 2.0}


def test_join_finds_every_delay() -> None:
    delays, problems = join_times([100, 200, 300], [(9, 1), (10, 101), (11, 202), (12, 303), (13, 5)], 10)
    assert delays == [1, 2, 3]
    assert problems == []


def test_join_names_what_is_wrong() -> None:
    delays, problems = join_times([100, 200, 300], [(12, 310), (10, 110), (10, 120)], 10)
    assert delays == [10, 10]
    assert problems == ["1 updates lost", "1 updates applied twice", "2 updates out of order"]


def test_thirds_show_a_growing_queue() -> None:
    assert thirds_p99_ms([1_000_000] * 3 + [2_000_000] * 3 + [9_000_000] * 3) == [1.0, 2.0, 9.0]


@pytest.mark.parametrize(
    ("achieved", "thirds", "problems", "expected"),
    [
        (990.0, [1.0, 1.0, 1.0], [], True),
        (970.0, [1.0, 1.0, 1.0], [], False),
        (1000.0, [1.0, 3.0, 4.9], [], True),
        (1000.0, [10.0, 20.0, 30.0], [], False),
        (1000.0, [1.0, 1.0, 1.0], ["1 updates lost"], False),
    ],
)
def test_sustained(achieved: float, thirds: list[float], problems: list[str], expected: bool) -> None:
    one = measurement("a", achieved=achieved, latency_thirds_p99_ms=thirds, problems=problems)
    assert is_sustained(one, 1000) is expected


@pytest.mark.parametrize("limit", [0, 3999, 4000, 4999, 5000, 9000, 16_500, 31_000, 64_000, 1_000_000])
def test_search_finds_the_limit(limit: int) -> None:
    tried: list[int] = []

    def holds(rate: int) -> bool:
        tried.append(rate)
        return rate <= limit

    found = highest_sustained(holds, 4_000, 64_000, 1_000)
    assert found == (min(limit, 64_000) // 1000 * 1000 if limit >= 4_000 else 0)
    assert len(tried) == len(set(tried)) <= 10


def test_medians_leave_out_what_failed() -> None:
    runs = [measurement("a", p50=1), measurement("a", p50=5), measurement("a", p50=3)]
    runs.append(measurement("a", p50=999, problems=["lost"]))
    (row,) = medians(runs)
    assert row.latency_ms["p50"] == 3
    assert row.repeat == 3
    assert row.problems == ["lost"]


def test_table_gives_ratios_to_the_reference() -> None:
    lines = table([measurement("zeromq", p50=2.0), measurement("raytrade", p50=3.0, cpu=250.0)], "zeromq")
    assert lines[1][2] == "2.00"
    assert lines[2][2] == "3.00 (1.50x)"
    assert lines[2][7] == "250 (2.50x)"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_table_says_what_failed() -> None:
    failed = Measurement(system="a", rate="max", repeat=0, problems=["stuck"])
    assert table([failed], "zeromq")[1][2] == "failed: stuck"


def test_tables_are_aligned() -> None:
    text = aligned(cpu_table([measurement("zeromq"), measurement("a", cpu=1.5)]))
    assert [line.index("us") for line in text.splitlines()[:1]]
    assert text.splitlines()[2].endswith("dedup 1.5")


def test_loads() -> None:
    assert Load.parse("200", 2.0, 50_000, 1) == Load("200", 400, 200.0)
    assert Load.parse("burst", 2.0, 50_000, 1).updates == 50_000
    assert Load.parse("max", 2.0, 1, 77).updates == 77


def test_logs_are_shared_by_path(tmp_path: Path) -> None:
    writer, reader = AppliedLog(tmp_path / "applied", 2), AppliedLog(tmp_path / "applied", 2)
    assert reader.last_id() == 0
    for number in (5, 6, 7):
        writer.append(number, number * 10)
    assert reader.pairs() == [(5, 50), (6, 60)]
    assert reader.last_id() == 6
    SentLog(tmp_path / "sent", 4).stamp(1, 2, 9)
    assert SentLog(tmp_path / "sent", 4).times(0, 4) == [0, 9, 9, 0]


@pytest.mark.parametrize("count", [0, 1, 200, POOL + 300])
def test_true_book_is_what_the_updates_make(count: int) -> None:
    market, book = Market(), FloatBook()
    bids, asks = market.book(0)
    book.apply({"b": texts(sorted(bids.items())), "a": texts(sorted(asks.items()))})
    for number in range(count):
        sides = market.pool[number % POOL]
        book.apply({"b": texts(sides[0]), "a": texts(sides[1])})
    assert book.digest() == digest([market.book(count)])


def test_frames_keep_their_length() -> None:
    frame = _template(Market().pool[0])
    first, later = frame(1_700_000_000_000, FIRST_ID), frame(1_800_000_000_000, FIRST_ID + 1_000_000)
    assert len(first) == len(later) == 4 + int.from_bytes(first[2:4])
    update = msgspec.json.decode(later[4:])
    assert update["U"] == update["u"] == FIRST_ID + 1_000_000
    assert update["E"] == 1_800_000_000_000
    assert len(update["b"]) + len(update["a"]) == 8


def test_the_time_behind_a_stopped_consumer_is_a_phase_of_its_own() -> None:
    second = 1_000_000_000
    phases = stopped.phases_of([at * 10 * second for at in range(6)])
    assert [(phase.name, phase.start_ns // second, phase.end_ns // second) for phase in phases] == [
        ("quiet", 0, 10),
        ("strategy-probe-1 stopped", 10, 20),
        ("strategy-probe-1 goes on", 20, 21),
        ("quiet", 21, 30),
        ("recorder-recorder-0 stopped", 30, 40),
        ("recorder-recorder-0 goes on", 40, 41),
        ("quiet", 41, 50),
    ]
    sent = [5 * second, 15 * second, 20 * second, 22 * second]
    delays = [1_000_000, 2_000_000, 3_000_000, 4_000_000]
    assert [phase.updates for phase in stopped.measured(phases, sent, delays)] == [1, 1, 1, 1, 0, 0, 0]
    assert phases[2].delay_ms["p99"] == 3.0


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["3 updates not recorded"], 1)])
def test_a_burst_is_told_by_medians_and_fails_if_anything_was_lost(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    problems: list[str],
    status: int,
) -> None:
    rounds = iter([burst.Round(1.0, 1.5, []), burst.Round(2.0, 9.0, problems), burst.Round(1.0, 1.8, [])])
    monkeypatch.setattr(burst, "one_round", lambda options: next(rounds))
    file = tmp_path / "burst.json"
    assert burst.main(["--repeat", "3", "--updates", "900", "--json", str(file)]) == status
    told = capsys.readouterr().out
    assert "1.80 times the bare clients' time (aim: 2)" in told and "500" in told
    assert ("PROBLEM: 3 updates not recorded" in told) is bool(problems)
    assert msgspec.json.decode(file.read_bytes())["ratio"] == 1.8
