"""The emulator in a thread and as a program."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from raytrade.emulator import Emulator, EmulatorSettings, run_in_thread
from raytrade.errors import ConfigError
from tests.emulator.clients import open_reader

SETTINGS = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=500.0, updates=100, clients=0)
PROGRAM = """
import msgspec, sys
from raytrade.emulator import EmulatorSettings, serve
sys.exit(serve(msgspec.json.decode(sys.argv[1], type=EmulatorSettings)))
"""


def changed(**changes: object) -> EmulatorSettings:
    return EmulatorSettings(
        venue="binance-spot",
        symbols=("BTCUSDT",),
        rate=500.0,
        updates=100,
        clients=0,
        **changes,  # type: ignore[arg-type]
    )


def test_an_emulator_runs_in_a_thread_and_tells_its_truth() -> None:
    with run_in_thread(SETTINGS) as emulator:
        assert emulator.wait_finished(4.0)
        assert emulator.url == f"ws://127.0.0.1:{emulator.port}"
        truth = emulator.truth()
        assert truth.is_finished and len(truth.ids["BTCUSDT"]) == 100
        assert truth.book("BTCUSDT").id_last == truth.ids["BTCUSDT"][-1]
        assert len(truth.book("BTCUSDT", 5).bids) == 5
        sent = truth.sent_at_ns("BTCUSDT")
        assert sorted(sent.values()) == list(sent.values())
    emulator.stop()


def test_a_port_in_use_is_a_wrong_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="in use") as caught:
            run_in_thread(changed(port=port))
        assert caught.value.key == "port"


def test_the_journal_file_holds_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    asyncio.run(journal(path))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = {record["kind"] for record in records}
    assert kinds >= {"connect", "update", "trade", "book", "delivered"}
    updates = [record for record in records if record["kind"] == "update"]
    assert all(one["id_last"] == two["id_prev"] for one, two in pairwise(updates))
    assert len(updates) == 100
    with pytest.raises(ConfigError, match="cannot write"):
        Emulator(changed(journal=str(tmp_path / "no" / "such" / "folder")))


async def journal(path: Path) -> None:
    emulator = Emulator(changed(journal=str(path), trades_share=0.5))
    await emulator.start()
    await open_reader(emulator, "/ws/btcusdt@depth")
    await emulator.run_until_finished()
    await emulator.stop()


def start_program(settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, settings], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", [{"seconds": 0.3}, {"updates": 20, "exit_when_finished": True}, {}])
def test_serve_ends_by_time_by_itself_or_by_signal(ending: dict[str, object]) -> None:
    options = {"venue": "hitbtc-v2", "symbols": ["ETHBTC"], "clients": 0, **ending}
    with start_program(json.dumps(options)) as program:
        assert program.stdout is not None
        first = program.stdout.readline()
        assert "ws://127.0.0.1:" in first
        if not ending:
            program.send_signal(signal.SIGTERM)
        rest = program.stdout.read()
        assert program.wait(4.0) == 0
    assert "updates " in rest and "faults: none" in rest
