"""Messages become rows without losing a digit."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from raytrade.core.events import BookDelta, Flag, Side
from raytrade.core.message import HEADER, message_of
from raytrade.storage import schema
from raytrade.storage.schema import BOOK, DECIMAL, TABLE_VERSION, TRADES, book_rows, decimal_column, trade_rows
from tests.unit.storage.streams import NOON_NS, delta, snapshot, trade


def test_one_row_per_level() -> None:
    table = book_rows([snapshot(7), delta(8, (100, 0), (102, 9))], [40, 41]).to_pylist()
    assert [row["index"] for row in table] == [40, 40, 40, 41, 41]
    assert [row["is_last"] for row in table] == [False, False, True, False, True]
    assert [row["side"] for row in table] == ["bid", "bid", "ask", "bid", "ask"]
    assert [row["price"] for row in table[:3]] == [Decimal("1.00"), Decimal("0.99"), Decimal("1.01")]
    assert [row["size"] for row in table] == [Decimal(text) for text in ("0.5", "0.4", "0.3", "0", "0.9")]
    assert [row["is_snapshot"] for row in table] == [True] * 3 + [False] * 2
    assert {row["depth"] for row in table[:3]} == {1000}


def test_both_times_and_both_ids() -> None:
    row = book_rows([delta(8)], [0]).to_pylist()[0]
    assert (row["ts_venue_ns"], row["ts_recv_ns"]) == (NOON_NS, NOON_NS + 7)
    assert (row["id_prev"], row["id_last"], row["line"]) == (7, 8, "1")


def test_a_message_without_levels_is_one_row() -> None:
    table = book_rows([delta(1, ()), delta(2), delta(3, ())], [0, 1, 2]).to_pylist()
    assert [row["is_last"] for row in table] == [True, True, True]
    assert [row["side"] for row in table] == [None, "bid", None]
    assert [row["price"] for row in table] == [None, Decimal("1.00"), None]
    assert [row["size"] for row in table] == [None, Decimal("0.5"), None]


def test_only_messages_without_levels() -> None:
    table = book_rows([delta(1, ()), delta(2, ())], [0, 1]).to_pylist()
    assert [(row["price"], row["side"], row["id_last"]) for row in table] == [(None, None, 1), (None, None, 2)]


def test_wide_values_are_exact() -> None:
    price, size = 10**20 * 10**18 - 1, 10**37 + 1
    wide = delta(1, (price, size), (), price_scale=18, size_scale=18)
    assert wide.flags & Flag.WIDE
    (row,) = book_rows([wide], [0]).to_pylist()
    assert str(row["price"]) == "99999999999999999999.999999999999999999"
    assert str(row["size"]) == "10000000000000000000.000000000000000001"


@pytest.mark.parametrize("scale", range(19))
def test_every_scale_is_exact(scale: int) -> None:
    values = np.array([0, 1, 2**63 - 1], np.int64)
    column = decimal_column(values, scale)
    assert column.type == DECIMAL
    assert column.to_pylist() == [Decimal((0, tuple(map(int, str(int(value)))), -scale)) for value in values]


def test_trades() -> None:
    table = trade_rows([trade(1), trade(2, Side.SELL, 0), trade(3, Side.NONE)], [5, 6, 7]).to_pylist()
    assert [row["aggressor"] for row in table] == ["buy", "sell", None]
    assert [row["price"] for row in table] == [Decimal("123.45"), Decimal("12345"), Decimal("123.45")]
    assert [row["size"] for row in table] == [Decimal(10**12)] * 3
    assert [(row["index"], row["trade_id"], row["sequence"]) for row in table][1] == (6, "t2", 2)
    assert [row["price_scale"] for row in table] == [2, 0, 2]


@pytest.mark.parametrize("table", [BOOK, TRADES])
def test_the_tables_carry_their_version(table: pa.Schema) -> None:
    assert table.metadata[b"raytrade.table_version"] == str(TABLE_VERSION).encode()


def test_numpy_reads_the_header_that_messages_have() -> None:
    event = BookDelta(
        instrument="v:s", id_prev=-2, id_last=3, bids=(4, 5), asks=(6, 7, 8, 9), price_scale=1, size_scale=2,
        ts_venue_ns=10, ts_recv_ns=11, epoch=12, state_hash=2**63, flags=16,
    )  # fmt: skip
    message = message_of(event, "line")
    (head,) = np.frombuffer(message.raw[: HEADER.size], schema._HEAD).tolist()
    assert head == HEADER.unpack_from(message.raw)
    assert schema._HEAD.itemsize == HEADER.size


def test_what_does_not_fit_in_a_column_is_refused() -> None:
    assert schema._narrow(np.array([0, 127]), np.int8).tolist() == [0, 127]
    with pytest.raises(OverflowError, match="does not fit in int8"):
        schema._narrow(np.array([0, 128]), np.int8)
