"""``raytrade import``: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from raytrade.importer import Importer
from tests.cli.commands import Commands, files, run_process
from tests.unit.recorded import good, header, recv, write

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
LINE_KEYS = ["frames", "updates", "wins", "duplicates", "gaps_seen", "gaps_healed"]
INSTRUMENT_KEYS = ["updates", "snapshots", "trades", "gaps", "resyncs", "checksums_ok", "checksums_failed"]
INSTRUMENT_KEYS += ["first_id", "last_id", "top"]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write(tmp_path / "good.jsonl.gz", header(), *good())


def test_json_is_one_object(run: Commands, capture: Path, tmp_path: Path) -> None:
    outcome = run("import", capture, "--out", tmp_path / "out", "--json")
    assert (outcome.status, outcome.error) == (0, "")
    assert len(outcome.out.splitlines()) == 1
    found = json.loads(outcome.out)
    assert list(found) == ["venue", "undecodable", "lines", "instruments"]
    assert list(found["lines"]["1"]) == LINE_KEYS
    instrument = found["instruments"]["binance-spot:BTCUSDT"]
    assert list(instrument) == INSTRUMENT_KEYS
    assert instrument["top"] == {"bid": ["100", "4"], "ask": ["101", "2"]}


def test_several_captures_give_an_object_each(run: Commands, capture: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "b.gz", header("binance-us", ("ETHUSD",)), *good("ETHUSD"))
    book = tmp_path / "books.json"
    outcome = run("import", capture, other, "--out", tmp_path / "out", "--json", "--book", book)
    assert [json.loads(line)["venue"] for line in outcome.out.splitlines()] == ["binance-spot", "binance-us"]
    assert sorted(json.loads(book.read_text())) == ["binance-spot:BTCUSDT", "binance-us:ETHUSD"]


def test_the_book_file(run: Commands, capture: Path, tmp_path: Path) -> None:
    book = tmp_path / "books.json"
    book.write_text("old")
    assert run("import", capture, "--out", tmp_path / "out", "--book", book).status == 0
    assert json.loads(book.read_text()) == {
        "binance-spot:BTCUSDT": {
            "symbol": "BTCUSDT",
            "state": "live",
            "bids": [["100", "4"], ["99", "1"]],
            "asks": [["101", "2"], ["102", "0.5"]],
        }
    }
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_recording_can_be_read(run: Commands, capture: Path, tmp_path: Path) -> None:
    assert run("import", capture, "--out", tmp_path / "out").status == 0
    assert sorted(path.suffix for path in files(tmp_path / "out")) == [".json", ".parquet"]
    query = f"SELECT count(DISTINCT index), count(*) FILTER (is_last) FROM '{tmp_path}/out/venue=*/**/*.parquet'"
    assert duckdb.execute(query).fetchall() == [(6, 6)]


def test_the_same_capture_again_adds_segments(run: Commands, capture: Path, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        assert run("import", capture, "--out", tmp_path / "out").status == 0
        assert len(files(tmp_path / "out")) == 2 * count, "rows, and their certificates"


def test_tables_for_people(run: Commands, capture: Path, tmp_path: Path) -> None:
    outcome = run("import", capture, "--out", tmp_path / "out")
    assert "good.jsonl.gz: binance-spot, 0 undecodable frames" in outcome.out
    assert "binance-spot:BTCUSDT" in outcome.out
    assert not CONTROL.search(outcome.out)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_process_of_its_own(capture: Path, tmp_path: Path, as_json: bool) -> None:
    outcome = run_process("import", capture, "--out", tmp_path / "out", *["--json"] * as_json)
    assert (outcome.status, outcome.error) == (0, "")
    assert not CONTROL.search(outcome.out)
    if as_json:
        assert json.loads(outcome.out)["venue"] == "binance-spot"


def test_a_damaged_capture_is_imported_as_far_as_it_is_good(run: Commands, capture: Path, tmp_path: Path) -> None:
    data = capture.read_bytes()
    capture.write_bytes(data[: len(data) - 30])
    outcome = run("import", capture, "--out", tmp_path / "out", "--json", "--book", tmp_path / "book.json")
    assert outcome.status == 1
    assert re.fullmatch(rf"raytrade: {re.escape(str(capture))}: line \d+: .* \(imported up to there\)", outcome.problem)
    assert json.loads(outcome.out)["venue"] == "binance-spot"
    assert (tmp_path / "book.json").exists()


def test_undecodable_frames_are_named(run: Commands, tmp_path: Path) -> None:
    records: list[Any] = [*good()[:3], recv(150, "rubbish"), recv(160, "{"), *good()[3:]]
    path = write(tmp_path / "a.gz", header(), *records)
    outcome = run("import", path, "--out", tmp_path / "out", "--json")
    assert outcome.status == 1
    assert outcome.problem.startswith(f"raytrade: {path}: line 5: undecodable frame: ")
    assert outcome.problem.endswith("(1 more undecodable)")
    found = json.loads(outcome.out)
    assert found["undecodable"] == 2
    assert found["instruments"]["binance-spot:BTCUSDT"]["updates"] == 4


def test_ctrl_c_is_quiet(run: Commands, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Importer, "run", interrupt)
    outcome = run("import", capture, "--out", tmp_path / "out")
    assert (outcome.status, outcome.out, outcome.error) == (130, "", "")


@pytest.mark.captures
@pytest.mark.parametrize("name", ["okcoin-v5/20230527-btc-usd-4sym", "hitbtc-v2/20210715-dntbtc-10sym-x4"])
def test_a_real_recording(captures: Path, tmp_path: Path, name: str) -> None:
    path = captures / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    outcome = run_process("import", path, "--out", tmp_path / "out", "--json", "--book", tmp_path / "book.json")
    assert (outcome.status, outcome.error) == (0, "")
    found = json.loads(outcome.out)
    assert (found["venue"], found["undecodable"]) == (name.partition("/")[0], 0)
    books = json.loads((tmp_path / "book.json").read_text())
    assert {book["state"] for book in books.values()} == {"live"}
    assert set(books) == set(found["instruments"])
