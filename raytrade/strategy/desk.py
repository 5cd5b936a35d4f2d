"""`Desk`: a replica's end of an `OrderGateway`, and the broker of its strategy. Pure.

It sends what the strategy orders, takes each report once and in order, and knows the epoch that it trades in: none
while the replica is a standby. Orders that the gateway has not taken are open for the strategy, and refused when the
epoch is over: nothing that was decided in an earlier epoch is executed later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext
from enum import Enum

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Side, Trade
from raytrade.errors import InvariantError
from raytrade.strategy.gateway import Call, Checkpoint, Opening, Request, Word, rejection_of
from raytrade.strategy.ledger import EXACT, ZERO, Account, Fill, profit_of, read_amount
from raytrade.strategy.order_ledger import OrderLedger, Report
from raytrade.strategy.orders import Order, Rejection, Wish


class DeskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a gateway that is silent gets no orders, how often to speak, and bounds."""

    silence_ns: Nanos = 800 * MILLISECOND
    beat_ns: Nanos = 200 * MILLISECOND
    requests_max: int = 1000
    """Requests not taken yet; beyond them orders are refused."""
    cash: Decimal = ZERO


class Turn(Enum):
    """What a word has changed for the replica."""

    NONE = "none"
    ACTIVE = "active"
    """It trades from now on; see `Desk.opening`."""
    FENCED = "fenced"
    """Another one does: it must not decide any more."""


class Desk:
    """See the module; the owner sends what `call` gives."""

    def __init__(self, replica: str, life: int, settings: DeskSettings | None = None) -> None:
        """`life`: a number that no earlier process of the replica had."""
        self.epoch = 0
        """The epoch this replica trades in; 0 while it is a standby."""
        self.opening: Opening | None = None
        """What the present epoch began with."""
        self.known_epoch = 0
        self.active = ""
        self.news: list[Fill | Rejection] = []
        self.halted = self.refusing = ""
        self.on_wish: Callable[[Wish], None] | None = None
        self.due_ns: Nanos | None = None
        self.checkpointed = -1
        self._replica, self._life = replica, life
        self._settings = settings or DeskSettings()
        self._ledger = OrderLedger()
        self.orders, self.accounts = self._ledger.orders, self._ledger.accounts
        self._number = 0
        self._requests: list[Request] = []
        self._leaving: set[int] = set()
        self._heard_ns: Nanos = 0
        self._said_ns: Nanos = 0
        self._has_news = True

    # Orders.

    def limit(self, instrument: str, side: Side, price: object, quantity: object, now_ns: Nanos) -> int:
        """Send a limit order; gives its id."""
        return self._send(instrument, side, read_amount(price), quantity, now_ns)

    def market(self, instrument: str, side: Side, quantity: object, now_ns: Nanos) -> int:
        """Send a market order; gives its id."""
        return self._send(instrument, side, None, quantity, now_ns)

    def _send(self, instrument: str, side: Side, price: Decimal | str | None, quantity: object, now_ns: Nanos) -> int:
        self._number += 1
        amount = read_amount(quantity)
        request = Request(
            number=self._number,
            instrument=instrument,
            side=side,
            price=None if isinstance(price, str) else price,
            quantity=ZERO if isinstance(amount, str) else amount,
            ts_order_ns=now_ns,
        )
        order = request.order(self.epoch)
        reason = next((text for text in (price, amount) if isinstance(text, str)), "") or self._objection(now_ns)
        if reason:
            self._number -= 1
            self.news.append(rejection_of(order, reason, now_ns))
        else:
            self._ledger.open(order)
            self._request(request)
        return order.order_id

    def _objection(self, now_ns: Nanos) -> str:
        if not self.epoch:
            return "this replica is a standby"
        if self.halted or self.refusing:
            return self.refusing or f"risk: {self.halted}"
        if now_ns - self._heard_ns > self._settings.silence_ns:
            return "the order gateway does not answer"
        if len(self._requests) >= self._settings.requests_max:
            return f"{len(self._requests)} requests are under way already"
        return ""

    def _request(self, request: Request) -> None:
        self._requests.append(request)
        self._has_news = True

    def cancel(self, order_id: int, now_ns: Nanos) -> bool:
        """Ask for an open order to be taken off; it may still fill until that has arrived."""
        if order_id not in self.orders or order_id in self._leaving:
            self.news.append(rejection_of(_nothing(order_id), "no such order is open", now_ns))
            return False
        self._leaving.add(order_id)
        self._number += 1
        self._request(Request(number=self._number, cancel=order_id, ts_order_ns=now_ns))
        return True

    def cancel_all(self) -> int:
        """Ask for every order to be taken off."""
        wanted = [order_id for order_id in self.orders if order_id not in self._leaving]
        for order_id in wanted if self.epoch else []:
            self.cancel(order_id, 0)
        return len(wanted)

    def open_orders(self) -> Mapping[int, Order]:
        """Give the orders that were sent and not asked to be taken off."""
        if not self._leaving:
            return self.orders
        return {order_id: order for order_id, order in self.orders.items() if order_id not in self._leaving}

    def account(self, instrument: str) -> Account:
        """Give the account of an instrument, opened when first asked for."""
        return self.accounts.setdefault(instrument, Account())

    def profit(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Give what was won, less fees, with positions valued at `marks`."""
        return profit_of(self.accounts, marks)

    def position(self, instrument: str) -> Decimal:
        """Give the signed quantity held, by the fills that were told."""
        account = self.accounts.get(instrument)
        return ZERO if account is None else account.position

    @property
    def cash(self) -> Decimal:
        """Cash at the start and of all instruments since."""
        with localcontext(EXACT):
            return sum((account.cash for account in self.accounts.values()), self._settings.cash)

    # The market is the executor's business.

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Nothing is due here."""

    def receive_book(self, instrument: str, now_ns: Nanos) -> None:
        """Nothing is filled here."""

    def receive_trade(self, trade: Trade, now_ns: Nanos) -> None:
        """Nothing is filled here."""

    def events(self) -> list[Fill | Rejection]:
        """Drain fills and refusals in the order they were told."""
        drained, self.news = self.news, []
        return drained

    # The gateway.

    @property
    def number(self) -> int:
        """The number of the last report taken."""
        return self._ledger.number

    @property
    def has_requests(self) -> bool:
        """Whether there are requests that the gateway has not taken yet."""
        return bool(self._requests)

    def call(
        self, now_ns: Nanos, checkpoint: Checkpoint | None = None, safe: int = 0, *, is_warm: bool, is_leaving: bool
    ) -> Call | None:
        """Give what to say now, None if it is too early; `safe`: reports that no successor need be told."""
        if not self._has_news and checkpoint is None and now_ns - self._said_ns < self._settings.beat_ns:
            return None
        self._has_news, self._said_ns = False, now_ns
        return Call(
            replica=self._replica,
            life=self._life,
            epoch=self.epoch,
            known=self.known_epoch,
            heard=self._ledger.number if self.epoch else 0,
            requests=tuple(self._requests),
            safe=safe if self.epoch else 0,
            checkpoint=checkpoint if self.epoch else None,
            is_warm=is_warm,
            is_leaving=is_leaving,
        )

    def receive(self, word: Word, now_ns: Nanos) -> Turn:
        """Take what the gateway says; fills and refusals are in `news` then."""
        if word.epoch < self.known_epoch:
            return Turn.NONE
        self._heard_ns = max(self._heard_ns, now_ns)
        self.known_epoch, self.active = word.epoch, word.active
        if self.epoch and word.epoch > self.epoch:
            self._end(now_ns)
            return Turn.FENCED
        if (word.active, word.life) != (self._replica, self._life):
            return Turn.NONE
        turn = Turn.NONE
        if word.opening is not None and word.epoch > self.epoch:
            self._begin(word.epoch, word.opening)
            turn = Turn.ACTIVE
        if word.epoch == self.epoch:
            self._follow(word)
        return turn

    def _begin(self, epoch: int, opening: Opening) -> None:
        self.epoch, self.opening, self._number = epoch, opening, 0
        self._requests.clear()
        self._leaving.clear()
        self.news.clear()
        self._ledger.restore(opening.ledger)
        self._tell(opening.missed)
        self._has_news = True

    def _end(self, now_ns: Nanos) -> None:
        """Another replica is the active one: what was not taken never will be, what was is its affair now."""
        for request in self._requests:
            if not request.cancel:
                reason = f"fenced: epoch {self.epoch} is over"
                self.news.append(rejection_of(request.order(self.epoch), reason, now_ns))
        self._requests.clear()
        self._leaving.clear()
        self.orders.clear()
        self.epoch, self._has_news = 0, True

    def _follow(self, word: Word) -> None:
        """Take what was said to the active replica."""
        self.halted, self.checkpointed = word.halted, word.checkpointed
        self._requests = [request for request in self._requests if request.number > word.taken]
        if word.opening is not None and word.opening.ledger.number > self._ledger.number:
            self._catch_up(word.opening)
        for report in word.reports:
            if report.number == self._ledger.number + 1:
                self._ledger.apply(report)
                self._tell((report,))
                self._has_news = True
        self._leaving &= self.orders.keys()

    def _catch_up(self, opening: Opening) -> None:
        """More was reported than the gateway keeps: the ledger is right, and what is kept is told."""
        number = self._ledger.number
        self._ledger.restore(opening.ledger)
        for request in self._requests:
            if not request.cancel:
                self._ledger.open(request.order(self.epoch))
        self._tell(tuple(report for report in opening.missed if report.number > number))
        self._has_news = True

    def _tell(self, reports: tuple[Report, ...]) -> None:
        for report in reports:
            what = report.fill or report.rejection
            if what is not None:
                self.news.append(what)

    def validate(self) -> None:
        """Raise InvariantError where inner states contradict themselves."""
        for account in self.accounts.values():
            account.validate()
        numbers = [request.number for request in self._requests]
        if numbers and numbers != list(range(self._number - len(numbers) + 1, self._number + 1)):
            raise InvariantError("requests under way are not the last ones")
        if self.epoch > self.known_epoch:
            raise InvariantError("a desk is ahead of its gateway")


def _nothing(order_id: int) -> Order:
    return Order(order_id=order_id, instrument="", side=Side.NONE, price=None, quantity=ZERO)
