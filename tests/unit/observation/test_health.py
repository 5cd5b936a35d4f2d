"""The doctor's judgement: every check has a good, and a bad side with a remedy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raytrade.core.clock import MILLISECOND
from raytrade.observation.health import (
    DiskFacts,
    HostFacts,
    Level,
    judge_disk,
    judge_host,
    judge_offset,
    judge_own_port,
    judge_reached,
    judge_versions,
)

GOOD = HostFacts(
    python="3.11.9",
    raytrade="0.1.0",
    ray="2.60.0",
    files_max=1_048_576,
    shared_memory_bytes=4 * 1024**3,
    clock_synchronised=True,
    clock_error_ns=MILLISECOND,
    now_ns=0,
)


def test_a_good_host() -> None:
    assert {finding.level for finding in judge_host("h", GOOD)} == {Level.OK}


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"python": "3.10.2"}, "versions", Level.BAD),
        ({"files_max": 1024}, "file limit", Level.BAD),
        ({"files_max": 20_000}, "file limit", Level.WARNING),
        ({"shared_memory_bytes": 64 * 1024**2}, "shared memory", Level.BAD),
        ({"shared_memory_bytes": 512 * 1024**2}, "shared memory", Level.WARNING),
        ({"clock_synchronised": False}, "clock", Level.WARNING),
        ({"clock_synchronised": None}, "clock", Level.WARNING),
        ({"native": "not there", "native_refused": True}, "accelerator", Level.BAD),
    ],
)
def test_what_is_wrong_has_a_remedy(change: dict[str, Any], check: str, level: Level) -> None:
    findings = judge_host("h", msgspec.structs.replace(GOOD, **change))
    assert [(f.check, f.level) for f in findings if f.level is not Level.OK] == [(check, level)]
    assert all(bool(f.remedy) == (f.level is not Level.OK) for f in findings)


@pytest.mark.parametrize(
    ("offset_ms", "bound_ms", "level"),
    [(0.1, 1, Level.OK), (7, 3, Level.OK), (9, 3, Level.WARNING), (-400, 3, Level.BAD)],
)
def test_an_offset_counts_beyond_its_bound(offset_ms: float, bound_ms: float, level: Level) -> None:
    assert judge_offset("n", int(offset_ms * MILLISECOND), int(bound_ms * MILLISECOND)).level is level


def test_versions_must_be_the_same() -> None:
    assert judge_versions("n", GOOD, msgspec.structs.replace(GOOD, python="3.11.2")).level is Level.OK
    other = judge_versions("n", GOOD, msgspec.structs.replace(GOOD, ray="2.59.0"))
    assert (other.level, other.text) == (Level.BAD, "Ray 2.59.0 there, 2.60.0 here")


@pytest.mark.parametrize(
    ("problem", "free", "level"),
    [("", 10**12, Level.OK), ("", 10**6, Level.WARNING), ("not writable", 10**12, Level.BAD)],
)
def test_disks(problem: str, free: int, level: Level) -> None:
    finding = judge_disk("h", DiskFacts(directory="/data", problem=problem, free_bytes=free))
    assert (finding.level, bool(finding.remedy)) == (level, level is not Level.OK)


def test_ports_between_hosts() -> None:
    assert judge_reached("n", {"10.0.0.2:1": "", "10.0.0.3:1": ""}).level is Level.OK
    finding = judge_reached("n", {"10.0.0.2:1": "", "10.0.0.3:1": "no answer"})
    assert (finding.level, finding.text) == (Level.BAD, "10.0.0.3:1: no answer")
    assert finding.remedy


def test_ports_of_this_host() -> None:
    assert judge_own_port("h", 8420, "the page", "").level is Level.OK
    finding = judge_own_port("h", 8420, "the page", "Address already in use")
    assert (finding.level, finding.text) == (Level.WARNING, "8420 (the page): Address already in use")
    assert finding.remedy
