"""How to hit a process of this host: kill, pause, a full disk, the processes of a Ray node.

Every function checks first that the pid is what it is said to be: a process of Ray's that runs an actor of ours, or
the raylet of the node. They run on the host of the process, through `raytrade.pipeline.driver.run_on_node`.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
from pathlib import Path

from raytrade.errors import PipelineError

_PROC = Path("/proc")
TITLES = {
    "collector": "ray::Collector",
    "dedup": "ray::Dedup",
    "strategy": "ray::StrategyActor",
    "gateway": "ray::GatewayActor",
    "recorder": "ray::Recorder",
    "supervisor": "ray::Supervisor",
}
"""How Ray titles the process of an actor; a running method's name follows a point."""


def check_actor(pid: int, role: str) -> None:
    """See that the process runs an actor of this role.

    Raises:
        PipelineError: it does not, or is gone.
    """
    title = _command(pid).partition("\0")[0]
    if not title.startswith(TITLES[role]):
        raise PipelineError(f"process {pid} is no {role} of a pipeline: {title or 'there is no such process'}")


def kill_actor(pid: int, role: str) -> int:
    """SIGKILL the process of an actor; gives its pid."""
    check_actor(pid, role)
    os.kill(pid, signal.SIGKILL)
    return pid


def pause_actor(pid: int, role: str, seconds: float) -> None:
    """SIGSTOP the process of an actor, SIGCONT it after `seconds`."""
    check_actor(pid, role)
    _pause([pid], seconds)


def fill_disk(pid: int, seconds: float) -> None:
    """Have every write of a recorder to a file fail for `seconds`, as with a quota that is used up (EFBIG)."""
    check_actor(pid, "recorder")
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        threading.Event().wait(seconds)
    finally:
        if (_PROC / str(pid)).exists():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def raylet_of(node_id: str) -> int:
    """Find the raylet of a node.

    Raises:
        PipelineError: it does not run on this host.
    """
    for process in _PROC.iterdir():
        if process.name.isdigit():
            words = _command(int(process.name)).split("\0")
            if words[0].endswith("/raylet") and f"--node_id={node_id}" in words:
                return int(process.name)
    raise PipelineError(f"no raylet of the node {node_id[:12]} runs on this host")


def node_processes(node_id: str) -> list[int]:
    """Give the pids of a node: its raylet first, then everything that the raylet has started."""
    return _tree(raylet_of(node_id))


def _tree(root: int) -> list[int]:
    """Give a process and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for process in _PROC.iterdir():
        if process.name.isdigit():
            children.setdefault(_parent(int(process.name)), []).append(int(process.name))
    found, at = [root], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


def kill_node(node_id: str) -> list[int]:
    """SIGKILL a node's raylet and all under it, as when the host loses power; gives the pids."""
    return kill_tree(raylet_of(node_id))


def kill_tree(root: int) -> list[int]:
    """SIGKILL a process and all that descend from it, all at once; gives the pids."""
    pids = _tree(root)
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    return pids


def freeze_node(node_id: str, seconds: float) -> None:
    """Have nobody hear from a node for `seconds`: all its processes are stopped, then go on."""
    _pause(node_processes(node_id), seconds)


def stop_raylet(node_id: str) -> int:
    """SIGSTOP a raylet, so that it starts nothing; gives its pid for `go_on`."""
    pid = raylet_of(node_id)
    os.kill(pid, signal.SIGSTOP)
    return pid


def go_on(pid: int) -> None:
    """SIGCONT a process, if it is still there."""
    _signal(pid, signal.SIGCONT)


def _pause(pids: list[int], seconds: float) -> None:
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        threading.Event().wait(seconds)
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])
