"""What a tree of processes holds at one moment: memory of its own, descriptors, threads, and Ray's object store."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import msgspec

from .processes import tree

STORE_METRIC = "ray_object_store_memory"
"""Bytes in the object store by place, among the metrics that Ray documents."""
METRICS_TIMEOUT_S = 5.0


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """One process; megabytes are its proportional share.

    `own_mb` is anonymous and shared memory: pages of files (code, logs, what is being written) are left out, because
    the kernel can take them back at any time.
    """

    role: str
    own_mb: float
    pss_mb: float
    rss_mb: float
    descriptors: int
    threads: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All processes, by process id, `at_s` seconds after the beginning."""

    at_s: float
    processes: dict[int, ProcessSample]
    store_mb: float

    @property
    def own_mb(self) -> float:
        """The sum over all processes."""
        return sum(process.own_mb for process in self.processes.values())


def take_sample(at_s: float, roots: dict[int, str], metrics_port: int) -> Sample:
    """Read everything now.

    Raises:
        OSError: Ray does not give its metrics.
    """
    found = {pid: _process(pid, role) for pid, role in tree(roots).items()}
    url = f"http://127.0.0.1:{metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=METRICS_TIMEOUT_S) as reply:
        store_bytes = metric_sum(reply.read().decode(), STORE_METRIC)
    processes = {pid: process for pid, process in found.items() if process is not None}
    return Sample(at_s=at_s, processes=processes, store_mb=store_bytes / 1e6)


def _process(pid: int, role: str) -> ProcessSample | None:
    """Read /proc; None if the process is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        memory = fields_of((folder / "smaps_rollup").read_text())
        status = fields_of((folder / "status").read_text())
        descriptors = len(os.listdir(folder / "fd"))
    except OSError:
        return None
    return ProcessSample(
        role=role,
        own_mb=(memory["Pss_Anon"] + memory["Pss_Shmem"]) / 1024,
        pss_mb=memory["Pss"] / 1024,
        rss_mb=memory["Rss"] / 1024,
        descriptors=descriptors,
        threads=status["Threads"],
    )


def fields_of(text: str) -> dict[str, int]:
    """Give the numbers of a file of ``Name: number`` lines."""
    fields = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.isidentifier() and words and words[0].isdigit():
            fields[name] = int(words[0])
    return fields


def metric_sum(text: str, name: str) -> float:
    """Give the sum of a metric over its labels, from Prometheus' text format.

    Raises:
        OSError: it is not there.
    """
    values = [
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))
    ]
    if not values:
        raise OSError(f"Ray's metrics have no {name}")
    return sum(values)
