"""``raytrade sql`` and ``raytrade replay``: what is printed, and with which status it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raytrade import cli
from raytrade.cli import reading, replaying
from raytrade.core.clock import SECOND
from raytrade.errors import ConfigError
from tests.unit.storage.recordings import BTC, ETH, NOON_NS, delta, gap, random_stream, record, snapshot, trade

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = "from raytrade import cli; from raytrade.cli import reading\n" + (
    "if 'sql' not in {command.name for command in cli.app.registered_commands}: reading.register(cli.app)\n"
)
STRATEGY = """
from raytrade import Side
from raytrade.strategy.base import BaseStrategy

class Buyer(BaseStrategy):
    def __init__(self, quantity, fails=False):
        self.quantity, self.fails, self.done = str(quantity), fails, False

    def on_book(self, context, book):
        if self.fails:
            raise RuntimeError("no luck")
        if not self.done and book.top() is not None:
            self.done = True
            context.market(book.instrument, Side.BUY, self.quantity)
"""


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command line in this process."""
    if "sql" not in {command.name for command in cli.app.registered_commands}:
        reading.register(cli.app)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["raytrade", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, printed.out, printed.err)

    return call


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    events = [snapshot(10, NOON_NS), *(delta(n, n + 1, NOON_NS + n * SECOND) for n in range(10, 20))]
    record(directory, [*events, trade(1, NOON_NS + SECOND), snapshot(5, NOON_NS + 1, name=ETH)], segment_messages_max=4)
    return directory


# SQL.


def test_rows_as_json(run, recorded: Path) -> None:  # type: ignore[no-untyped-def]
    result = run("sql", "SELECT instrument, price, ts_recv_ns FROM trades", "--data", recorded, "--json")
    assert (result.status, result.err) == (0, "")
    assert [json.loads(line) for line in result.out.splitlines()] == [
        {"instrument": BTC, "price": "123.46", "ts_recv_ns": NOON_NS + SECOND}
    ]


def test_rows_as_csv(run, recorded: Path) -> None:  # type: ignore[no-untyped-def]
    result = run("sql", "SELECT instrument, messages, missing FROM coverage ORDER BY ALL", "--data", recorded, "--csv")
    rows = list(csv.reader(io.StringIO(result.out)))
    assert rows == [["instrument", "messages", "missing"], [BTC, "1", "[]"], [BTC, "11", "[]"], [ETH, "1", "[]"]]


def test_rows_as_plain_text_where_no_terminal_is(run, recorded: Path) -> None:  # type: ignore[no-untyped-def]
    result = run("sql", "SELECT id_last, bid, ask, NULL AS nothing FROM bbo LIMIT 2", "--data", recorded)
    assert result.out.splitlines() == ["id_last  bid   ask  nothing", "10       99.9  101", "11       100   101"]


def test_rows_as_a_table_on_a_terminal(run, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = run("sql", "SELECT '[red]' AS a, 1.50::DECIMAL(4, 2) AS b", "--data", recorded)
    assert "[red]" in result.out
    assert "1.5 " in result.out
    assert "┃" in result.out


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["SELEC"], 2, "syntax error"),
        (["SELECT nothing FROM book"], 2, "nothing"),
        (["SELECT 1", "--json", "--csv"], 2, "not together"),
        (["SELECT 1", "--what"], 2, "--what"),
    ],
)
def test_wrong_questions(run, recorded: Path, arguments: list[str], status: int, problem: str) -> None:  # type: ignore[no-untyped-def]
    result = run("sql", *arguments, "--data", recorded)
    assert result.status == status
    assert problem in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


@pytest.mark.parametrize("command", [["sql", "SELECT 1", "--data"], ["replay"]])
def test_no_such_directory(run, tmp_path: Path, command: list[str]) -> None:  # type: ignore[no-untyped-def]
    for path, problem in ((tmp_path / "no", "no such directory"), (tmp_path, "has no recording")):
        result = run(*command, path)
        assert result.status == 2
        assert problem in result.err


@pytest.mark.parametrize(
    "command", [["sql", "SELECT count(*) AS n FROM book", "--json", "--data"], ["replay", "--json"]]
)
def test_a_bad_segment(run, recorded: Path, command: list[str]) -> None:  # type: ignore[no-untyped-def]
    bad = sorted(recorded.glob("**/instrument=BTC*/channel=book/**/*.parquet"))[1]
    bad.write_bytes(b"PAR1 nothing PAR1")
    result = run(*command, recorded)
    assert (result.status, result.out) == (1, "")
    assert str(bad) in result.err
    assert len(result.err.splitlines()) == 1
    result = run(*command, recorded, "--skip-bad")
    assert result.status == 0
    assert f"skipped: {bad}" in result.err
    assert json.loads(result.out)


# Replay.


def replay(run, *arguments: object) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    result = run("replay", *arguments, "--json")
    assert result.status == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_counts(run, recorded: Path) -> None:  # type: ignore[no-untyped-def]
    found = replay(run, recorded)
    assert (found["messages"], found["levels"], found["first_ns"]) == (13, 16, NOON_NS)
    instruments = found["instruments"]
    assert instruments[BTC] == {"snapshots": 1, "updates": 10, "trades": 1, "gaps": 0, "images": 0, "levels": 13}
    result = run("replay", recorded, "--hash")
    assert result.out.startswith("13 messages, 16 levels: 2022-01-08T12:00:00.000000000Z to 2022-01-08T12:00:19")
    assert len(result.out.splitlines()[-1].removeprefix("hash ")) == 32


def test_a_part(run, recorded: Path) -> None:  # type: ignore[no-untyped-def]
    part = replay(
        run, recorded, "--start", "2022-01-08T12:00:15", "--end", NOON_NS + 18 * SECOND, "--instruments", "*:BTC*"
    )
    assert part["instruments"] == {
        BTC: {"snapshots": 0, "updates": 3, "trades": 0, "gaps": 0, "images": 1, "levels": 7}
    }
    assert replay(run, recorded, "--start", "2030-01-01")["messages"] == 0
    assert replay(run, recorded, "--start", "2000-01-01", "--end", "2000-01-01")["messages"] == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--speed", "fast"], "write max, real or xN"),
        (["--speed", "x0"], "write max, real or xN"),
        (["--start", "soon"], "not a time"),
        (["--start", "2023-01-01", "--end", "2022-01-01"], "ends before it starts"),
        (["--instruments", "binance-spot:BTCUSD"], "did you mean binance-spot:BTCUSDT"),
        (["--param", "a=1"], "--strategy"),
        (["--strategy", "nothing.py:A"], "no such file"),
    ],
)
def test_wrong_options(run, recorded: Path, arguments: list[str], problem: str) -> None:  # type: ignore[no-untyped-def]
    result = run("replay", recorded, *arguments)
    assert result.status == 2
    assert problem in result.err
    assert len(result.err.splitlines()) == 1


def test_a_strategy(run, recorded: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "buyer.py"
    file.write_text(STRATEGY)
    arguments = (recorded, "--instruments", "*:BTC*", "--strategy", f"{file}:Buyer", "--param", "quantity=0.001")
    found = replay(run, *arguments)
    (fill,) = found["fills"]
    assert (fill["price"], fill["quantity"], fill["ts_fill_ns"]) == ("101", "0.001", NOON_NS)
    assert found["strategy"]["instruments"][BTC]["state"] == "live"
    assert "Buyer: 1 fills" in run("replay", *arguments).out
    for missing in (["--param", "quantity"], []):
        assert run("replay", *arguments[:-2], *missing).status == 2


def test_a_strategy_that_raises(run, recorded: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "buyer.py"
    file.write_text(STRATEGY)
    result = run("replay", recorded, "--strategy", f"{file}:Buyer", "--param", "quantity=1", "--param", "fails=true")
    assert result.status == 1
    told = "the strategy failed: on_book binance-spot:BTCUSDT at 2022-01-08T12:00:00.000000000Z (id 10): RuntimeError"
    assert told in result.err and "Traceback (most recent call last)" in result.err and "buyer.py" in result.err


def test_a_hash_is_the_same_in_every_process(tmp_path: Path) -> None:
    record(tmp_path, [*random_stream(1, 200), *random_stream(2, 200, name=ETH), gap(1, 2, NOON_NS, name=ETH)])
    found = set()
    for seed in ("0", "4711"):
        code = COMMANDS + "import sys; sys.argv = ['raytrade', 'replay', sys.argv[1], '--hash']; cli.main()"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_the_pace_is_that_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = [0]

    class Clock:
        def wait(self, seconds: float) -> None:
            waits.append(round(seconds, 6))
            now[0] += round(seconds * SECOND)

    monkeypatch.setattr(replaying, "Waiter", Clock)
    monkeypatch.setattr(replaying, "monotonic_ns", lambda: now[0])
    messages: Any = [(NOON_NS + second * SECOND, None) for second in (0, 1, 1, 4)]
    for speed, expected in (("real", [1.0, 3.0]), ("x10", [0.1, 0.3]), ("x0.5", [2.0, 6.0]), ("max", [])):
        waits.clear()
        assert list(replaying.Pace(speed).paced(messages)) == messages
        assert waits == expected
    with pytest.raises(ConfigError):
        replaying.Pace("x")
