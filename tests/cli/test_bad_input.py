"""Bad input: one clear line, the right status, nothing half-written."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Commands, files, run_process
from tests.unit.recorded import good, header, write


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write(tmp_path / "good.jsonl.gz", header(), *good())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import"], "Missing argument"),
        (["import", "a.gz"], "Missing option '--out'"),
        (["import", "a.gz", "--out"], "'--out' requires an argument"),
        (["import", "a.gz", "--out", "x", "--bogus"], "No such option: --bogus"),
        (["impotr"], "No such command 'impotr'"),
        (["venues", "surplus"], "unexpected extra argument"),
        (["import", "missing.gz", "--out", "x"], "missing.gz: no such file"),
        (["import", "/", "--out", "x"], "/: is no file"),
        (["run", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["demo", "--capture", "missing.gz"], "--capture: missing.gz: no such file"),
        (["attach", "mine.py:Mine", "--param", "novalue"], "--param: 'novalue' is not name=value"),
        (["chaos", "kill", "node"], "say which one: raytrade chaos kill node --node ID"),
        (["chaos", "kill", "x", "--node", "y"], "say which one"),
        (["chaos", "pause", "x", "--seconds", "0"], "--seconds"),
        (["chaos", "soak", "--faults", "kill,hug"], "--faults: 'hug' is none of kill, pause, cut"),
        (["chaos", "soak", "--json", "no/such/dir.json"], "--json: no/such: no such directory"),
        (["chaos", "report", "missing.json"], "missing.json: not a result of a soak"),
    ],
)
def test_wrong_usage_is_status_2(
    run: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*arguments)
    assert outcome.status == 2
    assert words in outcome.problem
    assert (outcome.out, files(tmp_path), list(tmp_path.iterdir())) == ("", [], [])


@pytest.mark.parametrize(
    "text",
    [
        "venues: {binance-spt: {symbols: [A]}}",
        "venues: [",
        "vanues: {}",
        "\x00",
        "venues: {binance-spot: {symbols: A}}",
    ],
)
def test_a_wrong_configuration_is_status_2(run: Commands, tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    outcome = run("run", path)
    assert outcome.status == 2
    assert outcome.problem.startswith(f"raytrade: {path}: ")


def test_an_unknown_venue_writes_nothing(run: Commands, capture: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.gz", header("binance-spt"))
    outcome = run("import", capture, other, "--out", tmp_path / "out")
    assert outcome.status == 2
    assert outcome.problem == f"raytrade: {other}: venue 'binance-spt': unknown; did you mean binance-spot?"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not gzip",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"[" * 99_999, mtime=0),
    ],
)
def test_what_is_no_capture_writes_nothing(run: Commands, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(data)
    outcome = run("import", path, "--out", tmp_path / "out", "--book", tmp_path / "book.json")
    assert outcome.status == 1
    assert outcome.problem.startswith(f"raytrade: {path}: line 1: not a capture")
    assert files(tmp_path) == [path]


def test_a_directory_that_cannot_be_written(run: Commands, capture: Path, tmp_path: Path) -> None:
    for out in (capture, capture / "below", Path("/proc/nothing")):
        outcome = run("import", capture, "--out", out)
        assert outcome.status == 1
        assert outcome.problem.startswith(f"raytrade: {out}: not writable: ")
    assert files(tmp_path) == [capture]


def test_a_book_that_cannot_be_written_is_found_first(run: Commands, capture: Path, tmp_path: Path) -> None:
    for book in (tmp_path, tmp_path / "missing" / "book.json", capture / "book.json"):
        outcome = run("import", capture, "--out", tmp_path / "out", "--book", book)
        assert outcome.status == 2
        assert f"import: --book: {book}: " in outcome.problem
    assert files(tmp_path) == [capture]


def test_a_full_disk_under_the_book(run: Commands, capture: Path, tmp_path: Path, tiny: Path) -> None:
    (tiny / "filler").write_bytes(b"\0" * free(tiny))
    outcome = run("import", capture, "--out", tmp_path / "out", "--book", tiny / "book.json")
    assert outcome.status == 1
    assert outcome.problem == f"raytrade: {tiny / 'book.json'}: cannot be written: No space left on device"
    assert [path.name for path in files(tiny)] == ["filler"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    where = tmp_path / "tiny"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a small file system")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def free(where: Path) -> int:
    found = os.statvfs(where)
    return found.f_bavail * found.f_frsize


def test_a_full_disk_under_the_recording(run: Commands, capture: Path, tiny: Path) -> None:
    (tiny / "filler").write_bytes(b"\0" * (free(tiny) - 4096))
    outcome = run("import", capture, "--out", tiny / "out", "--json")
    assert outcome.status == 1
    assert outcome.problem.startswith(f"raytrade: {tiny / 'out'}")
    assert "No space left on device" in outcome.problem
    assert (outcome.out, [path.name for path in files(tiny)]) == ("", ["filler"])


def test_a_full_disk_in_mid_recording(run: Commands, tmp_path: Path, tiny: Path) -> None:
    """Several instruments: some segments fit, each is whole, and the first that does not is gone."""
    records = [record for at in range(40) for record in good(f"SYM{at}")]
    records.sort(key=lambda record: int(record["ts_ns"]))
    path = write(tmp_path / "many.gz", header(), *records)
    (tiny / "filler").write_bytes(b"\0" * (free(tiny) - 200_000))
    outcome = run("import", path, "--out", tiny / "out")
    assert outcome.status == 1
    assert "No space left on device" in outcome.problem
    left = files(tiny / "out")
    assert 0 < len(left) < 40
    assert {part.suffix for part in left} == {".parquet"}
    assert all(part.read_bytes()[-4:] == b"PAR1" for part in left)


# Output that nobody can take.


def test_a_full_disk_under_the_output() -> None:
    outcome = run_process("venues", "--json", stdout=Path("/dev/full"))
    assert outcome.status == 1
    assert outcome.problem == "raytrade: No space left on device"


@pytest.mark.parametrize("arguments", [["venues"], ["venues", "--json"]])
def test_a_closed_pipe(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "raytrade", *arguments]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stderr == "raytrade: Broken pipe\n"
