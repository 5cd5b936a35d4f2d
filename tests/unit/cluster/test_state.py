"""The provider's state survives crashes at any moment, and two writers at once."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raytrade.cluster.pools import Launches
from raytrade.cluster.state import StateFile
from raytrade.errors import PipelineError


def launch(state: StateFile, host: str) -> None:
    with state.change() as launches:
        launches.start([host], {"kind": "worker"}, lambda: "1")


def test_what_was_changed_is_read_again(tmp_path: Path) -> None:
    launch(StateFile(tmp_path / "deep" / "er", "c"), "a")
    assert list(StateFile(tmp_path / "deep" / "er", "c").read().launches) == ["a__1"]
    assert StateFile(tmp_path, "other").read() == Launches()


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "states", "c")
    launch(state, "a")
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    state = StateFile(tmp_path, "c")
    launch(state, "a")

    def crash(*_: object, **__: object) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(os if step == "fsync" else Path, step, crash)
        with pytest.raises(OSError, match="power"):
            launch(state, "b")
    assert list(state.read().launches) == ["a__1"]
    launch(state, "b")
    assert list(state.read().launches) == ["a__1", "b__1"]


def test_an_error_in_between_changes_nothing(tmp_path: Path) -> None:
    state = StateFile(tmp_path, "c")
    with pytest.raises(ValueError, match="no"), state.change() as launches:
        launches.head_id = "x"
        raise ValueError("no")
    assert state.read().head_id == ""
    assert not state.path.exists()


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    states = [StateFile(tmp_path, "c") for _ in range(4)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda number: launch(states[number % 4], f"h{number}"), range(40)))
    assert len(states[0].read().launches) == 40


def test_a_file_of_somebody_else_is_refused_by_name(tmp_path: Path) -> None:
    state = StateFile(tmp_path, "c")
    state.path.write_text('{"launches": 3}')
    with pytest.raises(PipelineError, match=r"c\.json: not a state of launches"):
        state.read()
