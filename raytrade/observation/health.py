"""What `raytrade doctor` judges: facts about a host or a pipeline in, findings with their remedies out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos

FILES_MIN, FILES_GOOD = 4096, 65_536
SHARED_MEMORY_BYTES_MIN, SHARED_MEMORY_BYTES_GOOD = 256 * 1024**2, 1024**3
DISK_BYTES_MIN = 5 * 1024**3
CLOCK_NS_GOOD, CLOCK_NS_MAX = 5 * MILLISECOND, 250 * MILLISECOND
PYTHON_MIN = (3, 11)


class Level(StrEnum):
    """How bad a finding is; only `BAD` makes the doctor fail."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. A remedy stands wherever the level is not ok."""

    subject: str
    check: str
    level: Level
    text: str
    remedy: str = ""


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says of itself. `clock_synchronised` is None where the system does not tell."""

    python: str
    raytrade: str
    ray: str
    files_max: int
    shared_memory_bytes: int
    clock_synchronised: bool | None
    clock_error_ns: Nanos
    now_ns: Nanos
    native: str = ""
    """Which code moves the data: the accelerator, or why it is Python."""
    native_refused: bool = False


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is under a recorder's directory; `problem` says why it cannot be written."""

    directory: str
    problem: str
    free_bytes: int


def judge_host(subject: str, facts: HostFacts) -> list[Finding]:
    """Judge versions, limits and clock of one host."""
    judges = (_python, _native, _files, _shared_memory, _clock)
    return [judge(subject, facts) for judge in judges]


def _finding(subject: str, check: str, level: Level, text: str, remedy: str) -> Finding:
    return Finding(subject=subject, check=check, level=level, text=text, remedy="" if level is Level.OK else remedy)


def _level(value: float, bad_below: float, good_from: float) -> Level:
    return Level.BAD if value < bad_below else Level.OK if value >= good_from else Level.WARNING


def _python(subject: str, facts: HostFacts) -> Finding:
    version = tuple(int(part) for part in facts.python.split(".")[:2])
    level = Level.OK if version >= PYTHON_MIN else Level.BAD
    text = f"Python {facts.python}, raytrade {facts.raytrade}, Ray {facts.ray}"
    return _finding(subject, "versions", level, text, "install Python 3.11 or later")


def _native(subject: str, facts: HostFacts) -> Finding:
    level = Level.BAD if facts.native_refused else Level.OK
    remedy = "pip install ./native in the repository of raytrade on this host, or unset RAYTRADE_NATIVE"
    return _finding(subject, "accelerator", level, facts.native, remedy)


def _files(subject: str, facts: HostFacts) -> Finding:
    level = _level(facts.files_max, FILES_MIN, FILES_GOOD)
    remedy = f"ulimit -n {FILES_GOOD} before `ray start` (or LimitNOFILE in its unit)"
    return _finding(subject, "file limit", level, f"{facts.files_max} open files", remedy)


def _shared_memory(subject: str, facts: HostFacts) -> Finding:
    free = facts.shared_memory_bytes
    level = _level(free, SHARED_MEMORY_BYTES_MIN, SHARED_MEMORY_BYTES_GOOD)
    remedy = "make /dev/shm larger: mount -o remount,size=2G /dev/shm (in a container: --shm-size=2g)"
    return _finding(subject, "shared memory", level, f"{free / 1e6:.0f} MB free in /dev/shm", remedy)


def _clock(subject: str, facts: HostFacts) -> Finding:
    if facts.clock_synchronised is None:
        return _finding(subject, "clock", Level.WARNING, "the system does not tell whether it is set", "run chrony")
    level = Level.OK if facts.clock_synchronised else Level.WARNING
    error_ms = facts.clock_error_ns / MILLISECOND
    text = f"set by the network, error below {error_ms:.1f} ms" if level is Level.OK else "not set by the network"
    return _finding(
        subject, "clock", level, text, "run chrony (or systemd-timesyncd) and wait until it has set the clock"
    )


def judge_offset(subject: str, offset_ns: Nanos, bound_ns: Nanos) -> Finding:
    """Judge how far a node's clock is from ours; `bound_ns` is how far that measurement itself may be wrong."""
    surely_ns = max(0, abs(offset_ns) - bound_ns)
    level = Level.BAD if surely_ns > CLOCK_NS_MAX else Level.WARNING if surely_ns > CLOCK_NS_GOOD else Level.OK
    text = f"{offset_ns / MILLISECOND:+.1f} ms from this host's clock, within {bound_ns / MILLISECOND:.1f} ms"
    return _finding(subject, "clock offset", level, text, "set both hosts' clocks by chrony from the same servers")


def judge_versions(subject: str, here: HostFacts, there: HostFacts) -> Finding:
    """Judge whether a node runs the same software as we do."""
    differing = [
        f"{name} {theirs} there, {ours} here"
        for name, ours, theirs in (
            ("raytrade", here.raytrade, there.raytrade),
            ("Ray", here.ray, there.ray),
            ("Python", _minor(here.python), _minor(there.python)),
        )
        if ours != theirs
    ]
    text = "; ".join(differing) or "the same as here"
    remedy = f"install raytrade {here.raytrade} with Ray {here.ray} on Python {_minor(here.python)} on every node"
    return _finding(subject, "same versions", Level.BAD if differing else Level.OK, text, remedy)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def judge_reached(subject: str, problems: Mapping[str, str]) -> Finding:
    """Judge whether a host reaches the ports of the others; `problems` by ``host:port``, empty where it does."""
    bad = [f"{place}: {problem}" for place, problem in problems.items() if problem]
    text = "; ".join(bad) or f"reaches {len(problems)} ports of the other nodes"
    remedy = "let the nodes reach each other's ports (firewall, security group); docs/security.md lists them"
    return _finding(subject, "ports", Level.BAD if bad else Level.OK, text, remedy)


def judge_own_port(subject: str, port: int, use: str, problem: str) -> Finding:
    """Judge whether a port that is about to be listened on can be."""
    text = f"{port} ({use}): {problem or 'free'}"
    remedy = "end what listens there, or choose another port"
    return _finding(subject, "ports", Level.WARNING if problem else Level.OK, text, remedy)


def judge_disk(subject: str, facts: DiskFacts) -> Finding:
    """Judge a recorder's directory."""
    if facts.problem:
        remedy = "give the recorder a directory that its user may write, or make this one writable"
        return _finding(subject, "disk", Level.BAD, f"{facts.directory}: {facts.problem}", remedy)
    level = Level.OK if facts.free_bytes >= DISK_BYTES_MIN else Level.WARNING
    text = f"{facts.directory}: {facts.free_bytes / 1e9:.1f} GB free"
    return _finding(subject, "disk", level, text, "make room, or record on a larger disk")
