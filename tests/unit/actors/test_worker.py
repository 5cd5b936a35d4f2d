"""The machine thread: it sleeps in the kernel, unless it is told never to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from raytrade.actors.incidents import Incidents
from raytrade.actors.worker import MachineThread
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.incidents import Incident

WATCHED_S = 0.4


class Looks:
    """Counts how often the descriptors are looked at."""

    def __init__(self, epoll: Any) -> None:
        self.count = 0
        self._epoll = epoll

    def poll(self, timeout_s: float) -> Any:
        self.count += 1
        return self._epoll.poll(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


class Machine:
    """Counts its ticks, and the looks of its thread."""

    def __init__(self, *, busy_poll: bool) -> None:
        self.ticks = 0
        self.thread = MachineThread("machine", self.tick, busy_poll=busy_poll)
        self.looks = Looks(self.thread._epoll)
        self.thread._epoll = self.looks  # type: ignore[assignment]
        self.thread.start()

    def tick(self, now_ns: Nanos) -> Nanos | None:
        self.ticks += 1
        return None


@pytest.mark.parametrize("busy_poll", [False, True])
def test_it_spins_only_if_it_is_told_to(busy_poll: bool) -> None:
    machine = Machine(busy_poll=busy_poll)
    threading.Event().wait(WATCHED_S)
    if busy_poll:
        deadline = time.monotonic() + 10
        while machine.looks.count < 500:
            assert time.monotonic() < deadline, "it sleeps"
    else:
        assert machine.looks.count < 50, "it does not sleep"
    assert machine.ticks < machine.looks.count + 50, "spinning is looking at descriptors, not working"
    machine.thread.stop()


@pytest.mark.parametrize("busy_poll", [False, True])
def test_sockets_calls_and_deadlines_have_their_turn(busy_poll: bool) -> None:
    machine = Machine(busy_poll=busy_poll)
    read_end, write_end = os.pipe()
    heard = threading.Event()

    class End:
        def fileno(self) -> int:
            return read_end

    def read() -> None:
        os.read(read_end, 1)
        heard.set()

    machine.thread.call(machine.thread.watch, End(), read)
    os.write(write_end, b"x")
    assert heard.wait(5)
    assert machine.thread.call(lambda: 7) == 7
    ticks = machine.ticks
    machine.thread.wake()
    deadline = time.monotonic() + 5
    while machine.ticks == ticks and time.monotonic() < deadline:
        pass
    assert machine.ticks > ticks
    machine.thread.call(machine.thread.unwatch, End())
    machine.thread.stop()
    os.close(read_end)
    os.close(write_end)


def test_a_deadline_is_kept_while_spinning() -> None:
    due: list[Nanos] = []

    def tick(now_ns: Nanos) -> Nanos | None:
        due.append(now_ns)
        return now_ns + 5 * MILLISECOND

    thread = MachineThread("machine", tick, busy_poll=True)
    thread.start()
    deadline = time.monotonic() + 5
    while len(due) < 10 and time.monotonic() < deadline:
        pass
    thread.stop()
    assert len(due) >= 10
    assert all(later - earlier >= 5 * MILLISECOND for earlier, later in pairwise(due[:10]))


class FullDisk:
    """A standard error that has no room."""

    def write(self, text: str) -> int:
        raise OSError(27, "File too large")

    def flush(self) -> None:
        raise OSError(27, "File too large")


def test_an_incident_that_cannot_be_written_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    incidents = Incidents("a")
    monkeypatch.setattr(sys, "stderr", FullDisk())
    incidents.note(Incident.RECORDING_FAILED, 1, problem="full")
    assert [one["incident"] for one in incidents.status()["incidents"]] == ["recording_failed"]


def test_a_thread_that_fails_ends_the_process_even_if_nothing_can_be_printed() -> None:
    """Else the actor would live on without its thread, and answer nothing."""
    program = """
import sys
from raytrade.actors.worker import MachineThread

class FullDisk:
    def write(self, text): raise OSError(27, "File too large")
    def flush(self): raise OSError(27, "File too large")

def tick(now_ns): raise ValueError("wrong")

sys.stderr = FullDisk()
thread = MachineThread("t", tick)
thread.start()
thread._thread.join()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 70
