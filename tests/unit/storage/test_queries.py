"""SQL over a recording says what the Python side says, and names what is wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import raytrade
from raytrade.core.events import Gap
from raytrade.errors import ConfigError, StorageError
from raytrade.storage.queries import VIEWS, Database
from tests.unit.storage.recordings import (
    BTC,
    ETH,
    NOON_NS,
    STEP_NS,
    delta,
    gap,
    random_stream,
    record,
    restart,
    snapshot,
    trade,
)


def ask(directory: Path, text: str, *, skip_bad: bool = False) -> list[tuple[object, ...]]:
    table = Database(raytrade.open(directory, skip_bad=skip_bad)).query(text)
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two starts of one recorder and the second one once more; two instruments and trades."""
    events = random_stream(4, 300)
    trades = [trade(n, NOON_NS + n * STEP_NS) for n in range(1, 40)]
    record(tmp_path, [*events[:150], *trades[:20]], segment_messages_max=40)
    restart(tmp_path, [*events[150:], *trades[20:]], segment_messages_max=40)
    record(tmp_path, [*events[:150], *trades[:20], *random_stream(5, 50, name=ETH)])
    return tmp_path


def test_views_have_the_rows_of_the_tables(recorded: Path) -> None:
    recording = raytrade.open(recorded)
    for view in ("book", "trades"):
        truth = getattr(recording, view)(BTC)
        names = ", ".join(f'"{name}"' for name in truth.schema.names)
        rows = ask(recorded, f"SELECT {names} FROM {view} WHERE instrument = '{BTC}' ORDER BY run, index, row")
        assert rows == [tuple(row.values()) for row in truth.to_pylist()]
    assert ask(recorded, "SELECT DISTINCT instrument, venue, symbol, date FROM book ORDER BY 1") == [
        (BTC, "binance-spot", "BTCUSDT", "2022-01-08"),
        (ETH, "binance-spot", "ETHUSDT", "2022-01-08"),
    ]


def test_gaps_coverage_and_best_prices_are_those_of_the_api(recorded: Path) -> None:
    recording = raytrade.open(recorded)
    for view in ("gaps", "coverage"):
        assert ask(recorded, f"SELECT * FROM {view}") == [
            tuple(row.values()) for row in getattr(recording, view)().to_pylist()
        ]
    for name in (BTC, ETH):
        truth = [tuple(row.values()) for row in recording.bbo(name).to_pylist()]
        assert ask(recorded, f"SELECT * FROM bbo WHERE instrument = '{name}'") == truth
    both = ask(recorded, "SELECT count(*) FROM bbo JOIN bbo AS other USING (instrument, ts_ns, id_last)")
    assert both[0][0] >= ask(recorded, "SELECT count(*) FROM bbo")[0][0]  # type: ignore[operator]


def test_prices_are_exact(tmp_path: Path) -> None:
    record(tmp_path, [snapshot(10, NOON_NS, bids=(10**17 + 1, 3), price_scale=17), trade(1, NOON_NS)])
    price = Decimal("1.00000000000000001")
    assert ask(tmp_path, "SELECT max(price), sum(size) FROM book WHERE side = 'bid'") == [(price, Decimal("0.003"))]
    assert ask(tmp_path, "SELECT bid - 1 FROM bbo") == [(price - 1,)]
    assert ask(tmp_path, "SELECT price * 100 FROM trades") == [(Decimal(12346),)]


def test_views_of_what_is_not_there_are_empty(tmp_path: Path) -> None:
    record(tmp_path, [gap(1, 2, NOON_NS)])
    for view in VIEWS:
        assert ask(tmp_path, f"SELECT count(*) FROM {view}") == [(int(view == "gaps"),)]
    assert ask(tmp_path, "SELECT sum(price), max(index) FROM book") == [(None, None)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELEC 1", "Parser Error"),
        ("SELECT nothing FROM book", "Binder Error"),
        ("SELECT * FROM boks", "boks does not exist; there are book, trades"),
        ("SELECT 'a'::INTEGER FROM book", "Conversion Error"),
        ("", ""),
    ],
)
def test_wrong_sql_is_one_line(recorded: Path, text: str, problem: str) -> None:
    if not text:
        assert ask(recorded, text) == []
        return
    with pytest.raises(ConfigError, match=problem) as caught:
        ask(recorded, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("view", ["book", "trades", "coverage", "bbo"])
@pytest.mark.parametrize("cut", [0, 30, -40])
def test_a_damaged_segment_is_named_or_skipped(tmp_path: Path, view: str, cut: int) -> None:
    events = [snapshot(10, NOON_NS), *(delta(n, n + 1, NOON_NS + n) for n in range(10, 40))]
    record(tmp_path, [*events, *(trade(n, NOON_NS + n) for n in range(1, 31))], segment_messages_max=10)
    channel = "trades" if view == "trades" else "book"
    bad = sorted(tmp_path.glob(f"**/channel={channel}/**/*.parquet"))[1]
    bad.write_bytes(bad.read_bytes()[:cut])
    with pytest.raises(StorageError, match=bad.name):
        ask(tmp_path, f"SELECT count(*) FROM {view}")
    assert ask(tmp_path, f"SELECT count(*) FROM {view}", skip_bad=True)[0][0]


def test_damage_that_only_the_query_meets_is_named(tmp_path: Path) -> None:
    """The footer is whole, so the views can be made; the pages are not."""
    record(tmp_path, random_stream(2, 300))
    (bad,) = tmp_path.glob("**/channel=book/**/*.parquet")
    data = bytearray(bad.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    bad.write_bytes(data)
    with pytest.raises(StorageError, match=bad.name):
        ask(tmp_path, "SELECT sum(price), sum(size) FROM book")
    assert ask(tmp_path, "SELECT count(*), sum(price) FROM book", skip_bad=True) == [(0, None)]


def test_a_gap_stands_in_the_view_once(tmp_path: Path) -> None:
    events = [snapshot(10, NOON_NS), gap(10, 20, NOON_NS + 1), snapshot(20, NOON_NS + 2)]
    for _ in range(2):
        record(tmp_path, events)
    assert ask(tmp_path, "SELECT id_prev, id_last, lines FROM gaps") == [(10, 20, "a b")]
    assert sum(isinstance(event, Gap) for event in raytrade.open(tmp_path).events()) == 1
