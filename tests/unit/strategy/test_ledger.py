from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.events import Side
from raytrade.errors import InvariantError
from raytrade.strategy.ledger import Account, Fill, fee_of, read_amount

amounts = st.decimals(min_value="0.000000000000000001", max_value="99999999999", places=18)
trades = st.tuples(st.sampled_from([Side.BUY, Side.SELL]), amounts, amounts, st.integers(-5000, 5000))


def fill(side: Side, price: Decimal | str, quantity: Decimal | str, fee: Decimal | str = "0") -> Fill:
    return Fill(
        fill_id=1,
        order_id=1,
        instrument="v:S",
        side=side,
        price=Decimal(price),
        quantity=Decimal(quantity),
        fee=Decimal(fee),
        is_maker=False,
        ts_fill_ns=0,
        book_id=1,
    )


@settings(deadline=None)
@given(st.lists(trades, max_size=30), amounts)
def test_ledger_is_exact_and_conserves(rows: list[tuple[Side, Decimal, Decimal, int]], mark: Decimal) -> None:
    account = Account()
    position = cash = fees = Fraction(0)
    for side, price, quantity, basis_points in rows:
        fee = fee_of(price, quantity, Decimal(basis_points) / 100)
        account.apply(fill(side, price, quantity, fee))
        account.validate()
        sign = 1 if side is Side.BUY else -1
        notional = Fraction(price) * Fraction(quantity)
        due = notional * basis_points / 1_000_000
        position += sign * Fraction(quantity)
        cash -= sign * notional + due
        fees += due
    assert (Fraction(account.position), Fraction(account.cash), Fraction(account.fees)) == (
        position,
        cash,
        fees,
    )
    profit = Fraction(account.realised) + Fraction(account.unrealised(mark)) - fees
    assert profit == cash + position * Fraction(mark), "what it is worth is what was earned"
    if not position:
        assert Fraction(account.realised) - fees == cash and account.cost() == 0


@settings(deadline=None)
@given(st.lists(trades, max_size=30))
def test_realised_profit_is_first_in_first_out(rows: list[tuple[Side, Decimal, Decimal, int]]) -> None:
    """With every price different, lots are single fills, and a queue of them is the whole truth."""
    account, realised, queue = Account(), Fraction(0), list[list[Fraction]]()
    for number, (side, _, quantity, _) in enumerate(rows):
        price, left = Fraction(number + 1), Fraction(quantity)
        sign = 1 if side is Side.BUY else -1
        account.apply(fill(side, Decimal(number + 1), quantity))
        while left and queue and (queue[0][1] > 0) is (sign < 0):
            closed = min(left, abs(queue[0][1]))
            realised += (price - queue[0][0]) * closed * -sign
            queue[0][1] += sign * closed
            left -= closed
            if not queue[0][1]:
                queue.pop(0)
        if left:
            queue.append([price, sign * left])
    assert Fraction(account.realised) == realised
    assert [(Fraction(price), Fraction(held)) for price, held in account.lots.items()] == [
        (price, abs(held)) for price, held in queue
    ]


def test_through_zero() -> None:
    account = Account()
    account.apply(fill(Side.BUY, "10", "2", "0.5"))
    account.apply(fill(Side.SELL, "13", "5"))
    assert account.position == -3 and account.realised == 6 and account.fees == Decimal("0.5")
    assert account.lots == {Decimal(13): Decimal(3)} and account.cost() == -39
    assert account.unrealised(Decimal(12)) == 3
    account.apply(fill(Side.BUY, "12", "3"))
    assert account.position == 0 and account.realised == 9 and account.cash == Decimal("8.5")
    assert not account.lots


def test_validate_finds_what_does_not_add_up() -> None:
    for name in ("position", "cash", "realised", "sold", "fees"):
        account = Account()
        account.apply(fill(Side.BUY, "10", "2"))
        setattr(account, name, getattr(account, name) + 1)
        with pytest.raises(InvariantError):
            account.validate()


@pytest.mark.parametrize(
    ("value", "amount"),
    [("1.50", "1.5"), (Decimal("0.000000000000000001"), "1E-18"), (3, "3"), ("99999999999999999999", None)],
)
def test_amounts_that_are_taken(value: object, amount: str | None) -> None:
    read = read_amount(value)
    assert read == Decimal(amount if amount is not None else str(value))


@pytest.mark.parametrize(
    ("value", "text"), [("100", "100"), ("1e3", "1000"), ("0.500", "0.5"), ("100.10", "100.1"), ("7.0", "7")]
)
def test_amounts_are_written_plainly(value: str, text: str) -> None:
    assert str(read_amount(value)) == text


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        True,
        None,
        "",
        "abc",
        "0",
        "-1",
        "NaN",
        "Infinity",
        "1e20",
        "1e-19",
        "9" * 300,
        "1e999999999",
        b"1",
    ],
)
def test_amounts_that_are_refused(value: object) -> None:
    reason = read_amount(value)
    assert isinstance(reason, str) and len(reason) < 200
