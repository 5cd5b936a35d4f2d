"""What a recorder's links brought waits in memory, then on disk, in order, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raytrade.core.clock import SECOND
from raytrade.links.spill import CALM_NS, Arrived, MemoryStore, SpillQueue, SpillStore
from raytrade.links.spill_files import SpillFiles
from tests.unit.links.streams import delta


def batch(number: int, now_ns: int = 0) -> Arrived:
    return Arrived("d0", now_ns or number, [delta("A", number)])


SIZE = len(delta("A", 1).raw) + 2


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SpillStore:
    return MemoryStore() if request.param == "memory" else SpillFiles(tmp_path / "spill", segment_bytes=3 * SIZE)


def test_everything_comes_out_in_its_order(store: SpillStore) -> None:
    queue = SpillQueue(store, 4 * SIZE, 100 * SIZE)
    put: list[Arrived] = []
    taken: list[Arrived] = []
    for number in range(1, 200):
        put.append(batch(number) if number % 7 else Arrived("d1", number, [], number % 2 == 0))
        assert queue.put(put[-1])
        if number > 60 or number % 3 == 0:
            taken += [arrived for arrived in (queue.take(), queue.take()) if arrived is not None]
    assert queue.counts.records_spilled > 0
    while (arrived := queue.take()) is not None:
        taken.append(arrived)
    assert taken == put
    assert not queue
    assert (queue.counts.memory_bytes, queue.counts.disk_bytes, queue.counts.disk_records) == (0, 0, 0)


def test_what_has_no_room_is_not_taken(store: SpillStore) -> None:
    queue = SpillQueue(store, 2 * SIZE, 3 * (SIZE + 20))
    count = 0
    while queue.put(batch(count + 1)):
        count += 1
    assert 4 <= count <= 6
    assert queue.counts.refused == 1
    assert queue.counts.disk_bytes <= 3 * (SIZE + 20)
    assert queue.take() == batch(1)
    assert [queue.take() for _ in range(count - 1)] == [batch(number) for number in range(2, count + 1)]
    assert queue.put(batch(99))
    assert queue.take() == batch(99)


def test_a_queue_that_may_not_spill_takes_one_batch_at_least() -> None:
    queue = SpillQueue(MemoryStore(), 1, 0)
    assert queue.put(batch(1))
    assert not queue.put(batch(2))


def test_an_episode_is_told_once(store: SpillStore) -> None:
    queue = SpillQueue(store, 1, 100 * SIZE)
    now_ns = SECOND
    for _ in range(5):
        for number in range(1, 5):
            now_ns += SECOND // 10
            queue.put(batch(number, now_ns))
        while queue.take() is not None:
            pass
    assert queue.counts.episodes == len(queue.notes()) == 1
    now_ns += 2 * CALM_NS
    queue.put(batch(1, now_ns))
    queue.put(batch(2, now_ns))
    assert queue.counts.episodes == 2
    assert len(queue.notes()) == 1


def test_a_disk_that_takes_nothing_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "spill").write_text("a file where the directory should be")
    queue = SpillQueue(SpillFiles(tmp_path / "spill"), 1, 100 * SIZE)
    assert queue.put(batch(1))
    assert not queue.put(batch(2))
    assert queue.take() == batch(1)
    assert queue.put(batch(2))


def test_files_have_no_names_and_their_space_is_given_back(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    files = SpillFiles(tmp_path, segment_bytes=1000)
    for number in range(100):
        assert files.append(bytes([number]) * 300)
    assert list(tmp_path.iterdir()) == []
    held = len(list(descriptors.iterdir()))
    assert held == before + 25
    assert [files.take() for _ in range(50)] == [bytes([number]) * 300 for number in range(50)]
    assert len(list(descriptors.iterdir())) <= held - 12
    files.close()
    assert len(list(descriptors.iterdir())) == before


KILLED = """
import sys, time
from pathlib import Path
from raytrade.links.spill_files import SpillFiles
files = SpillFiles(Path(sys.argv[1]))
assert files.append(bytes(10_000_000))
print("spilled", flush=True)
sys.stdin.read()
"""


def test_who_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "spilled\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    child.stdin.close()
    assert list(tmp_path.iterdir()) == []
