"""Captures: what is good is read, and the break is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from raytrade.errors import CaptureError
from raytrade.storage import captures
from raytrade.storage.captures import Capture, CaptureRecord

HEADER: dict[str, Any] = {"kind": "header", "version": 1, "venue": "binance-spot", "connections": ["1"]}
RECORDS = [{"kind": "recv", "conn": "1", "ts_ns": at, "data": f'{{"n":{at}}}'} for at in range(1, 400)]


def write(path: Path, *records: object) -> Path:
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", mtime=0))
    return path


def read(path: Path) -> tuple[list[CaptureRecord], CaptureError | None]:
    found: list[CaptureRecord] = []
    try:
        for record in Capture(path).records():
            found.append(record)  # noqa: PERF402 - what came before the break is kept
    except CaptureError as error:
        return found, error
    return found, None


def test_a_whole_capture(tmp_path: Path) -> None:
    capture = Capture(write(tmp_path / "a.gz", HEADER, *RECORDS))
    assert (capture.header.venue, capture.header.connections) == ("binance-spot", ["1"])
    found = list(capture.records())
    assert [record.ts_ns for record in found] == list(range(1, 400))
    assert found[0].frame() == '{"n":1}'
    assert capture.bytes_read == capture.bytes_total > 0
    assert len(list(capture.records())) == 399


def test_binary_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", HEADER, {"kind": "recv", "b64": "AP8="}, {"kind": "recv", "b64": "A*"})
    good, bad = read(path)[0]
    assert good.frame() == b"\x00\xff"
    with pytest.raises(ValueError, match=r"."):
        bad.frame()


def test_a_header_alone(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.gz", HEADER)) == ([], None)


def test_a_truncated_file_is_read_to_the_break(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gz", HEADER, *RECORDS).read_bytes()
    lengths = set()
    for cut in range(len(whole) // 2, len(whole), 37):
        (tmp_path / "b.gz").write_bytes(whole[:cut])
        found, problem = read(tmp_path / "b.gz")
        lengths.add(len(found))
        assert [record.ts_ns for record in found] == list(range(1, len(found) + 1))
        assert problem is not None
        assert problem.line >= len(found) + 1
        assert "b.gz: line" in str(problem)
        assert "ends in the middle" in problem.problem or "damaged" in problem.problem
    assert len(lengths) > 3


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gz", HEADER, *RECORDS).read_bytes()
    for at in range(100, len(whole) - 8, 61):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (tmp_path / "b.gz").write_bytes(damaged)
        _, problem = read(tmp_path / "b.gz")
        assert problem is not None
        assert "\n" not in str(problem)


HEADLESS = [
    b"",
    b"\n",
    b"{}",
    b"[" * 100_000,
    b"\xff\xfe",
    b"PK\x03\x04" * 9,
    *[json.dumps({**HEADER, **change}).encode() for change in ({"version": 2}, {"venue": 3}, {"kind": "recv"})],
]


@pytest.mark.parametrize(
    "data", [b"", b"\x1f", b"\x1f\x8b", b"not gzip", *(gzip.compress(data, mtime=0) for data in HEADLESS)]
)
def test_what_is_no_capture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(data)
    with pytest.raises(CaptureError) as caught:
        Capture(path)
    assert str(caught.value).startswith(f"{path}: line 1: not a capture")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        Capture(tmp_path / "missing.gz")


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"kind":"recv"',
        b"[]",
        b"{}",
        b'{"kind":"recv","ts_ns":"soon"}',
        b'{"kind":"recv","ts_ns":-1}',
        b'{"kind":"recv","ts_ns":1e400}',
        b'{"kind":"recv","ts_ns":' + b"9" * 40 + b"}",
        b'{"kind":"recv","ts_ns":NaN}',
        b'{"kind":"recv","conn":7}',
        b'{"kind":"recv","conn":"' + b"x" * 1000 + b'"}',
        b'{"kind":"recv","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"kind":"recv","data":"\xff"}',
        b'{"kind":"recv","data":"\\ud800"}',
        b"\x00\x00",
        b"",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    found, problem = read(write(tmp_path / "a.gz", HEADER, *RECORDS[:3], line, *RECORDS[3:]))
    assert len(found) == 3
    assert problem is not None
    assert problem.line == 5
    assert "\n" not in str(problem)


def test_an_endless_line_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "LINE_BYTES_MAX", 10_000)
    path = write(tmp_path / "a.gz", HEADER, RECORDS[0], b" " * 100_000, RECORDS[1])
    found, problem = read(path)
    assert len(found) == 1
    assert problem is not None
    assert (problem.line, problem.problem) == (3, "damaged: longer than 10000 bytes")


def test_something_after_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", HEADER, *RECORDS)
    path.write_bytes(path.read_bytes() + b"rubbish")
    found, problem = read(path)
    assert len(found) == 399
    assert problem is not None
