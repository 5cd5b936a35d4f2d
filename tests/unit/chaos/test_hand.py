"""The buttons of a demo: what is of the demo is hit, everything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raytrade.chaos import hand as hands
from raytrade.chaos.hand import Hand
from raytrade.errors import ConfigError

ACTORS: dict[str, dict[str, Any]] = {
    "demo-dedup-0-a": {"role": "dedup", "state": "alive", "pid": 11, "node": "n"},
    "demo-recorder-r": {"role": "recorder", "state": "dead", "pid": 12, "node": "n"},
    "demo-strategy-watch": {"role": "strategy", "state": "alive", "pid": 13, "node": "n"},
}


class Processes:
    """Stands for the processes of this host."""

    def __init__(self) -> None:
        self.hit: list[tuple[Any, ...]] = []

    def kill_actor(self, pid: int, role: str) -> int:
        self.hit.append((pid, role))
        return pid

    def pause_actor(self, pid: int, role: str, seconds: float) -> None:
        self.hit.append((pid, role, seconds))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(hands, "processes", made)
    return made


def hand(name: str = "demo") -> Hand:
    return Hand("demo", lambda: {"name": name, "actors": ACTORS}, frozenset({"demo-strategy-watch"}))


def test_what_runs_and_is_not_spared_is_hit(processes: Processes) -> None:
    assert hand().targets() == ["demo-dedup-0-a"]
    assert hand().kill("demo-dedup-0-a") == "killed demo-dedup-0-a (pid 11)"
    assert hand().pause("demo-dedup-0-a", 3) == "paused demo-dedup-0-a (pid 11) for 3 s"
    hand().pause("demo-dedup-0-a", 1e9)
    assert processes.hit == [(11, "dedup"), (11, "dedup", 3), (11, "dedup", hands.PAUSE_S_MAX)]


@pytest.mark.parametrize("actor", ["demo-strategy-watch", "demo-recorder-r", "demo-supervisor", "", "dedup-0-a"])
def test_everything_else_is_refused(processes: Processes, actor: str) -> None:
    with pytest.raises(ConfigError, match=r"may not be hit from here \(what may: demo-dedup-0-a\)"):
        hand().kill(actor)
    with pytest.raises(ConfigError, match="may not be hit"):
        hand().pause(actor, 1)
    assert processes.hit == []


def test_nothing_of_another_pipeline_is_hit(processes: Processes) -> None:
    assert hand("majors").targets() == []
    with pytest.raises(ConfigError, match="what may: none"):
        hand("majors").kill("demo-dedup-0-a")
    assert processes.hit == []
