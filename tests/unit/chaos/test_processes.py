"""Who may be hit: only processes that are what they are said to be."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytrade.chaos import processes
from raytrade.errors import PipelineError

PROGRAM = "import sys; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that is titled as Ray titles a recorder's."""
    command = ["ray::Recorder.status", "-c", PROGRAM]
    with subprocess.Popen(
        command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_another_process_is_left_alone() -> None:
    with pytest.raises(PipelineError, match=f"process {os.getpid()} is no recorder"):
        processes.kill_actor(os.getpid(), "recorder")
    with pytest.raises(PipelineError, match="there is no such process"):
        processes.kill_actor(2**22 + 1, "recorder")


def test_another_role_is_left_alone(fake: subprocess.Popen[str]) -> None:
    with pytest.raises(PipelineError, match="is no dedup"):
        processes.kill_actor(fake.pid, "dedup")
    assert fake.poll() is None


def test_an_actor_is_killed(fake: subprocess.Popen[str]) -> None:
    processes.kill_actor(fake.pid, "recorder")
    assert fake.wait() == -signal.SIGKILL


def test_a_pause_ends(fake: subprocess.Popen[str]) -> None:
    processes.pause_actor(fake.pid, "recorder", 0.05)
    assert state_of(fake.pid) in "SR"


def test_a_full_disk_ends(fake: subprocess.Popen[str]) -> None:
    before = resource.prlimit(fake.pid, resource.RLIMIT_FSIZE)
    processes.fill_disk(fake.pid, 0.05)
    assert resource.prlimit(fake.pid, resource.RLIMIT_FSIZE) == before


def test_a_tree_is_killed_to_the_last_child() -> None:
    script = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {PROGRAM!r}]); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        pids = processes.kill_tree(parent.pid)
        assert pids[0] == parent.pid
        assert len(pids) == 2
        assert parent.wait() == -signal.SIGKILL


def test_a_node_of_another_host_is_not_found() -> None:
    with pytest.raises(PipelineError, match="no raylet of the node 00ff00ff00ff runs on this host"):
        processes.raylet_of("00ff00ff00ff00ff")
