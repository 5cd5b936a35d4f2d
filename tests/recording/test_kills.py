"""kill -9 of a recording process: what it had flushed comes back, nothing is lost or twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import kills


@pytest.mark.long
def test_a_recorder_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    outcome = kills.run(tmp_path, 4, 7, kills.start_up_s())
    assert not kills.is_bad(outcome), outcome
    assert outcome["updates"] > 100
    assert outcome["starts"] > 1
