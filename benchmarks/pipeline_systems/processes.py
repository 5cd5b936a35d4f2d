"""What a tree of processes costs, seconds of CPU by role, and memory by proportional share."""

from __future__ import annotations

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2
"""The kernel's number for the clock of a process, see clock_getcpuclockid(3): finer than /proc/PID/stat."""


class Usage:
    """Seconds of CPU by process, at one moment."""

    def __init__(self, roots: dict[int, str]) -> None:
        self.seconds: dict[int, float] = {}
        self.roles: dict[int, str] = {}
        for pid, role in tree(roots).items():
            seconds = cpu_seconds(pid)
            if seconds is not None:
                self.seconds[pid], self.roles[pid] = seconds, role

    def since(self, earlier: Usage) -> dict[str, float]:
        """Give the seconds by role since `earlier`; a process that began in between counts in full."""
        spent: dict[str, float] = {}
        for pid, seconds in self.seconds.items():
            role = self.roles[pid]
            spent[role] = spent.get(role, 0.0) + seconds - earlier.seconds.get(pid, 0.0)
        return spent


def tree(roots: dict[int, str]) -> dict[int, str]:
    """Give the roots and all that descends from them, with their roles."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = list(roots.items())
    while waiting:
        pid, role = waiting.pop()
        found[pid] = role
        waiting += [(child, roots.get(child) or _role(child)) for child in children.get(pid, ()) if child not in found]
    return found


def cpu_seconds(pid: int) -> float | None:
    """Give user and system time of a process, in full precision; None if it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return None


def memory_mb(roots: dict[int, str]) -> float:
    """Give the proportional set size of a tree."""
    total_kb = 0
    for pid in tree(roots):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def _fields(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on: 0 state, 1 parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _role(pid: int) -> str:
    """Name a process: Ray's actors call themselves `ray::Name`, all else goes by its program."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    names = [Path(word.decode(errors="replace")).name for word in words if word]
    if not names:
        return "gone"
    if names[0].startswith("ray::"):
        return names[0]
    scripts = [name for name in names[1:4] if name.endswith(".py")]
    return scripts[0].removesuffix(".py") if names[0].startswith("python") and scripts else names[0]
