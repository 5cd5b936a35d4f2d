"""`raytrade run`, `status`, `attach`, `detach` and `stop` as commands of their own, and the example's driver script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from raytrade.demo.nodes import Nodes, free_port
from raytrade.emulator import EmulatorThread
from raytrade.transport.reach import taken
from tests.cli.commands import run_process
from tests.ray.running import BINANCE, Running, data_of, start_exchanges, until

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def written(name: str, directory: Path) -> Iterator[tuple[Path, EmulatorThread]]:
    """Write a configuration over an exchange that sends from the first subscription on."""
    with ExitStack() as stack:
        exchanges = start_exchanges(stack, BINANCE)
        path = directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(data_of(name, exchanges, directory / "recording", BINANCE)))
        yield path, exchanges["binance-spot"]


def plain_environment() -> dict[str, str]:
    """Give the environment without what pytest leaves in it: the page's library acts on it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def test_ctrl_c_drains(tmp_path: Path) -> None:
    """On a Ray of its own, with the page, and with Ctrl-C to the whole process group as a terminal sends it."""
    with written("local", tmp_path) as (path, exchange):
        port = free_port()
        path.write_text(f"{path.read_text()}ui: {{port: {port}}}\n")
        command = [sys.executable, "-m", "raytrade", "run", "--address", "local", str(path)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env=plain_environment(),
        ) as run:
            try:
                assert run.stdout is not None
                first = run.stdout.readline()
                assert first.startswith("pipeline local: 5 actors up"), first
                assert run.stdout.readline() == f"page at http://127.0.0.1:{port}/\n"
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
                    assert b"raytrade" in reply.read()
                exchange.begin()
                until(lambda: len(exchange.truth().ids["BTCUSDT"]) > 100, "updates flow")
                exchange.finish()
                assert exchange.wait_finished(20)
                os.killpg(run.pid, signal.SIGINT)
                out, error = run.communicate(timeout=90)
            finally:
                run.kill()
        assert (run.returncode, error) == (0, "")
        assert out == "draining\nstopped, files are complete\n"
        assert taken(port) == "", "the page has ended with it"
        Running("local", {}, tmp_path / "recording").check_files({"binance-spot": exchange.truth()})
        assert not list(tmp_path.rglob("*.part"))


def test_commands_on_a_cluster(nodes: Nodes, tmp_path: Path) -> None:
    address = ("--address", nodes.address)
    with written("joined", tmp_path) as (path, exchange):
        run = run_process("run", *address, path, timeout_s=120)
        assert run.status == 0, run.error
        assert run.out.startswith("pipeline joined: 7 actors up")
        pipeline = Running("joined", {"binance-spot": exchange}, tmp_path / "recording")
        pipeline.begin()
        assert read_status(*address)["strategies"] == ["watch"]
        attached = run_process(
            "attach", f"{ROOT}/tests/ray/strategies.py:Diary", "--subscribe", "*/book", "--pipeline", "joined", *address
        )
        assert (attached.status, attached.out) == (0, "attached joined-strategy-diary\n"), attached.error
        refused = run_process("attach", "no.such:Thing", *address)
        assert (refused.status, refused.problem) == (2, refused.problem)
        assert "no module of this name" in refused.problem
        assert read_status(*address)["strategies"] == ["watch", "diary"]
        detached = run_process("detach", "diary", *address)
        assert (detached.status, detached.out) == (0, "detached joined-strategy-diary\n"), detached.error
        truths = pipeline.finish()
        pipeline.check_strategy("watch", truths)
        stopped = run_process("stop", *address, timeout_s=120)
        assert (stopped.status, stopped.out) == (0, "stopped, files are complete\n"), stopped.error
        pipeline.check_files(truths)
        gone = run_process("status", *address)
        assert (gone.status, "is running here" in gone.problem) == (1, True)


def read_status(*arguments: str) -> dict[str, Any]:
    shown = run_process("status", "--json", *arguments)
    assert shown.status == 0, shown.error
    status: dict[str, Any] = json.loads(shown.out)
    assert {actor["state"] for actor in status["actors"].values()} == {"alive"}
    return status


def test_the_driver_script(nodes: Nodes, tmp_path: Path) -> None:
    with written("script", tmp_path) as (path, _):
        command = [sys.executable, str(ROOT / "examples" / "run_pipeline.py"), str(path)]
        environment = {**os.environ, "RAY_ADDRESS": nodes.address}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr
        lines = [line.split() for line in ended.stdout.splitlines()]
        assert len(lines) == 7
        assert {line[1] for line in lines} == {"alive"}
        assert run_process("stop", "--address", nodes.address, timeout_s=120).status == 0


def test_no_cluster_at_the_address() -> None:
    refused = run_process("status", "--address", "127.0.0.1:1", timeout_s=120)
    assert refused.status == 1
    assert refused.problem == "raytrade: no Ray cluster at '127.0.0.1:1': Connection refused"
