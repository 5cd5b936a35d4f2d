"""``raytrade export``: which files there are, and what is refused."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import Commands, files
from tests.unit.backtest.markets import STEP_NS, recorded_market
from tests.unit.storage.recordings import BTC, ETH, NOON_NS


def test_files_of_every_kind(run: Commands, tmp_path: Path) -> None:
    data = recorded_market(tmp_path / "data", 40, names=(BTC, ETH))
    result = run("export", data, "--format", "tardis", "--out", tmp_path / "csv", "--instruments", BTC)
    names = [path.name for path in files(tmp_path / "csv")]
    kinds = ("book_snapshot_25", "incremental_book_L2", "quotes", "trades")
    assert names == [f"binance_{kind}_2022-01-08_BTCUSDT.csv.gz" for kind in kinds]
    assert result.status == 0 and sorted(result.out.split()) == [str(path) for path in files(tmp_path / "csv")]
    half = ("--start", NOON_NS + 20 * STEP_NS)
    assert run("export", data, "--format", "hftbacktest", "--out", tmp_path / "npz", *half).status == 0
    assert [path.name for path in files(tmp_path / "npz")] == [
        f"binance-spot_{symbol}_2022-01-08.npz" for symbol in ("BTCUSDT", "ETHUSDT")
    ]


def test_what_is_refused(run: Commands, tmp_path: Path) -> None:
    data = recorded_market(tmp_path / "data", 5)
    (tmp_path / "file").write_text("")
    for options, problem in (
        (("--out", tmp_path / "file"), "is no directory"),
        (("--out", tmp_path / "o", "--instruments", "kraken*"), "not in the recording"),
        (("--out", tmp_path / "o", "--end", 5), "nothing is recorded in this interval"),
    ):
        result = run("export", data, "--format", "tardis", *options)
        assert result.status == 2 and problem in result.problem
    result = run("export", data, "--format", "excel", "--out", tmp_path / "o")
    assert result.status == 2
