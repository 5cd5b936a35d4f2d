"""`OrderGateway`: between a strategy's replicas and whoever executes its orders. Pure.

    active  --calls (epoch, requests, what it has heard, checkpoint)--> OrderGateway --> Executor (paper, or a venue)
    standby --calls-->                                                  (one process)
       ^----words (epoch, who is active, reports)-----------------------------'

The gateway owns the epoch: a number that grows each time another replica becomes the active one. Every request carries
the epoch in which it was decided, and one of an earlier epoch is refused, so that of two replicas that both take
themselves for the active one only one can trade. A request is taken once, whatever is sent again: requests of an epoch
are numbered without a hole, and (epoch, number) is the id of the order.

An active replica that is silent for `silence_ns` is replaced by a warm one. What the new one needs is the ledger
(exact, kept here), the user's state as of a report, and the reports since, which it is told as the old one would have
been.

The owner writes `records` down before it sends `words`: what was told has been kept. Calls and words are cumulative, so
whatever carries them may lose, repeat or reorder them.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Protocol

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Side
from raytrade.strategy.ledger import ZERO, Fill
from raytrade.strategy.order_ledger import LedgerImage, OrderLedger, Report
from raytrade.strategy.orders import Order, Rejection

NUMBERS_PER_EPOCH = 1 << 32
LIVES_KEPT = 8
STATE_BYTES_MAX = 1 << 20
"""A strategy's own state beyond this is refused."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An order, or the wish to take one off (`cancel`: its id). `price` is None for a market order."""

    number: int
    instrument: str = ""
    side: Side = Side.NONE
    price: Decimal | None = None
    quantity: Decimal = ZERO
    cancel: int = 0
    ts_order_ns: Nanos = 0

    def order(self, epoch: int) -> Order:
        """Give the order that it asks for."""
        return Order(
            order_id=order_id_of(epoch, self.number),
            instrument=self.instrument,
            side=self.side,
            price=self.price,
            quantity=self.quantity,
            ts_order_ns=self.ts_order_ns,
        )


def order_id_of(epoch: int, number: int) -> int:
    """Give the id of the order that is request `number` of an epoch."""
    return epoch * NUMBERS_PER_EPOCH + number


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy's own state (`save`, as MessagePack) after the reports up to `number`."""

    number: int
    state: bytes


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica says: which epoch it holds (0: none), reports it has heard, requests not taken yet.

    `life` is another one whenever its process is: an epoch is granted to one life, and ends with it.
    `safe`: reports that whoever takes over need not be told, since the strategy has no state of its own, or one that
    was kept after them. `known`: the newest epoch it has heard of. `is_warm`: its books can be used. `is_leaving`:
    another is to take its place now. `is_over`: the strategy has ended for good, and nobody is to take its place.
    """

    replica: str
    life: int = 0
    epoch: int = 0
    known: int = 0
    heard: int = 0
    safe: int = 0
    requests: tuple[Request, ...] = ()
    checkpoint: Checkpoint | None = None
    is_warm: bool = False
    is_leaving: bool = False
    is_over: bool = False


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica begins with: the ledger, the state, the reports since the state; `lost`: reports not kept."""

    ledger: LedgerImage
    checkpoint: Checkpoint | None = None
    missed: tuple[Report, ...] = ()
    lost: int = 0


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway says: who is active in which epoch; to that one also which requests were taken, and reports."""

    epoch: int
    active: str
    life: int = 0
    taken: int = 0
    reports: tuple[Report, ...] = ()
    checkpointed: int = -1
    """The report of the last checkpoint that is kept."""
    opening: Opening | None = None
    halted: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What must be kept: a new epoch, an order taken (`taken`: its number), a report, a checkpoint, or everything."""

    epoch: int = 0
    active: str = ""
    life: int = 0
    taken: int = 0
    order: Order | None = None
    report: Report | None = None
    checkpoint: Checkpoint | None = None
    image: GatewayImage | None = None


class GatewayImage(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway in full."""

    epoch: int
    active: str
    life: int
    taken: int
    safe: int
    opening: Opening


class Executor(Protocol):
    """Executes orders and reports on them to the gateway: paper, or a connection to a venue.

    The order's id is the client order id that a venue should be given, so that it too takes each order once.
    """

    def place(self, order: Order) -> None:
        """Place an order."""
        ...

    def cancel(self, order_id: int) -> None:
        """Take an order off; that it is gone, or was, is reported."""
        ...


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a replica counts as lost, and bounds."""

    silence_ns: Nanos = 800 * MILLISECOND
    reports_max: int = 10_000
    """Reports kept for a replica that takes over."""
    reports_per_word: int = 500


class _Replica:
    """What is known of a replica: what its present life said last, and which ones are over."""

    __slots__ = ("call", "former", "heard_ns")

    def __init__(self, call: Call, now_ns: Nanos) -> None:
        self.former: deque[int] = deque(maxlen=LIVES_KEPT)
        self.call = call
        self.heard_ns = now_ns

    def follow(self, call: Call, now_ns: Nanos) -> bool:
        """Take a call; False if a life that is over has sent it."""
        if call.life in self.former:
            return False
        if call.life != self.call.life:
            self.former.append(self.call.life)
        self.call, self.heard_ns = call, now_ns
        return True


class OrderGateway:
    """The gateway of one strategy; see the module."""

    def __init__(self, executor: Executor, settings: GatewaySettings | None = None) -> None:
        self.epoch = 0
        self.active = ""
        self._life = 0
        self.taken = 0
        self.halted = ""
        self.is_over = False
        """Whether the strategy has ended for good."""
        self.ledger = OrderLedger()
        self.checkpoint: Checkpoint | None = None
        self.refused = 0
        """Requests of an earlier epoch."""
        self.reports_lost = 0
        """Reports not kept for a replica that takes over; the ledger has them."""
        self._settings = settings or GatewaySettings()
        self._executor = executor
        self._replicas: dict[str, _Replica] = {}
        self._reports: deque[Report] = deque()
        self._safe = 0
        self._looked_ns: Nanos = 0
        self._records: list[Record] = []
        self._wanted: dict[str, None] = {}

    # Inputs.

    def receive(self, call: Call, now_ns: Nanos) -> None:
        """Take what a replica says."""
        replica = self._replicas.setdefault(call.replica, _Replica(call, now_ns))
        if not replica.follow(call, now_ns):
            return
        self._wanted[call.replica] = None
        if call.known > self.epoch:  # what was kept is lost: no epoch may come again
            self.epoch, self.active = call.known, ""
        if call.epoch == self.epoch and self._is_active(call):
            self._follow(call)
        elif call.epoch:
            self.refused += len(call.requests)
        self.receive_timeout(now_ns)

    def _is_active(self, call: Call) -> bool:
        return (call.replica, call.life) == (self.active, self._life)

    def _follow(self, call: Call) -> None:
        """Take what the active one says."""
        self._safe = max(self._safe, call.safe)
        if call.checkpoint is not None and (
            self.checkpoint is None or call.checkpoint.number >= self.checkpoint.number
        ):
            self.checkpoint = call.checkpoint
            self._records.append(Record(checkpoint=call.checkpoint))
        self._forget()
        for request in call.requests:
            if request.number == self.taken + 1:
                self._take(request)
        if call.is_over and not self.is_over:
            self.is_over = True
            for order_id in list(self.ledger.orders):
                self._executor.cancel(order_id)

    def _take(self, request: Request) -> None:
        self.taken = request.number
        if request.cancel:
            self._records.append(Record(taken=request.number))
            self._executor.cancel(request.cancel)
            return
        order = request.order(self.epoch)
        self.ledger.open(order)
        self._records.append(Record(taken=request.number, order=order))
        if self.halted:
            self.report_rejection(rejection_of(order, f"risk: {self.halted}", order.ts_order_ns))
        else:
            self._executor.place(order)

    def receive_timeout(self, now_ns: Nanos) -> None:
        """Look whether the active replica is there; to be called several times within `silence_ns`."""
        away_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        if away_ns > self._settings.silence_ns // 2:
            for replica in self._replicas.values():
                replica.heard_ns = min(replica.heard_ns + away_ns, now_ns)
        active = self._replicas.get(self.active)
        if self.is_over or (active is not None and self._is_active(active.call) and not self._is_gone(active, now_ns)):
            return
        if active is None and self.active:
            awaited = Call(replica=self.active, life=self._life)
            self._replicas[self.active] = _Replica(awaited, now_ns)  # it has time to say something
            return
        fitting = [name for name, replica in self._replicas.items() if self._is_fit(replica, now_ns)]
        if fitting:
            self._grant(min(fitting))

    def _is_gone(self, replica: _Replica, now_ns: Nanos) -> bool:
        return replica.call.is_leaving or now_ns - replica.heard_ns > self._settings.silence_ns

    def _is_fit(self, replica: _Replica, now_ns: Nanos) -> bool:
        return not self._is_active(replica.call) and replica.call.is_warm and not self._is_gone(replica, now_ns)

    def _grant(self, name: str) -> None:
        self.epoch, self.active, self.taken = self.epoch + 1, name, 0
        self._life = self._replicas[name].call.life
        self._records.append(Record(epoch=self.epoch, active=name, life=self._life))
        self._wanted.update(dict.fromkeys(self._replicas))

    # What the executor says.

    def report_fill(self, fill: Fill) -> None:
        """One of the orders was executed; its fill gets a number of its own that outlives the executor's process."""
        fills = sum(account.fills for account in self.ledger.accounts.values())
        self._report(Report(number=self.ledger.number + 1, fill=msgspec.structs.replace(fill, fill_id=fills + 1)))

    def report_rejection(self, rejection: Rejection) -> None:
        """An order, its rest or a cancel was refused."""
        self._report(Report(number=self.ledger.number + 1, rejection=rejection))

    def report_closed(self, order_id: int) -> None:
        """An order was taken off."""
        self._report(Report(number=self.ledger.number + 1, closed=order_id))

    def halt(self, reason: str) -> None:
        """No order is taken any more."""
        self.halted = reason
        self._wanted[self.active] = None

    def _report(self, report: Report) -> None:
        self.ledger.apply(report)
        self._reports.append(report)
        self._records.append(Record(report=report))
        self._wanted[self.active] = None
        self._forget()

    def _forget(self) -> None:
        """Keep reports as long as a replica that takes over would have to be told of them."""
        while self._reports and self._reports[0].number <= self._safe:
            self._reports.popleft()
        while len(self._reports) > self._settings.reports_max:
            self._reports.popleft()
            self.reports_lost += 1

    # Outputs.

    @property
    def has_words(self) -> bool:
        """Whether `words` would give any."""
        return bool(self._wanted)

    def words(self) -> list[tuple[str, Word]]:
        """Drain: what to say to which replica."""
        wanted, self._wanted = self._wanted, {}
        return [(name, self._word(self._replicas[name].call)) for name in wanted if name in self._replicas]

    def _word(self, call: Call) -> Word:
        if not self._is_active(call):
            return Word(epoch=self.epoch, active=self.active, life=self._life)
        has_opened = call.epoch == self.epoch
        oldest = self._reports[0].number if self._reports else self.ledger.number + 1
        is_whole = has_opened and call.heard + 1 >= oldest
        return Word(
            epoch=self.epoch,
            active=self.active,
            life=self._life,
            taken=self.taken,
            reports=self._after(call.heard) if is_whole else (),
            checkpointed=-1 if self.checkpoint is None else self.checkpoint.number,
            opening=None if is_whole else self._opening(call.heard if has_opened else self._begins_after()),
            halted=self.halted,
        )

    def _begins_after(self) -> int:
        """Give the number of the last report that a replica that takes over need not be told."""
        return self._safe if self.checkpoint is None else max(self._safe, self.checkpoint.number)

    def _after(self, number: int) -> tuple[Report, ...]:
        found = [report for report in self._reports if report.number > number]
        return tuple(found[: self._settings.reports_per_word])

    def _opening(self, known: int) -> Opening:
        missed = tuple(report for report in self._reports if report.number > known)
        lost = self.ledger.number - known - len(missed)
        return Opening(ledger=self.ledger.image(), checkpoint=self.checkpoint, missed=missed, lost=lost)

    def records(self) -> list[Record]:
        """Drain: what must be kept before anything of it is told."""
        drained, self._records = self._records, []
        return drained

    # Going on after a death, or elsewhere.

    def image(self) -> Record:
        """Give all that `restore` needs, in one record."""
        opening = self._opening(self._begins_after())
        kept = GatewayImage(
            epoch=self.epoch,
            active=self.active,
            life=self._life,
            taken=self.taken,
            safe=self._safe,
            opening=opening,
        )
        return Record(image=kept)

    def restore(self, records: list[Record]) -> None:
        """Go on from what was kept; the executor must be given the open orders by its owner."""
        for record in records:
            self._restore(record)
        self._records.clear()
        self._wanted.clear()

    def _restore(self, record: Record) -> None:
        if record.image is not None:
            image = record.image
            self.epoch, self.active, self._life = image.epoch, image.active, image.life
            self.taken, self._safe = image.taken, image.safe
            self.ledger.restore(image.opening.ledger)
            self.checkpoint = image.opening.checkpoint
            self._reports = deque(image.opening.missed)
        if record.epoch:
            self.epoch, self.active, self._life, self.taken = record.epoch, record.active, record.life, 0
        if record.taken:
            self.taken = record.taken
        if record.order is not None:
            self.ledger.open(record.order)
        if record.report is not None:
            self.ledger.apply(record.report)
            self._reports.append(record.report)
        if record.checkpoint is not None:
            self.checkpoint = record.checkpoint
            self._safe = max(self._safe, record.checkpoint.number)
        self._forget()


def rejection_of(order: Order, reason: str, now_ns: Nanos) -> Rejection:
    """Give the refusal of all that remains of an order."""
    return Rejection(
        order_id=order.order_id,
        instrument=order.instrument,
        side=order.side,
        quantity=order.remaining,
        reason=reason,
        ts_reject_ns=now_ns,
    )
