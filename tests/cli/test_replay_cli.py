"""``raytrade replay --as`` and ``--fault``: whose view, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raytrade.actors.inputs import EngineInputs
from raytrade.rules import rule_of
from raytrade.storage.recording import open_recording
from raytrade.strategy.journal import Opening, engine_of
from tests.cli.commands import Commands
from tests.unit.backtest.markets import recorded_market
from tests.unit.storage.recordings import BTC
from tests.unit.storage.test_site import LATE_NS, arrivals

TRADERS = Path(__file__).parents[1] / "unit" / "backtest" / "traders.py"
TAKER = ("--strategy", f"{TRADERS}:Taker", "--json")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with the arrivals of a line, and the journal of a strategy that was given it."""
    directory = recorded_market(tmp_path_factory.mktemp("recording"), 200)
    messages = list(open_recording(directory).messages())
    rows = [(message.channel.name.lower(), message.id_last, at + LATE_NS) for at, message in messages]
    arrivals(directory, "tokyo", rows)
    opening = Opening(name="main-strategy-taker", strategy=f"{TRADERS}:Taker", ts_start_ns=messages[0][0])
    engine = engine_of(opening, rule_of)
    inputs = EngineInputs(engine)
    inputs.keep(directory / "journal", opening, 2**20)
    inputs.change("a", True, messages[0][0])
    for at, message in messages:
        inputs.run_due(at)
        inputs.receive("a", message, at)
        inputs.results(engine.commands(), at)
        inputs.tick(at)
    inputs.stop(messages[-1][0])
    return directory


def played(run: Commands, data: Path, *options: str) -> dict[str, Any]:
    result = run("replay", data, *TAKER, *options)
    assert result.status == 0, result.error
    return dict(json.loads(result.out))


def test_whose_view(run: Commands, data: Path) -> None:
    plain, line, first = (played(run, data, "--as", name) for name in ("arbitrated", "tokyo", "first"))
    times = [[fill["ts_fill_ns"] for fill in found["fills"]] for found in (plain, line, first)]
    assert times[1] == times[2] == [at + LATE_NS for at in times[0]] and times[0]
    hashed = [
        json.loads(run("replay", data, "--hash", "--json", *more).out)["hash"] for more in ((), ("--as", "tokyo"))
    ]
    assert hashed[0] != hashed[1]
    refused = run("replay", data, "--as", "osaka")
    assert refused.status == 2 and "there are tokyo" in refused.error


def test_with_faults(run: Commands, data: Path) -> None:
    found = played(run, data, "--fault", "drop@1s:500ms", "--fault", "symbol=BTCUSDT:silent@2500ms:500ms")
    counts = found["instruments"][BTC]
    assert (counts["gaps"], counts["images"]) == (2, 2) and found["messages"] < played(run, data)["messages"]
    assert found["strategy"]["instruments"][BTC]["state"] == "live"
    for wrong in ("drop=0.5@1s:1s", "conn=1:drop@1s:1s", "drop@1s", "corrupt@1s:1s", "what@1s", "drop@7"):
        refused = run("replay", data, "--fault", wrong)
        assert refused.status == 2 and len(refused.error.splitlines()) == 1, wrong


def test_a_journal(run: Commands, data: Path, tmp_path: Path) -> None:
    for name in ("taker", "main-strategy-taker"):
        result = run("replay", data, "--as", f"strategy:{name}", "--json", "--hash")
        (life,) = json.loads(result.out)
        assert result.status == 0 and life["orders"] > 5 and life["difference"] == "" and life["is_whole"]
    assert "yes" in run("replay", data / "journal", "--as", "strategy:taker").out
    other = run("replay", data, "--as", "strategy:taker", "--strategy", f"{TRADERS}:Quoter")
    assert other.status == 1 and "order 1 was" in other.error and "no" in other.out
    for options, told in (
        (("--as", "strategy:nobody"), "there are those of main-strategy-taker"),
        (("--as", "strategy:taker", "--start", "2022-01-08"), "a journal is played whole"),
        (("--as", "strategy:taker", "--speed", "x2"), "a journal is played whole"),
    ):
        refused = run("replay", data, *options)
        assert refused.status == 2 and told in refused.error
    empty = run("replay", tmp_path, "--as", "strategy:taker")
    assert empty.status == 2 and "there is none" in empty.error
