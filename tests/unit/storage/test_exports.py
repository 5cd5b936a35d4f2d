"""Files for other tools: exact, whole, and read by those tools themselves."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND
from raytrade.core.events import Side
from raytrade.core.message import decode, encode, parse
from raytrade.replay import apply
from raytrade.storage.day_files import Pending
from raytrade.storage.hftbacktest import EVENTS, export_hftbacktest, in_order
from raytrade.storage.recording import open_recording
from raytrade.storage.tardis import export_tardis
from tests.unit.backtest.markets import market, recorded_market
from tests.unit.storage.recordings import BTC, DAY_NS, NOON_NS, delta, gap, random_stream, snapshot, trade

EXCHANGE, LOCAL = 1 << 31, 1 << 30
Cells = list[dict[str, str]]


def timed(events: list[Any]) -> list[tuple[int, Any]]:
    found, now_ns = [], 0
    for event in events:
        now_ns = max(now_ns, event.ts_recv_ns)
        found.append((now_ns, parse(encode(event, "recording"))))
    return found


def tardis(events: list[Any], out: Path) -> dict[str, Cells]:
    """Export, and give the rows by kind, of all days."""
    found: dict[str, Cells] = {}
    for path in export_tardis(BTC, timed(events), out):
        kind = next(kind for kind in ("incremental", "snapshot_25", "trades", "quotes") if kind in path.name)
        with gzip.open(path, "rt") as file:
            found.setdefault(kind, []).extend(csv.DictReader(file))
    return found


def rebuilt(rows: Cells) -> dict[str, dict[Decimal, Decimal]]:
    """Build a book of the rows as the format's documents say."""
    book: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "ask": {}}
    was_snapshot = False
    for row in rows:
        is_snapshot = row["is_snapshot"] == "true"
        if is_snapshot and not was_snapshot:
            book = {"bid": {}, "ask": {}}
        was_snapshot = is_snapshot
        side, price, size = book[row["side"]], Decimal(row["price"]), Decimal(row["amount"])
        if size:
            side[price] = size
        else:
            side.pop(price, None)
    return book


def final_book(events: list[Any]) -> L2Book:
    book = L2Book(BTC)
    for event in events:
        if event.ts_recv_ns and not hasattr(event, "trade_id"):
            apply(book, decode(parse(encode(event, "x"))))
    return book


def test_tardis_rows_rebuild_the_exact_book(tmp_path: Path) -> None:
    checked = 0
    for seed in range(12):
        events = random_stream(seed, 120)
        book = final_book(events)
        if book.state is BookState.LIVE:
            checked += 1
            found = rebuilt(tardis(events, tmp_path / str(seed))["incremental"])
            for name, side in (("bid", Side.BUY), ("ask", Side.SELL)):
                assert sorted(found[name].items()) == sorted(book.decimals(side))
    assert checked > 4


def test_tardis_columns(tmp_path: Path) -> None:
    events: list[Any] = [snapshot(1, NOON_NS), trade(1, NOON_NS + 1500), delta(1, 2, NOON_NS + 2000, bids=(9_995, 250))]
    found = tardis(events, tmp_path)
    us = NOON_NS // 1000
    common = {"exchange": "binance", "symbol": "BTCUSDT"}
    assert found["trades"] == [
        common
        | {"timestamp": str(us + 1), "local_timestamp": str(us + 1)}
        | {"id": "t1", "side": "buy", "price": "123.46", "amount": "0.011"}
    ]
    level = {"is_snapshot": "false", "side": "bid", "price": "99.95", "amount": "0.25"}
    assert found["incremental"][-1] == common | {"timestamp": str(us + 2), "local_timestamp": str(us + 2)} | level
    assert [row["bid_price"] for row in found["quotes"]] == ["99.9", "99.95"]
    last = found["snapshot_25"][-1]
    assert (last["bids[0].price"], last["bids[1].price"], last["asks[0].amount"]) == ("99.95", "99.9", "0.003")
    assert last["asks[1].price"] == "" and len(last) == 104


def test_what_follows_a_gap_is_left_out_until_the_next_book(tmp_path: Path) -> None:
    lost: list[Any] = [gap(1, 3, NOON_NS + 10), delta(3, 4, NOON_NS + 20, flags=4), snapshot(4, NOON_NS + 30_000)]
    rows = tardis([snapshot(1, NOON_NS), *lost], tmp_path)["incremental"]
    assert {row["is_snapshot"] for row in rows} == {"true"} and len({row["timestamp"] for row in rows}) == 2


def test_each_day_begins_with_the_book(tmp_path: Path) -> None:
    midnight = NOON_NS + DAY_NS // 2
    events: list[Any] = [snapshot(1, midnight - SECOND), delta(1, 2, midnight + SECOND, bids=(9_990, 9))]
    paths = export_tardis(BTC, timed(events), tmp_path)
    (second,) = [path for path in paths if "incremental_book_L2_2022-01-09" in path.name]
    with gzip.open(second, "rt") as file:
        rows = list(csv.DictReader(file))
    assert [row["is_snapshot"] for row in rows] == ["true", "true", "true", "false"]
    files = export_hftbacktest(BTC, timed(events), tmp_path)
    assert [path.name for path in files] == [f"binance-spot_BTCUSDT_2022-01-{day}.npz" for day in ("08", "09")]
    with np.load(files[1]) as loaded:
        assert [int(ev) & 0xFF for ev in loaded["data"]["ev"]] == [4, 4, 4, 1]


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield from timed([snapshot(1, NOON_NS)])
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        export_tardis(BTC, broken(), tmp_path / "out")
    with pytest.raises(OSError, match="no"):
        export_hftbacktest(BTC, broken(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ValueError, match="halfway"), Pending(tmp_path / "out") as pending:
        pending.path("a").write_text("half")
        raise ValueError("halfway")
    assert list((tmp_path / "out").iterdir()) == []


def test_both_orders_hold_and_nothing_arrives_early() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        events = np.zeros(200, EVENTS)
        events["local_ts"] = np.sort(rng.integers(0, 1000, 200))
        events["exch_ts"] = events["local_ts"] + rng.integers(-40, 15, 200)
        events["px"] = np.arange(200)
        original = events.copy()
        found = in_order(events)
        for flag, name in ((EXCHANGE, "exch_ts"), (LOCAL, "local_ts")):
            part = found[found["ev"] & flag > 0]
            assert (np.diff(part[name]) >= 0).all() and sorted(part["px"]) == list(range(200))
        assert (found["local_ts"] >= found["exch_ts"]).all()
        assert (found["exch_ts"] == original["exch_ts"][found["px"].astype(int)]).all()
    assert len(in_order(np.zeros(0, EVENTS))) == 0


READER = """
import json, sys
from types import SimpleNamespace
import hftbacktest
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data import FuseMarketDepth
from hftbacktest.data.validation import validate_event_order
import numpy as np

# Uncompiled its reader runs in a second, not in twenty. Compiling gives it: the type of a class, rows with attributes,
# and reading one place behind the end of an array.
FuseMarketDepth.class_type = SimpleNamespace(instance_type=object)
plain = {name: getattr(np, name) for name in ("empty", "zeros")}
for name, make in plain.items():
    setattr(np, name, lambda shape, dtype=float, make=make: (
        make(shape, dtype).view(np.recarray) if np.dtype(dtype).names else make(shape, dtype)
    ))
from hftbacktest.data.utils import tardis

order = tardis.correct_event_order
tardis.correct_event_order = lambda events, *indexes: order(events, *(np.append(index, 0) for index in indexes))
npz, *texts = sys.argv[1:]
converted = npz + ".converted.npz"
tardis.convert(texts, converted, buffer_size=100_000, ss_buffer_size=10_000)
for name, make in plain.items():
    setattr(np, name, make)
found = []
for path in (npz, converted):
    events = np.load(path)["data"]
    validate_event_order(events)
    asset = (
        BacktestAsset().data([path]).linear_asset(1.0).constant_order_latency(0, 0).risk_adverse_queue_model()
        .no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0).tick_size(0.01).lot_size(0.001)
    )
    backtest = HashMapMarketDepthBacktest([asset])
    while backtest.elapse(1_000_000_000) == 0:
        pass
    depth = backtest.depth(0)
    touch = [float(v) for v in (depth.best_bid, depth.best_bid_qty, depth.best_ask, depth.best_ask_qty)]
    trades = int((events["ev"] & 0xFF == 2).sum())
    found.append({"touch": touch, "trades": trades})
    backtest.close()
print(json.dumps(found))
"""


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("hftbacktest") is None, reason="needs hftbacktest (extra: interop)")
def test_hftbacktest_reads_both(tmp_path: Path) -> None:
    """Its own backtester ends with our touch, on our events and on those that its reader makes of our CSV."""
    steps = 300
    recording = open_recording(recorded_market(tmp_path / "data", steps))
    (npz,) = export_hftbacktest(BTC, recording.messages(), tmp_path)
    texts = [path for path in export_tardis(BTC, recording.messages(), tmp_path) if "snapshot_25" not in path.name]
    inputs = [next(path for path in texts if kind in path.name) for kind in ("trades", "incremental")]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", READER, str(npz), *map(str, inputs)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    ours, theirs = json.loads(ended.stdout.splitlines()[-1])
    top = final_book(market(1, steps)).top()
    assert top is not None
    assert ours["touch"] == theirs["touch"] == [top.bid, top.bid_size, top.ask, top.ask_size]
    assert ours["trades"] == theirs["trades"] == sum(hasattr(event, "trade_id") for event in market(1, steps)) > 0
