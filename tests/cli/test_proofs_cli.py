"""``raytrade league``, ``verify`` and ``repair``: what is printed, and with which status it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.unit.recorded import good, header, write
from tests.unit.storage.recordings import BTC, NOON_NS, delta
from tests.unit.storage.test_league import logged, two_lines
from tests.unit.storage.test_repair import truth, with_hole
from tests.unit.storage.test_verification import certified, segment


def test_league(run: Commands, tmp_path: Path) -> None:
    logged(tmp_path, two_lines(40, lost_by_a=17))
    outcome = run("league", tmp_path, "--json", "--clock-error-ms", "2.5")
    assert outcome.status == 0
    rows = {row["line"]: row for row in json.loads(outcome.out)["rows"]}
    assert rows["a"]["wins"] + rows["b"]["wins"] == 40
    assert (rows["a"]["lost"], rows["b"]["healed"]) == (1, 1)
    assert (rows["b"]["lead_p50_ms"], rows["b"]["doubtful"]) == (2.0, 10)
    assert rows["a"]["lead_p99_ms"] == 3.0
    shown = run("league", tmp_path)
    assert shown.status == 0
    assert "81 arrivals" in shown.out
    assert BTC in shown.out
    without = json.loads(run("league", tmp_path, "--without", "b", "--json").out)["rows"]
    assert [(row["later"], row["lost"], row["ranges"], row["delay_p50_ms"]) for row in without] == [
        (10, 1, [[117, 118]], 2.0)
    ]
    assert "117..118" in run("league", tmp_path, "--without", "b").out


def test_league_refuses(run: Commands, tmp_path: Path) -> None:
    assert run("league", tmp_path / "nothing").status == 2
    logged(tmp_path, two_lines(4))
    outcome = run("league", tmp_path, "--without", "c")
    assert outcome.status == 2
    assert outcome.problem == "raytrade: league: --without: c: no such line; there are a, b"
    assert run("league", tmp_path, "--start", "soon").status == 2


def test_verify(run: Commands, tmp_path: Path) -> None:
    certified(tmp_path, truth(), 50)
    outcome = run("verify", tmp_path)
    assert (outcome.status, outcome.error) == (0, "")
    assert "everything is as it is said to be" in outcome.out
    segment(tmp_path, at=3).unlink()
    outcome = run("verify", tmp_path, "--json")
    assert outcome.status == 1
    assert not json.loads(outcome.out)["ok"]
    assert f"{BTC}/book: 2022-01-08T12: " in outcome.error
    assert "Traceback" not in outcome.error


def test_verify_quarantines(run: Commands, tmp_path: Path) -> None:
    certified(tmp_path, truth(), 50)
    bad = segment(tmp_path)
    bad.write_bytes(b"PAR1 no more")
    outcome = run("verify", tmp_path, "--quarantine")
    assert outcome.status == 1
    assert str(bad) in outcome.error
    assert not bad.exists()
    assert (tmp_path / "quarantine" / bad.relative_to(tmp_path)).read_bytes() == b"PAR1 no more"


def test_what_an_import_writes_is_certified(run: Commands, tmp_path: Path) -> None:
    capture = write(tmp_path / "good.jsonl.gz", header(), *good())
    assert run("import", capture, "--out", tmp_path / "out").status == 0
    found = json.loads(run("verify", tmp_path / "out", "--json").out)
    assert found["ok"]
    assert [(stream["messages"], stream["certified"]) for stream in found["streams"]] == [(6, 6)]
    assert not (tmp_path / "out" / "arrivals").exists(), "one line has nobody to be compared with"


def test_an_import_of_several_lines_keeps_their_arrivals(run: Commands, tmp_path: Path) -> None:
    records = [record | {"conn": conn} for record in good() for conn in ("1", "2") if record["kind"] == "recv"]
    records[1:1] = [record for record in good() if record["kind"] == "rest"]
    capture = write(tmp_path / "two.jsonl.gz", header(conns=("1", "2")), *records)
    assert run("import", capture, "--out", tmp_path / "out").status == 0
    rows = {row["line"]: row for row in json.loads(run("league", tmp_path / "out", "--json").out)["rows"]}
    assert rows["1"]["wins"] > 0
    assert rows["2"]["lost"] == 0
    assert run("verify", tmp_path / "out").status == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_repair(run: Commands, tmp_path: Path, as_json: bool) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, with_hole(events, 50, 80))
    certified(b, events)
    options = ["--json"] * as_json
    dry = run("repair", a, b, "--dry-run", *options)
    assert (dry.status, dry.error) == (0, "")
    assert list(a.rglob("fill-*")) == []
    assert run("repair", a, b, *options).status == 0
    assert run("verify", a).status == run("verify", b).status == 0
    again = run("repair", a, b, *options)
    if as_json:
        assert [json.loads(out.out)["streams"][0]["first"]["messages"] for out in (dry, again)] == [31, 0]
    else:
        assert "149..180" in dry.out
        assert "149..180" not in again.out


def test_repair_refuses_contradictions(run: Commands, tmp_path: Path) -> None:
    a, b, events = tmp_path / "a", tmp_path / "b", truth()
    certified(a, events)
    certified(b, [*events[:-1], delta(499, 500, NOON_NS, bids=(9_950, 4711))])
    outcome = run("repair", a, b)
    assert outcome.status == 1
    assert f"{BTC}/book: ids 499 to 500 have other content in {b}; nothing was written" in outcome.problem
    assert run("repair", a, a).status == 2
