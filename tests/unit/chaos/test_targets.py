"""Names on the command line, looked up in a status."""

from __future__ import annotations

import pytest

from raytrade.chaos.targets import find_actor, find_line, find_node, lines_up, running
from raytrade.errors import ConfigError
from tests.unit.chaos.statuses import status


def test_an_actor_by_its_name_or_the_end_of_it() -> None:
    assert find_actor(status(), "p-dedup-0-b").pid == 21
    assert find_actor(status(), "0-b").name == "p-dedup-0-b"
    assert find_actor(status(), "supervisor").pid == 1
    assert find_actor(status(), "disk", role="recorder").role == "recorder"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("nobody", "no actor of that name"), ("-0", "several end so"), ("", "no actor of that name")],
)
def test_a_name_that_means_nobody_or_several(wanted: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        find_actor(status(), wanted)
    assert "p-dedup-0-a" in str(raised.value)


def test_only_a_recorder_can_have_a_full_disk() -> None:
    with pytest.raises(ConfigError, match="no recorder of that name"):
        find_actor(status(), "dedup-0-a", role="recorder")


def test_who_does_not_run_cannot_be_hit() -> None:
    found = status()
    found["actors"]["p-dedup-0-a"] = {"state": "restarting", "node": "aa11"}
    with pytest.raises(ConfigError, match="is restarting: there is no process to hit"):
        find_actor(found, "dedup-0-a")
    assert [target.name for target in running(found, "dedup")] == ["p-dedup-0-b"]
    assert [target.pid for target in running(found, "supervisor")] == [1]


def test_a_node_by_the_beginning_of_its_id_or_who_runs_there() -> None:
    assert find_node(status(), "bb") == "bb22"
    assert find_node(status(), "recorder-disk") == "bb22"
    with pytest.raises(ConfigError, match="no node of the pipeline begins so"):
        find_node(status(), "zz")
    with pytest.raises(ConfigError, match="nodes: aa11, bb22"):
        find_node(status(), "")


def test_a_line_that_is_up() -> None:
    found = status()
    assert find_line(found, "bb-0/v").local_address == "127.0.0.1:11"
    found["actors"]["p-collector-bb-0"]["lines"]["p-collector-bb-0/v"]["status"]["is_up"] = False
    assert [line.name for line in lines_up(found)] == ["p-collector-aa-0/v"]
    with pytest.raises(ConfigError, match="no line that is up"):
        find_line(found, "bb-0/v")
