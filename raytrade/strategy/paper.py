"""`PaperBroker`: orders of a strategy, filled on paper against the arbitrated books.

What is assumed:

* An order acts at once on the book as it stands: no latency, no tick or lot size, no margin, no credit limit.
* A market order, and a limit order that crosses the book when it is placed, takes the shown levels, best
  first, each at the level's own price, and pays the taker's fee. What a market order finds no size for is
  refused.
* A limit order that rests fills when the book crosses it: at its **own** price, at most for the opposite size
  shown at or through its price, and pays the maker's fee. It does not fill on public trades and has no place
  in a queue. One that is placed while the book is not LIVE counts as resting when the book comes back.
* Size that was taken is not there again until the level's size changes; orders share what is shown, better
  price first, then the older order. Our orders never meet each other.
* While a book is not LIVE nothing fills and a market order is refused.

Refusals are `Rejection` events, never exceptions. All amounts are exact, see `raytrade.strategy.ledger`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext

import msgspec

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Side
from raytrade.core.instrument import split_instrument
from raytrade.errors import ConfigError, InvariantError
from raytrade.strategy.ledger import EXACT, ZERO, Account, Fill, canonical, fee_of, read_amount

_OPPOSITE = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
_FEE_DIGITS_MAX = 8
_LEVELS_AT_FIRST = 16


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One of our orders; `price` is None for a market order. `quantity` and `filled` in the base."""

    order_id: int
    instrument: str
    side: Side
    price: Decimal | None
    quantity: Decimal
    filled: Decimal = ZERO
    ts_order_ns: Nanos = 0

    @property
    def remaining(self) -> Decimal:
        """What is not filled yet."""
        return EXACT.subtract(self.quantity, self.filled)


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal: of an order, of the rest of a market order, or of a cancel.

    `quantity` is what was refused, as far as it could be read.
    """

    order_id: int
    instrument: str
    side: Side
    quantity: Decimal
    reason: str
    ts_reject_ns: Nanos


class Fees(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's fees in basis points of the notional; below zero is a rebate."""

    maker_bps: Decimal = ZERO
    taker_bps: Decimal = ZERO

    def __post_init__(self) -> None:
        for name, value in (("maker_bps", self.maker_bps), ("taker_bps", self.taker_bps)):
            exponent = value.as_tuple().exponent
            if not isinstance(exponent, int) or exponent < -_FEE_DIGITS_MAX or abs(value) > 10_000:
                raise ConfigError("", name, f"{value} is not a fee in basis points")


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the paper account starts from. `fees` by venue; `cash` in the quote."""

    fees: dict[str, Fees] = {}
    fees_elsewhere: Fees = Fees()
    cash: Decimal = ZERO
    orders_max: int = 1000
    """Orders resting at the same time."""


class _Shown:
    """What our orders have taken of one side of a book: price -> (size shown then, quantity taken)."""

    __slots__ = ("price_scale", "side", "size_scale", "taken")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.price_scale = self.size_scale = 0
        self.taken: dict[int, tuple[int, Decimal]] = {}

    def refresh(self, book: L2Book) -> None:
        """Follow the book's scale, and forget the levels whose size has changed."""
        price_factor = 10 ** (book.price_scale - self.price_scale)
        size_factor = 10 ** (book.size_scale - self.size_scale)
        self.price_scale, self.size_scale = book.price_scale, book.size_scale
        self.taken = {
            price * price_factor: (size * size_factor, quantity)
            for price, (size, quantity) in self.taken.items()
            if book.size_at(self.side, price * price_factor) == size * size_factor
        }

    def left(self, price: int, size: int) -> Decimal:
        """Give what can still be had of a level."""
        shown = Decimal(size).scaleb(-self.size_scale)
        taken = self.taken.get(price)
        return shown if taken is None else shown - taken[1]

    def take(self, price: int, size: int, quantity: Decimal) -> None:
        """Note that `quantity` of the level is gone."""
        taken = self.taken.get(price)
        self.taken[price] = (size, quantity if taken is None else taken[1] + quantity)


class PaperBroker:
    """The paper account of one strategy; its owner calls `receive_book` after each applied book message."""

    def __init__(self, books: Mapping[str, L2Book], settings: PaperSettings | None = None) -> None:
        self.settings = settings or PaperSettings()
        self.orders: dict[int, Order] = {}
        self.accounts: dict[str, Account] = {}
        self._books = books
        self._resting: dict[str, set[int]] = {}
        self._shown: dict[tuple[str, Side], _Shown] = {}
        self._events: list[Fill | Rejection] = []
        self._orders_made = 0
        self._fills_made = 0

    # Orders.

    def limit(self, instrument: str, side: Side, price: object, quantity: object, now_ns: Nanos) -> int:
        """Place a limit order; gives its id, under which fills and refusals are told."""
        return self._place(instrument, side, read_amount(price), quantity, now_ns)

    def market(self, instrument: str, side: Side, quantity: object, now_ns: Nanos) -> int:
        """Place a market order; gives its id, under which fills and refusals are told."""
        return self._place(instrument, side, None, quantity, now_ns)

    def _place(self, instrument: str, side: Side, price: Decimal | str | None, quantity: object, now_ns: Nanos) -> int:
        self._orders_made += 1
        order_id = self._orders_made
        amount = read_amount(quantity)
        book = self._books.get(instrument)
        reason = self._objection(book, side, price, amount)
        if reason or book is None or isinstance(price, str) or isinstance(amount, str):
            refused = ZERO if isinstance(amount, str) else amount
            self._reject(order_id, instrument, side, refused, reason, now_ns)
            return order_id
        order = Order(
            order_id=order_id,
            instrument=instrument,
            side=side,
            price=price,
            quantity=amount,
            ts_order_ns=now_ns,
        )
        self._execute(order, book, now_ns)
        return order_id

    def _objection(self, book: L2Book | None, side: Side, price: Decimal | str | None, amount: Decimal | str) -> str:
        """Say why an order cannot be taken; empty where it can."""
        if isinstance(amount, str):
            return f"quantity: {amount}"
        if isinstance(price, str):
            return f"price: {price}"
        if side not in _OPPOSITE:
            return "an order buys or sells"
        if book is None:
            return "no book of this instrument"
        if price is None and book.state is not BookState.LIVE:
            return f"the book is {book.state.value}"
        if price is not None and len(self.orders) >= self.settings.orders_max:
            return f"{len(self.orders)} orders are resting already"
        return ""

    def cancel(self, order_id: int, now_ns: Nanos) -> bool:
        """Take a resting order off; tells whether it was there (where not: also a `Rejection`)."""
        order = self.orders.get(order_id)
        if order is None:
            self._reject(order_id, "", Side.NONE, ZERO, "no such order is resting", now_ns)
            return False
        self._remove(order)
        return True

    def cancel_all(self) -> int:
        """Take every resting order off; gives how many there were."""
        count = len(self.orders)
        self.orders.clear()
        self._resting.clear()
        return count

    # The market.

    def receive_book(self, instrument: str, now_ns: Nanos) -> None:
        """The book of the instrument has moved: fill what it crosses."""
        resting = self._resting.get(instrument)
        if not resting and not self._shown:
            return
        book = self._books[instrument]
        for side in _OPPOSITE:
            shown = self._shown.get((instrument, side))
            if shown is not None:
                shown.refresh(book)
                if not shown.taken:
                    del self._shown[instrument, side]
        if resting and book.state is BookState.LIVE:
            self._fill_resting(book, [self.orders[order_id] for order_id in resting], now_ns)

    def _fill_resting(self, book: L2Book, orders: list[Order], now_ns: Nanos) -> None:
        with localcontext(EXACT):
            for side in _OPPOSITE:
                best = book.levels(_OPPOSITE[side], 1)
                if best:
                    price = _price(book, best[0][0])
                    crossed = [order for order in orders if order.side is side and _crosses(order, price)]
                    for order in sorted(crossed, key=_priority):
                        quantity = sum((part for _, part in self._take(order, book)), ZERO)
                        if quantity and order.price is not None:
                            self._fill(order, order.price, quantity, True, now_ns)

    def _execute(self, order: Order, book: L2Book, now_ns: Nanos) -> None:
        """Let a new order take what it crosses, then rest or be refused."""
        with localcontext(EXACT):
            if book.state is BookState.LIVE:
                for price, quantity in self._take(order, book):
                    order = self._fill(order, price, quantity, False, now_ns)
            if not order.remaining:
                return
            if order.price is None:
                rest = order.remaining
                self._reject(order.order_id, order.instrument, order.side, rest, "no more size is shown", now_ns)
            else:
                self.orders[order.order_id] = order
                self._resting.setdefault(order.instrument, set()).add(order.order_id)

    def _take(self, order: Order, book: L2Book) -> list[tuple[Decimal, Decimal]]:
        """Take what the order can have of the other side; gives (price, quantity) by level, best first."""
        side = _OPPOSITE[order.side]
        shown = self._shown.setdefault((order.instrument, side), _Shown(side))
        shown.refresh(book)
        parts: list[tuple[Decimal, Decimal]] = []
        wanted = order.remaining
        for ticks, lots in _walk(book, side):
            price = _price(book, ticks)
            if not wanted or not _crosses(order, price):
                break
            quantity = min(wanted, shown.left(ticks, lots))
            if quantity:
                shown.take(ticks, lots, quantity)
                parts.append((price, quantity))
                wanted -= quantity
        return parts

    def _fill(self, order: Order, price: Decimal, quantity: Decimal, is_maker: bool, now_ns: Nanos) -> Order:
        fees = self.settings.fees.get(split_instrument(order.instrument)[0], self.settings.fees_elsewhere)
        self._fills_made += 1
        fill = Fill(
            fill_id=self._fills_made,
            order_id=order.order_id,
            instrument=order.instrument,
            side=order.side,
            price=canonical(price),
            quantity=canonical(quantity),
            fee=canonical(fee_of(price, quantity, fees.maker_bps if is_maker else fees.taker_bps)),
            is_maker=is_maker,
            ts_fill_ns=now_ns,
            book_id=self._books[order.instrument].id_last,
        )
        self.account(order.instrument).apply(fill)
        self._events.append(fill)
        filled = msgspec.structs.replace(order, filled=order.filled + quantity)
        if order.order_id in self.orders:
            if filled.remaining:
                self.orders[order.order_id] = filled
            else:
                self._remove(order)
        return filled

    def _remove(self, order: Order) -> None:
        del self.orders[order.order_id]
        self._resting[order.instrument].discard(order.order_id)

    def _reject(
        self, order_id: int, instrument: str, side: Side, quantity: Decimal, reason: str, now_ns: Nanos
    ) -> None:
        self._events.append(
            Rejection(
                order_id=order_id,
                instrument=instrument,
                side=side,
                quantity=quantity,
                reason=reason,
                ts_reject_ns=now_ns,
            )
        )

    # Views.

    def account(self, instrument: str) -> Account:
        """Give the account of an instrument, opened when first asked for."""
        account = self.accounts.get(instrument)
        if account is None:
            account = self.accounts[instrument] = Account()
        return account

    def position(self, instrument: str) -> Decimal:
        """Give the signed quantity held, in the base."""
        account = self.accounts.get(instrument)
        return ZERO if account is None else account.position

    @property
    def cash(self) -> Decimal:
        """Cash at the start and of all instruments since: a sum of money only where all have one quote."""
        with localcontext(EXACT):
            return sum((account.cash for account in self.accounts.values()), self.settings.cash)

    def events(self) -> list[Fill | Rejection]:
        """Drain fills and refusals in the order they happened."""
        if not self._events:
            return []
        drained, self._events = self._events, []
        return drained

    def validate(self) -> None:
        """Raise InvariantError where ledger or orders contradict themselves."""
        for account in self.accounts.values():
            account.validate()
        for order_id, order in self.orders.items():
            if not ZERO <= order.filled < order.quantity or order.price is None:
                raise InvariantError(f"paper order {order_id}: {order.filled} of {order.quantity} filled")
        if sorted(self.orders) != sorted(order_id for ids in self._resting.values() for order_id in ids):
            raise InvariantError("paper orders by instrument are not the orders")
        for shown in self._shown.values():
            if any(taken > Decimal(size).scaleb(-shown.size_scale) for size, taken in shown.taken.values()):
                raise InvariantError("more was taken of a level than it showed")


def _price(book: L2Book, ticks: int) -> Decimal:
    return Decimal(ticks).scaleb(-book.price_scale)


def _crosses(order: Order, price: Decimal) -> bool:
    if order.price is None:
        return True
    return price <= order.price if order.side is Side.BUY else price >= order.price


def _priority(order: Order) -> tuple[Decimal, int]:
    price = order.price or ZERO
    return (-price if order.side is Side.BUY else price), order.order_id


def _walk(book: L2Book, side: Side) -> Iterator[tuple[int, int]]:
    """Give a side's levels, best first, reading no more of them than are asked for."""
    given, count = 0, _LEVELS_AT_FIRST
    while True:
        levels = book.levels(side, count)
        yield from levels[given:]
        if len(levels) < count:
            return
        given, count = count, count * 8
