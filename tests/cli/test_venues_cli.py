"""``raytrade venues`` and the help."""

from __future__ import annotations

import json
import re

import pytest

from raytrade.venues import VENUES
from tests.cli.commands import Commands, run_process

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
COMMANDS = ["run", "status", "attach", "detach", "stop", "demo", "import", "emulate", "venues"]


def test_json(run: Commands) -> None:
    outcome = run("venues", "--json")
    assert (outcome.status, outcome.error) == (0, "")
    found = json.loads(outcome.out)
    assert set(found) == set(VENUES)
    for name, venue in found.items():
        assert venue["ws_url"].startswith("wss://"), name
        assert set(venue["channels"]) == {"book", "trades"}
        assert all(part["merge"] and part["integrity"] for part in venue["channels"].values())


def test_the_table_names_every_venue(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    outcome = run("venues")
    assert outcome.status == 0
    assert not CONTROL.search(outcome.out)
    assert [name for name in VENUES if name not in outcome.out] == []


@pytest.mark.parametrize("arguments", [["venues"], ["venues", "--json"], ["-h"], ["import", "--help"]])
def test_piped_output_has_no_control_codes(arguments: list[str]) -> None:
    outcome = run_process(*arguments)
    assert (outcome.status, outcome.error) == (0, "")
    assert outcome.out
    assert not CONTROL.search(outcome.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run: Commands, command: str) -> None:
    outcome = run(command, "-h")
    assert outcome.status == 0
    assert f"raytrade {command}" in outcome.out
    assert "Example" in outcome.out


def test_without_arguments_the_help_is_shown(run: Commands) -> None:
    outcome = run()
    assert outcome.status == 2
    assert "Usage: raytrade" in outcome.out
    assert outcome.error.strip() == ""


def test_a_wrong_switch_of_the_accelerator_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRADE_NATIVE", "perhaps")
    outcome = run_process("venues")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.problem == "raytrade: RAYTRADE_NATIVE: 'perhaps' is neither 0 (never) nor 1 (required)"
