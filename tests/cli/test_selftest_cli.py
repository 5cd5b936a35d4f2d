"""The self-test over real sockets against the emulator, and the file of its verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytrade.arbitration.selftest import Evidence, Verdict
from raytrade.config import check_config
from raytrade.emulator import EmulatorSettings, run_in_thread
from raytrade.errors import StorageError
from raytrade.selftest import default_store, keep, load, refuse_bold
from tests.cli.commands import Commands


@pytest.mark.parametrize(
    ("venue", "symbol", "windows", "found", "status"),
    [
        ("binance-spot", "BTCUSDT", 4, "chain, loose", 0),
        ("hitbtc-v2", "ETHBTC", 1, "chain, strict", 0),
        ("kraken-v2", "BTC/USD", 1, "lead", 0),
    ],
)
def test_verdicts(
    run: Commands, tmp_path: Path, venue: str, symbol: str, windows: int, found: str, status: int
) -> None:
    settings = EmulatorSettings(venue=venue, symbols=(symbol,), rate=300, clients=2, skew_windows=windows)
    store = tmp_path / "states" / "selftest.json"
    with run_in_thread(settings) as emulator:
        addresses = ["--ws-url", emulator.url, "--rest-url", emulator.url.replace("ws://", "http://")]
        outcome = run("selftest", venue, "--symbols", symbol, "--seconds", 2, *addresses, "--store", store, "--json")
    verdict = json.loads(outcome.out)["verdicts"][0]
    assert (verdict["found"], outcome.status, outcome.error) == (found, status, "")
    assert verdict["evidence"]["sockets"] == 2
    kept = load(store)[venue]
    assert kept.verdicts[0].found == found
    assert kept.date.startswith("20")


def test_a_socket_that_brings_no_book_is_no_verdict(run: Commands, tmp_path: Path) -> None:
    store = tmp_path / "selftest.json"
    arguments = ["--seconds", 1, "--ws-url", "ws://127.0.0.1:1", "--rest-url", "http://127.0.0.1:1", "--store", store]
    outcome = run("selftest", "binance-spot", "--symbols", "BTCUSDT", *arguments)
    assert outcome.status == 1
    assert "BTCUSDT: no book came" in outcome.out
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["selftest", "binance-spt", "--symbols", "A"], "unknown; did you mean binance-spot?"),
        (["selftest", "binance-spot"], "Missing option '--symbols'"),
        (["selftest", "binance-spot", "--symbols", ","], "--symbols: none given"),
        (["selftest", "binance-spot", "--symbols", "A", "--sockets", "1"], "--sockets"),
    ],
)
def test_wrong_usage(run: Commands, arguments: list[str], words: str) -> None:
    outcome = run(*arguments)
    assert outcome.status == 2
    assert words in outcome.problem


def test_a_venue_that_was_shown_to_need_more_care_is_not_run(
    run: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    evidence = Evidence(
        sockets=2,
        messages=9,
        pairs_shared=1,
        contents_equal=1,
        ends_shared=1,
        no_ops=0,
        states_compared=9,
        states_equal=1,
    )
    verdict = Verdict(
        instrument="binance-spot:BTCUSDT",
        declared="chain, loose",
        found="lead",
        reason="books differ",
        evidence=evidence,
    )
    keep(default_store(), "binance-spot", [verdict])
    path = tmp_path / "pipeline.yaml"
    path.write_text("venues: {binance-spot: {symbols: [BTCUSDT]}}\n")
    outcome = run("run", path)
    assert outcome.status == 2
    assert outcome.problem.startswith(f"raytrade: {path}: venues.binance-spot: the self-test of 20")
    assert "found 'lead' for binance-spot:BTCUSDT, and copies would be merged as 'chain, loose'" in outcome.problem
    one_copy = {"venues": {"binance-spot": {"symbols": ["BTCUSDT"], "redundancy": 1}}}
    refuse_bold(check_config(one_copy, "one.yaml"), default_store())
    refuse_bold(check_config({"venues": {"binance-spot": {"symbols": ["ETHUSDT"]}}}, "other.yaml"), default_store())


def test_the_file_of_verdicts_keeps_other_venues_and_refuses_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    keep(path, "one", [])
    keep(path, "two", [])
    assert set(load(path)) == {"one", "two"}
    path.write_text("[1]")
    with pytest.raises(StorageError, match="no file of verdicts"):
        keep(path, "one", [])
    assert path.read_text() == "[1]"
