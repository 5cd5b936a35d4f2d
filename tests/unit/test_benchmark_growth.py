"""The pure parts of the growth and soak benchmarks: fits, samples, verdicts, tables; an exchange of many symbols."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import growth, soak
from benchmarks.pipeline_systems.costs import (
    AXES,
    BASE,
    Cost,
    cost_of,
    role_of,
    shapes,
    table,
    verdict,
    with_count,
)
from benchmarks.pipeline_systems.exchange import _many_symbols, _one_symbol
from benchmarks.pipeline_systems.fits import exponent, fit_line
from benchmarks.pipeline_systems.limits import lift
from benchmarks.pipeline_systems.market import FIRST_ID, POOL, Market, digest, symbol_names, texts, updates_of
from benchmarks.pipeline_systems.plain import FloatBook
from benchmarks.pipeline_systems.probe import Counter, Counts
from benchmarks.pipeline_systems.ray_pipeline import _halves, pipeline_config
from benchmarks.pipeline_systems.results import Measurement, aligned, join_times
from benchmarks.pipeline_systems.sampling import ProcessSample, Sample, fields_of, metric_sum
from benchmarks.pipeline_systems.soaking import (
    Slope,
    growth_problems,
    judged,
    loss_problems,
    slopes,
    store_slope,
)
from benchmarks.pipeline_systems.soaking import (
    table as soak_table,
)
from benchmarks.pipeline_systems.system import Shape, Task
from raytrade.config import check_config
from raytrade.venues import VENUES, find_venue


def test_line_of_least_squares() -> None:
    line = fit_line([0, 1, 2, 3], [1, 3.5, 4.5, 7])
    assert line.slope == pytest.approx(1.9)
    assert line.intercept == pytest.approx(1.15)


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.0])
def test_exponent_is_that_of_the_power(power: float) -> None:
    assert exponent([1, 2, 4, 8], [3 * count**power for count in (1, 2, 4, 8)]) == pytest.approx(power)


def test_a_fixed_part_lowers_the_exponent() -> None:
    assert 0.3 < exponent([1, 2, 4, 8], [10 + count for count in (1, 2, 4, 8)]) / 0.5 < 1


def test_one_place_makes_no_line() -> None:
    with pytest.raises(ValueError, match="two places"):
        fit_line([1, 1], [2, 3])


# Costs by count.


def cost(shape: Shape, **us: float) -> Cost:
    return Cost(shape, us, 30.0, 1.5, 700.0, [])


def test_shapes_vary_one_axis_and_name_the_base_once() -> None:
    found = shapes(["collectors", "instruments"], AXES)
    assert found[0] == BASE
    assert len(found) == len(set(found)) == 1 + 3 + 3
    assert Shape(2, 1, 1000) in found
    assert Shape(8, 1, 1) in found


@pytest.mark.parametrize(
    ("process", "role"),
    [
        ("ray::Collector", "collector"),
        ("ray::Dedup.receive_batch", "dedup"),
        ("ray::StrategyActor", "strategy"),
        ("ray::IDLE", "ray"),
        ("ray::DashboardAgent", "ray"),
        ("raylet", "ray"),
        ("driver", "ray"),
    ],
)
def test_roles(process: str, role: str) -> None:
    assert role_of(process) == role


def test_standing_cost_and_files_are_apart() -> None:
    row = Measurement(system="a", rate="1000", repeat=1, updates=1000, seconds=1.0, achieved=1000.0)
    row.cpu_us = {"ray::Dedup": 100.0, "ray::Recorder": 90.0, "raylet": 25.0, "gcs_server": 10.0}
    row.idle_cpu_ms_per_s = {"raylet": 20.0, "gcs_server": 5.0, "ray::Dedup": 3.0}
    row.drain_cpu_ms = {"ray::Recorder": 60.0}
    found = cost_of(row)
    assert found.us == {"dedup": 100.0, "recorder": 30.0, "ray": 10.0}
    assert found.ray_idle_ms_per_s == 25.0
    assert found.files_us == 1.0
    assert found.total_us == 140.0


def test_verdict_of_linear_growth() -> None:
    costs = [cost(with_count("collectors", n), collector=40.0 * n, dedup=50.0) for n in (2, 1, 4, 8)]
    costs.append(cost(Shape(2, 8, 1), strategy=9999.0))
    said = verdict("collectors", costs)
    assert said.startswith("collectors 1 to 8: nothing grows beyond 1.1; exponents total +0.")
    assert "collector +1.00" in said


def test_verdict_names_the_part_that_grows_too_fast() -> None:
    costs = [cost(with_count("consumers", n), dedup=5.0 * n**1.5, strategy=60.0 * n) for n in (1, 2, 4, 8)]
    assert "grows beyond 1.1: dedup;" in verdict("consumers", costs)


@pytest.mark.parametrize(("growth", "expected"), [(1.3, "nothing grows"), (2.0, "grows beyond 0.05: total, dedup")])
def test_verdict_of_instruments_is_any_growth(growth: float, expected: str) -> None:
    power = math.log(growth, 1000)
    costs = [cost(with_count("instruments", n), dedup=100.0 * n**power) for n in AXES["instruments"]]
    assert expected in verdict("instruments", costs)


def test_verdict_needs_points() -> None:
    failed = Cost(with_count("consumers", 2), {}, 0.0, 0.0, 0.0, ["stuck"])
    assert verdict("consumers", [cost(BASE, dedup=1.0), failed]) == "consumers: too few points"


def test_growth_table() -> None:
    failed = Cost(Shape(8, 1, 1), {}, 0.0, 0.0, 0.0, ["stuck"])
    lines = table(
        [cost(BASE, collector=80.0, strategy=20.0), cost(Shape(2, 4, 1), collector=80.0, strategy=80.0), failed]
    )
    assert lines[1][:6] == ["2, 1, 1", "", "100.0", "1.00x", "40.0", "20.0"]
    assert lines[2][3:6] == ["1.60x", "40.0", "20.0"]
    assert lines[3][1] == "failed: stuck"
    assert len({len(line) for line in lines}) == 1
    assert len(aligned(lines).splitlines()) == 4


def test_growth_is_of_all_axes_unless_quick() -> None:
    assert growth.parse_arguments([]).axes == ["collectors", "consumers", "instruments"]
    assert growth.parse_arguments(["--quick"]).axes == ["instruments"]
    assert growth.parse_arguments(["--quick", "--axes", "consumers"]).axes == ["consumers"]


@pytest.mark.parametrize("arguments", [["--axes", "venues"], ["--rate", "0"], ["--repeat", "-1"]])
def test_growth_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        growth.parse_arguments(arguments)
    assert ended.value.code == 2
    assert "python -m benchmarks.growth: error:" in capsys.readouterr().err


# Many symbols.


def test_symbols_take_turns_and_count_their_own_ids() -> None:
    market, symbols = Market(), 3
    data = _many_symbols(market, symbols)(1_700_000_000_000, range(2, 6))
    updates = frames(data)
    names = symbol_names(symbols)
    assert [update["s"] for update in updates] == [names[2], names[0], names[1], names[2]]
    assert [update["u"] - FIRST_ID for update in updates] == [0, 1, 1, 1]
    assert [update["b"] for update in updates] == [
        [list(level) for level in texts(market.pool[number][0])] for number in range(2, 6)
    ]


def test_one_symbol_is_a_case_of_many() -> None:
    market = Market()
    numbers, now_ms = range(POOL, POOL + 2), 1_700_000_000_000
    assert _one_symbol(market)(now_ms, numbers) == _many_symbols(market, 1)(now_ms, numbers)


def frames(data: bytes) -> list[dict[str, Any]]:
    found = []
    while data:
        length = int.from_bytes(data[2:4])
        found.append(msgspec.json.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


@pytest.mark.parametrize(("symbols", "count"), [(3, 0), (3, 100), (1000, 2500), (2, 2 * POOL + 5)])
def test_true_books_of_many(symbols: int, count: int) -> None:
    market, at = Market(), 1
    book, (bids, asks) = FloatBook(), market.book(0)
    book.apply({"b": texts(sorted(bids.items())), "a": texts(sorted(asks.items()))})
    numbers = range(at, count, symbols)
    for number in numbers:
        sides = market.pool[number % POOL]
        book.apply({"b": texts(sides[0]), "a": texts(sides[1])})
    assert book.digest() == digest([market.book(count, at, symbols)])
    assert updates_of(at, symbols, count) == len(numbers)


def test_last_ids_of_many() -> None:
    task = Task(1, Path("x"), 10, FIRST_ID + 4, Shape(instruments=3))
    assert list(task.last_ids.values()) == [FIRST_ID + 1, FIRST_ID + 1, FIRST_ID]
    assert Task(1, Path("x"), 10, FIRST_ID + 4).last_ids == {"BTCUSDT": FIRST_ID + 4}


def test_each_symbol_has_an_order_of_its_own() -> None:
    sent, applied = [0, 0, 0, 0], [(11, 1), (10, 2), (13, 3), (12, 4)]
    assert join_times(sent, applied, 10, 2) == ([2, 1, 4, 3], [])
    assert join_times(sent, applied, 10)[1] == ["2 updates out of order"]


def test_pipelines_of_every_shape_are_configurations() -> None:
    config = check_config(pipeline_config(Task(1, Path("x"), 10, FIRST_ID, Shape(8, 4, 1000)), "shm", 1), "test")
    assert config.collectors.per_node == 8
    assert len(config.strategies) == 4
    assert len(config.venues["binance-spot"].symbols) == 1000


def test_books_in_text_are_read_as_integers() -> None:
    assert _halves({"bids": [["29999.9", "1.5"]], "asks": [["30000.01", "0.00001"]]}) == (
        {2_999_990: 150_000},
        {3_000_001: 1},
    )


def test_the_budget_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VENUES, "binance-spot", VENUES["binance-spot"])
    assert find_venue("binance-spot").limits.weight_per_minute_max > 0
    lift()
    assert find_venue("binance-spot").limits.weight_per_minute_max == 0


# Soak.


def process(role: str, own_mb: float, descriptors: int = 10) -> ProcessSample:
    return ProcessSample(role=role, own_mb=own_mb, pss_mb=own_mb, rss_mb=own_mb, descriptors=descriptors, threads=3)


def grown(leak_mb_per_min: float, store_mb_per_min: float = 0.0, minutes: int = 10) -> list[Sample]:
    """A sample each 15 s: one process grows, another is filled within the warm-up, a third comes late."""
    samples = []
    for at in range(minutes * 4 + 1):
        minute = at / 4
        processes = {1: process("dedup", 50 + leak_mb_per_min * minute), 2: process("raylet", min(20.0, 10 * minute))}
        if minute > minutes / 2:
            processes[3] = process("late", 0.0)
        store_mb = 5 + store_mb_per_min * minute
        samples.append(Sample(at_s=minute * 60, processes=processes, store_mb=store_mb))
    return samples


def test_slopes_are_those_after_the_warm_up() -> None:
    rows = slopes(judged(grown(0.5)))
    assert [row.name for row in rows] == ["dedup 1", "raylet 2", "total"]
    assert [row.own_mb_per_min for row in rows] == pytest.approx([0.5, 0.0, 0.5])
    assert rows[-1].own_mb == pytest.approx(75.0)
    assert rows[-1].descriptors == 30


@pytest.mark.parametrize(
    ("leak", "store", "expected"), [(0.9, 0.0, ""), (1.1, 0.0, "memory"), (0.0, 0.2, "the object")]
)
def test_growth_beyond_the_bound_is_a_problem(leak: float, store: float, expected: str) -> None:
    samples = judged(grown(leak, store))
    problems = growth_problems(without_late(slopes(samples)[-1]), store_slope(samples), 480.0)
    assert len(problems) == bool(expected)
    assert "".join(problems).startswith(expected)


def without_late(total: Slope) -> Slope:
    return msgspec.structs.replace(total, descriptors_per_min=0.0)


def test_descriptors_are_judged() -> None:
    total = slopes(judged(grown(0.0)))[-1]
    leaking = msgspec.structs.replace(total, descriptors_per_min=1.5)
    assert growth_problems(leaking, 0.0, 480.0) == ["descriptors grow by 1.5 a minute"]


def test_short_runs_judge_the_store_only() -> None:
    total = msgspec.structs.replace(slopes(judged(grown(0.0)))[-1], own_mb_per_min=600.0, descriptors_per_min=9.0)
    assert growth_problems(total, 0.0, 60.0) == []
    assert growth_problems(total, 1.0, 60.0) == ["the object store grows by 1.00 MB/min"]


def test_soak_table() -> None:
    lines = soak_table(slopes(judged(grown(0.5))))
    assert lines[1][:4] == ["dedup 1", "", "55.0", "+0.500"]
    assert len({len(line) for line in lines}) == 1


def test_counter_tells_jumps_repeats_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    counter = Counter(str(path), 14)
    for number in (10, 11, 11, 13):
        counter.count(number)
    assert not path.exists()
    counter.count(14)
    counts = msgspec.json.decode(path.read_bytes(), type=Counts)
    assert counts == Counts(first=10, last=14, updates=5, jumps=1, repeats=1)
    assert loss_problems(counts, 14) == ["1 updates were jumped over", "1 updates were applied twice"]


def test_nothing_lost_is_no_problem() -> None:
    assert loss_problems(Counts(first=10, last=14, updates=5), 14) == []
    assert loss_problems(Counts(first=10, last=14, updates=5, gaps=2), 15) == [
        "2 gaps",
        "1 updates are missing at the end",
    ]


def test_files_of_the_kernel() -> None:
    text = "5581-7ffd ---p 00000000 00:00 0  [rollup]\nRss:    1024 kB\nPss_Anon: 512 kB\nName:\tpython\nThreads:\t7\n"
    assert fields_of(text) == {"Rss": 1024, "Pss_Anon": 512, "Threads": 7}


def test_metrics_are_summed_over_labels() -> None:
    text = '# HELP m x\nm{Location="A"} 2.5\nm{Location="B"} 1e3\nm_other{x="y"} 7\n'
    assert metric_sum(text, "m") == 1002.5
    with pytest.raises(OSError, match="no other"):
        metric_sum(text, "other")


def test_soak_is_of_small_bounds() -> None:
    config = check_config(soak.soak_config(Task(1, Path("x"), 10, FIRST_ID), Path("c")), "test")
    assert config.links.ring_mb == soak.RING_MB
    assert config.recorders[0].segment_age_s == soak.SEGMENT_AGE_S
    assert [part.strategy.partition(":")[2] for part in config.strategies] == ["Counter"]


def test_soak_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        soak.parse_arguments(["--minutes", "0"])
    assert ended.value.code == 2
    assert "must be positive" in capsys.readouterr().err
