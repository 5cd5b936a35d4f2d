"""`PaperBroker`: orders of a strategy, filled on paper against the arbitrated books.

What is assumed:

* An order or a cancel acts `order_latency_ns` after the decision, on the book as it stands then.
  No tick or lot size, no margin, no credit limit.
* A market order, and a limit order that crosses the book when it comes, takes the shown levels, best first, each
  at the level's own price, and pays the taker's fee. What a market order finds no size for is refused.
* A limit order that rests fills when the book crosses it: at its **own** price, at most for the opposite size
  shown at or through its price, and pays the maker's fee. Whether it fills on public trades too, and when its turn
  comes, the fill model decides: `raytrade.strategy.fill_models`. One that is placed while the book is not LIVE counts
  as resting when the book comes back.
* Size that was taken is not there again until the level's size changes; orders share what is shown, better
  price first, then the older order. Our orders never meet each other, and the market goes on as it was recorded.
* While a book is not LIVE nothing fills and a market order is refused.
* Limits of risk are checked when the strategy decides, see `raytrade.strategy.orders.RiskLimits`.

Refusals are `Rejection` events, never exceptions. All amounts are exact, see `raytrade.strategy.ledger`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext

import msgspec

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Flag, Side, Trade
from raytrade.core.instrument import split_instrument
from raytrade.errors import InvariantError
from raytrade.strategy.fill_models import model_of
from raytrade.strategy.ledger import EXACT, ZERO, Account, Fill, canonical, fee_of, profit_of, read_amount
from raytrade.strategy.order_ledger import LedgerImage, account_of, image_of
from raytrade.strategy.orders import Order, PaperSettings, Rejection, Wish
from raytrade.strategy.shown import Shown, walk

_OPPOSITE = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
_HALF = Decimal("0.5")


class PaperBroker:
    """The paper account of one strategy; its owner calls `receive_book` after each applied book message."""

    def __init__(self, books: Mapping[str, L2Book], settings: PaperSettings | None = None) -> None:
        self.settings = settings or PaperSettings()
        self.orders: dict[int, Order] = {}
        self.accounts: dict[str, Account] = {}
        self._books = books
        self._resting: dict[str, set[int]] = {}
        self.shown: dict[tuple[str, Side], Shown] = {}
        """What our orders have taken of the sides of books."""
        self.news: list[Fill | Rejection] = []
        """What `events` will give."""
        self._orders_made = 0
        self._fills_made = 0
        self.due_ns: Nanos | None = None
        """When `receive_timeout` is due: for an order or a cancel that is under way."""
        self.halted = ""
        """Why no order is taken any more; empty while orders are taken."""
        self.refusing = ""
        """Why no order is taken at the moment."""
        self.on_wish: Callable[[Wish], None] | None = None
        """Told of every order and cancel before anything comes of it: for a journal."""
        self._model = model_of(self.settings)
        self._loss_max = self.settings.risk.loss_max
        self._under_way: deque[tuple[Nanos, Order | int]] = deque()
        self._coming: dict[int, Order] = {}
        self._leaving: set[int] = set()
        self._marks: dict[str, Decimal] = {}

    # Orders.

    def limit(self, instrument: str, side: Side, price: object, quantity: object, now_ns: Nanos) -> int:
        """Place a limit order; gives its id, under which fills and refusals are told."""
        if self.on_wish is not None:
            self._tell_wish(instrument, side, str(price), quantity, now_ns)
        return self._place(instrument, side, read_amount(price), quantity, now_ns)

    def market(self, instrument: str, side: Side, quantity: object, now_ns: Nanos) -> int:
        """Place a market order; gives its id, under which fills and refusals are told."""
        if self.on_wish is not None:
            self._tell_wish(instrument, side, "", quantity, now_ns)
        return self._place(instrument, side, None, quantity, now_ns)

    def _tell_wish(self, instrument: str, side: Side, price: str, quantity: object, now_ns: Nanos) -> None:
        if self.on_wish is not None:
            order_id = self._orders_made + 1
            wish = Wish(
                order_id=order_id,
                instrument=instrument,
                side=side,
                price=price,
                quantity=str(quantity),
                ts_wish_ns=now_ns,
            )
            self.on_wish(wish)

    def _place(self, instrument: str, side: Side, price: Decimal | str | None, quantity: object, now_ns: Nanos) -> int:
        self._orders_made += 1
        order_id = self._orders_made
        amount = read_amount(quantity)
        reason = self._objection(instrument, side, price, amount)
        if reason or isinstance(price, str) or isinstance(amount, str):
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
        if self.settings.order_latency_ns:
            self._coming[order_id] = order
            self._send(order, now_ns)
        else:
            self._arrive(order, now_ns)
        return order_id

    def _send(self, what: Order | int, now_ns: Nanos) -> None:
        """Put an order, or the id of one to cancel, on its way."""
        self._under_way.append((now_ns + self.settings.order_latency_ns, what))
        self.due_ns = self._under_way[0][0]

    def receive_timeout(self, now_ns: Nanos) -> None:
        """`due_ns` has come: what was under way acts on the book."""
        while self._under_way and self._under_way[0][0] <= now_ns:
            _, what = self._under_way.popleft()
            if isinstance(what, Order):
                del self._coming[what.order_id]
                self._arrive(what, now_ns)
            else:
                self._leaving.discard(what)
                self._take_off(what, now_ns)
        self.due_ns = self._under_way[0][0] if self._under_way else None

    def _arrive(self, order: Order, now_ns: Nanos) -> None:
        book = self._books[order.instrument]
        reason = ""
        if order.price is None and book.state is not BookState.LIVE:
            reason = f"the book is {book.state.value}"
        elif order.price is not None and len(self.orders) >= self.settings.orders_max:
            reason = f"{len(self.orders)} orders are resting already"
        if reason:
            self._reject(order.order_id, order.instrument, order.side, order.quantity, reason, now_ns)
        else:
            self._execute(order, book, now_ns)

    def _objection(self, instrument: str, side: Side, price: Decimal | str | None, amount: Decimal | str) -> str:
        """Say why an order cannot be taken; empty where it can."""
        if isinstance(amount, str):
            return f"quantity: {amount}"
        if isinstance(price, str):
            return f"price: {price}"
        if side not in _OPPOSITE:
            return "an order buys or sells"
        if instrument not in self._books:
            return "no book of this instrument"
        return self._risk(instrument, side, amount)

    def _risk(self, instrument: str, side: Side, amount: Decimal) -> str:
        """Say which limit an order would break."""
        limits = self.settings.risk
        if self.refusing:
            return self.refusing
        if self.halted:
            return f"risk: {self.halted}"
        if limits.order_max is not None and amount > limits.order_max:
            return f"risk: {amount} is more than order_max, {limits.order_max}"
        if limits.position_max is not None:
            with localcontext(EXACT):
                orders = (*self.orders.values(), *self._coming.values())
                mine = (order.remaining for order in orders if (order.instrument, order.side) == (instrument, side))
                position = self.position(instrument)
                reached = (position if side is Side.BUY else -position) + sum(mine, amount)
                if reached > limits.position_max:
                    return f"risk: a position of {reached} is beyond position_max, {limits.position_max}"
        return ""

    def cancel(self, order_id: int, now_ns: Nanos) -> bool:
        """Take an open order off; tells whether it was there (where not: also a `Rejection`).

        With latency the order may still fill until the cancel has arrived.
        """
        if self.on_wish is not None:
            self.on_wish(Wish(order_id=order_id, is_cancel=True, ts_wish_ns=now_ns))
        if not self.settings.order_latency_ns:
            return self._take_off(order_id, now_ns)
        if (order_id in self.orders or order_id in self._coming) and order_id not in self._leaving:
            self._leaving.add(order_id)
            self._send(order_id, now_ns)
            return True
        self._reject(order_id, "", Side.NONE, ZERO, "no such order is open", now_ns)
        return False

    def _take_off(self, order_id: int, now_ns: Nanos) -> bool:
        order = self.orders.get(order_id)
        if order is None:
            self._reject(order_id, "", Side.NONE, ZERO, "no such order is resting", now_ns)
            return False
        self._remove(order)
        return True

    def cancel_all(self) -> int:
        """Take every order off at once, also those under way; gives how many there were."""
        count = len(self.orders) + len(self._coming)
        for order in list(self.orders.values()):
            self._remove(order)
        self._under_way.clear()
        self._coming.clear()
        self._leaving.clear()
        self.due_ns = None
        return count

    def holds(self, order_id: int) -> bool:
        """Tell whether an order rests or is under way, asked to be taken off or not."""
        return order_id in self.orders or order_id in self._coming

    def image(self) -> LedgerImage:
        """Give accounts and open orders in full; those under way too."""
        accounts = {name: image_of(account) for name, account in self.accounts.items()}
        orders = (*self.orders.values(), *self._coming.values())
        return LedgerImage(number=self._orders_made, orders=orders, accounts=accounts)

    def restore(self, image: LedgerImage) -> None:
        """Go on from another broker's image: limit orders rest, at the end of their queues; market orders are gone."""
        self._orders_made = image.number
        for name, part in image.accounts.items():
            self.accounts[name] = account_of(part)
        self._fills_made = sum(account.fills for account in self.accounts.values())
        for order in image.orders:
            if order.price is not None:
                self.orders[order.order_id] = order
                self._resting.setdefault(order.instrument, set()).add(order.order_id)
                self._model.rest(order, self._books[order.instrument])

    def open_orders(self) -> Mapping[int, Order]:
        """Give the orders as the strategy knows them: resting or under way, and not asked to be taken off."""
        if not self._coming and not self._leaving:
            return self.orders
        known = {**self.orders, **self._coming}
        return {order_id: order for order_id, order in known.items() if order_id not in self._leaving}

    # The market.

    @property
    def watches(self) -> bool:
        """Whether every move of a book counts, orders or not: a loss has a limit."""
        return self._loss_max is not None

    def receive_book(self, instrument: str, now_ns: Nanos) -> None:
        """The book of the instrument has moved: fill what it crosses."""
        if self._loss_max is not None and instrument in self.accounts:
            self._watch_loss(self._books[instrument])
        if not self.orders and not self.shown:
            return
        resting = self._resting.get(instrument)
        book = self._books[instrument]
        for side in _OPPOSITE:
            shown = self.shown.get((instrument, side))
            if shown is not None:
                shown.refresh(book)
                if not shown.taken:
                    del self.shown[instrument, side]
        if resting and book.state is BookState.LIVE:
            self._model.receive_book(book, now_ns)
            self._fill_resting(book, [self.orders[order_id] for order_id in resting], now_ns)

    def receive_trade(self, trade: Trade, now_ns: Nanos) -> None:
        """A public trade has come: fill what the model says that it fills."""
        resting = self._resting.get(trade.instrument)
        book = self._books[trade.instrument]
        if not resting or book.state is not BookState.LIVE or trade.flags & Flag.HISTORY:
            return
        orders = sorted((self.orders[order_id] for order_id in resting), key=_priority)
        for order, quantity in self._model.receive_trade(book, trade, orders, now_ns):
            if order.price is not None:
                with localcontext(EXACT):
                    self._fill(order, order.price, quantity, True, now_ns)

    def _watch_loss(self, book: L2Book) -> None:
        """Halt when the account has lost more than it may."""
        top, limit = book.top(), self._loss_max
        if top is None or limit is None or self.halted:
            return
        with localcontext(EXACT):
            self._marks[book.instrument] = (top.bid_ticks + top.ask_ticks) * _HALF.scaleb(-top.price_scale)
            loss = -self.profit(self._marks)
            if loss > limit:
                self.halted = f"a loss of {canonical(loss)} is beyond loss_max, {limit}"

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
                self._model.rest(order, book)

    def _take(self, order: Order, book: L2Book) -> list[tuple[Decimal, Decimal]]:
        """Take what the order can have of the other side; gives (price, quantity) by level, best first."""
        side = _OPPOSITE[order.side]
        shown = self.shown.setdefault((order.instrument, side), Shown(side))
        shown.refresh(book)
        parts: list[tuple[Decimal, Decimal]] = []
        wanted = order.remaining
        for ticks, lots in walk(book, side):
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
        self.news.append(fill)
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
        self._model.forget(order)

    def _reject(
        self, order_id: int, instrument: str, side: Side, quantity: Decimal, reason: str, now_ns: Nanos
    ) -> None:
        self.news.append(
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

    def profit(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Give what was won, less fees, with positions valued at `marks`; one without a mark counts as its cost."""
        return profit_of(self.accounts, marks)

    def events(self) -> list[Fill | Rejection]:
        """Drain fills and refusals in the order they happened."""
        if not self.news:
            return []
        drained, self.news = self.news, []
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
        for shown in self.shown.values():
            if shown.is_overdrawn():
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
