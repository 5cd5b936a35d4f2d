"""``raytrade emulate``: its options are checked before anything is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Commands, run_process


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--venue", "binance-spt"], "--venue"),
        (["--venue", ""], "--venue"),
        (["--symbols", ""], "--symbols"),
        (["--port", "-1"], "--port"),
        (["--port", "70000"], "--port"),
        (["--port", "abc"], "--port"),
        (["--rate", "-5"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--levels", "0"], "--levels"),
        (["--burst", "many"], "--burst"),
        (["--fault", "conn=1:explode"], "--fault"),
        (["--fault", "nonsense"], "--fault"),
        (["--capture", "missing.gz"], "missing.gz"),
        (["--bogus"], "--bogus"),
    ],
)
def test_wrong_options_are_named(run: Commands, arguments: list[str], words: str) -> None:
    outcome = run("emulate", "--seconds", "0.2", *arguments)
    assert outcome.status == 2
    assert words in outcome.problem
    assert outcome.out == ""


def test_a_damaged_capture(run: Commands, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"not gzip")
    outcome = run("emulate", "--seconds", "0.2", "--capture", path)
    assert outcome.status in (1, 2)
    assert str(path) in outcome.problem


def test_it_serves_and_ends() -> None:
    outcome = run_process("emulate", "--seconds", "0.5", "--updates", "5")
    assert outcome.status == 0, outcome.error
    assert "127.0.0.1" in outcome.out + outcome.error


def test_a_journal_that_cannot_be_written(run: Commands, tmp_path: Path) -> None:
    outcome = run("emulate", "--seconds", "0.2", "--journal", tmp_path / "missing" / "journal")
    assert outcome.status in (1, 2)
    assert "journal" in outcome.problem
