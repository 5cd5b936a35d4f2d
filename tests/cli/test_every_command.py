"""What holds for every command: help with an example, plain text into a pipe, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from raytrade import cli
from tests.cli.commands import Commands

CONTROL = "\x1b"


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


EVERY = sorted(commands(typer.main.get_command(cli.app)))


NO_JSON = {
    **dict.fromkeys(
        ("run", "stop", "attach", "detach", "drain", "undrain", "upgrade"), "it acts: the exit status says how it went"
    ),
    **dict.fromkeys(("chaos kill", "chaos pause", "chaos cut", "chaos partition", "chaos disk-full"), "it acts"),
    "config check": "the exit status, and one line on standard error",
    "config schema": "is JSON",
    "tail": "is JSON, an object a line",
    "demo": "for people; `chaos soak --json` is its like for scripts",
    "emulate": "serves until it is ended; asked over HTTP it answers in JSON",
    "export": "prints the files, one a line",
    "monitoring": "prints the files, one a line",
    "top": "a screen; `status --json --watch` is its like for scripts",
    "ui": "a page",
}
"""Commands without ``--json``, and why."""


def test_the_list_is_complete() -> None:
    names = {path[0] for path in EVERY}
    assert {"status", "tail", "events", "doctor", "run", "stop", "attach", "detach", "demo", "replay"} <= names


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_has_an_example_no_control_codes_and_json(run: Commands, path: tuple[str, ...]) -> None:
    outcome = run(*path, "--help")
    assert (outcome.status, outcome.error) == (0, "")
    assert f"Example: raytrade {' '.join(path)}" in " ".join(outcome.out.split())
    assert CONTROL not in outcome.out
    has_json = re.search(r"^\W*--json\b", outcome.out, re.MULTILINE) is not None
    assert has_json is (" ".join(path) not in NO_JSON), "what a script would read is there as JSON"


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_wrong_option_is_one_plain_line(run: Commands, path: tuple[str, ...]) -> None:
    outcome = run(*path, "--no-such-option")
    assert outcome.status == 2
    assert CONTROL not in outcome.problem


def test_the_exit_codes_are_documented(run: Commands) -> None:
    text = " ".join(run("--help").out.split())
    assert "Exit status: 0 done, 1 the run failed, 2 usage or configuration, 130 Ctrl-C." in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    shown = _complete({"_RAYTRADE_COMPLETE": f"source_{shell}"})
    assert "_RAYTRADE_COMPLETE" in shown


def test_completion_of_a_command() -> None:
    words = _complete({"_RAYTRADE_COMPLETE": "complete_bash", "COMP_WORDS": "raytrade st", "COMP_CWORD": "1"}).split()
    assert sorted(words) == ["status", "stop"]


def _complete(variables: dict[str, str]) -> str:
    command = [sys.executable, "-c", "from raytrade.cli import main; main()"]
    environment = {**os.environ, **variables}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout
