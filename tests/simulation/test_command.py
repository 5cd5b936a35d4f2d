"""``raytrade simulate``."""

from __future__ import annotations

import json
import sys

import pytest
import typer

from raytrade.arbitration.stream import Outlet
from raytrade.cli import simulation
from raytrade.errors import ConfigError


def run(*arguments: str) -> int:
    app = typer.Typer()
    app.command("other")(lambda: None)
    simulation.register(app)
    status = app(["simulate", *arguments], standalone_mode=False)
    return status if isinstance(status, int) else 0


def test_one_json_object_per_seed_and_one_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "3:6", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seed"] for row in rows[:-1]] == [3, 4, 5]
    assert all(len(row["trace"]) == 16 for row in rows[:-1])
    assert rows[-1]["seeds"] == 3
    assert rows[-1]["failed"] == []


def test_verbose_prints_plan_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "3", "--verbose") == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 3: ")
    assert "trace " in out


def test_a_failure_ends_with_1_and_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outlet, "emit", lambda self, event: None)
    for seed in range(30):
        status = run("--seeds", str(seed))
        if status:
            assert status == 1
            assert f"raytrade simulate --seeds {seed} --verbose" in capsys.readouterr().err
            return
    pytest.fail("nothing was broken")


@pytest.mark.parametrize("text", ["", "x", "5:", "7:3", "1:2:3", "-1"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        run("--seeds", text)


def test_the_simulation_loads_nothing_heavy() -> None:
    import subprocess

    heavy = {"ray", "asyncio", "pyarrow", "numpy", "socket"}
    code = f"import sys, raytrade.simulation; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
