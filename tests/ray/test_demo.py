"""The demo in small: it passes, it fails where updates are lost on all lines, and it plays recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Outcome, run_process

CAPTURE = "hitbtc-v2/20210715-dntbtc-10sym-x4.jsonl.gz"


def demo(*arguments: object) -> Outcome:
    return run_process("demo", *arguments, timeout_s=200)


def number(outcome: Outcome, row: str) -> int:
    """Give the number in a row of the table of results."""
    (line,) = [line for line in outcome.out.splitlines() if row in line and line.startswith("│")]
    return int(line.split("│")[2])


def test_nothing_is_missed(tmp_path: Path) -> None:
    done = demo("--updates", 4500, "--out", tmp_path)
    assert done.status == 0, done.out + done.error
    assert "Nothing was missed." in done.out
    assert number(done, "updates sent by the exchanges") >= 4490
    for row in ("missed by the strategy", "missed by the files", "that came twice"):
        assert number(done, row) == 0
    assert list((tmp_path / "recording").rglob("*.parquet"))
    assert not list((tmp_path / "recording").rglob("*.part"))


@pytest.mark.long
def test_what_all_lines_lose_makes_it_fail(tmp_path: Path) -> None:
    done = demo("--updates", 2400, "--fault", "symbol=ETHBTC:drop@1s:100ms", "--out", tmp_path)
    assert done.status == 1, done.out + done.error
    assert number(done, "missed by the strategy") > 0
    assert "updates missed by the strategy" in done.out.partition("FAILED:")[2]


@pytest.mark.long
def test_a_recording_is_held_against_its_import(captures: Path, tmp_path: Path) -> None:
    path = captures / CAPTURE
    if not path.is_file():
        pytest.skip(f"no {CAPTURE}")
    done = demo("--capture", path, "--speed", 3, "--out", tmp_path)
    assert done.status == 0, done.out + done.error
    assert number(done, "updates sent by the exchanges") == 517
    assert number(done, "missed by the files") == 0
