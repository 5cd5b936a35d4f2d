"""A strategy's two replicas and its gateway in one thread: the real machines, a network that loses, repeats and delays,
deaths at any step, partitions, and a book that moves all the time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from decimal import Decimal
from random import Random

import msgspec

from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Side
from raytrade.core.instrument import Filter
from raytrade.core.message import Message
from raytrade.strategy import BaseStrategy, Context, Fill, StrategyEngine
from raytrade.strategy.desk import Desk
from raytrade.strategy.gateway import Call, OrderGateway, Record, Word
from raytrade.strategy.orders import Order
from raytrade.strategy.paper import PaperBroker
from raytrade.strategy.paper_execution import PaperExecution
from raytrade.strategy.replica import Replica, listen
from tests.unit.strategy.streams import BTC, T0, delta, rules, snapshot

NAMES = ("a", "b")
GATEWAY = "gateway"
STEP_NS = 20 * MILLISECOND
SMALL = Decimal("0.1")


class Ladder(BaseStrategy):
    """Wants to have taken one unit for every tenth change of the book, and bids a tenth deep below the market.

    What it has taken is its own state: a fill that it is not told makes it order twice, one told twice too little.
    """

    def __init__(self) -> None:
        self.fills: list[int] = []
        self.taken = Decimal(0)

    def on_book(self, context: Context, book: L2Book) -> None:
        under_way = sum((order.remaining for order in context.orders.values() if order.price is None), Decimal(0))
        wanted = wanted_at(book.id_last) - self.taken - under_way
        assert wanted >= 0, f"{-wanted} too many"
        if wanted:
            context.market(BTC, Side.BUY, wanted)
        bids = [order for order in context.orders.values() if order.price is not None]
        if len(bids) < 3:
            context.limit(BTC, Side.BUY, "90", SMALL)
        elif book.id_last % 7 == 0:
            context.cancel(bids[0].order_id)

    def on_fill(self, context: Context, fill: Fill) -> None:
        self.fills.append(fill.fill_id)
        if fill.quantity != SMALL:
            self.taken += fill.quantity

    def save(self, context: Context) -> object:
        return {"fills": self.fills, "taken": str(self.taken)}

    def restore(self, context: Context, state: object) -> None:
        assert isinstance(state, dict)
        self.fills, self.taken = list(state["fills"]), Decimal(state["taken"])


def wanted_at(id_last: int) -> Decimal:
    return Decimal(id_last // 10)


class Market:
    """A book of big round sizes; now and then somebody asks as little as 90."""

    def __init__(self, random: Random) -> None:
        self.book = L2Book(BTC)
        self._random = random
        self.move(snapshot(1, bids=(80, 10_000), asks=(101, 100_000)))

    def move(self, message: Message) -> Message:
        from raytrade.core.message import decode

        self.book.apply(decode(message))  # type: ignore[arg-type]
        return message

    def change(self) -> Message:
        dips = (90, 1) if self._random.random() < 0.1 else (90, 0)
        return self.move(delta(self.book.id_last + 1, asks=(101, self._random.randrange(100_000, 200_000), *dips)))

    def image(self) -> Message:
        bids, asks = (
            tuple(part for level in self.book.levels(side, 100) for part in level) for side in (Side.BUY, Side.SELL)
        )
        return snapshot(self.book.id_last, bids=bids, asks=asks)


class Placed(PaperExecution):
    """Writes down what is placed."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[int] = []

    def place(self, order: Order) -> None:
        self.orders.append(order.order_id)
        super().place(order)


class World:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_ns: Nanos = T0
        self.market = Market(self.random)
        self.journal: list[bytes] = []
        self.placed: list[int] = []
        self.fenced = 0
        self.loss = 0.0
        self.is_quiet = False
        self.cut: set[str] = set()
        self.dead: set[str] = set()
        self.paused: dict[str, list[Callable[[], None]]] = {}
        self._queue: list[tuple[Nanos, int, Callable[[], None]]] = []
        self._count = 0
        self.replicas: dict[str, Replica] = {}
        self.start_gateway()
        for name in NAMES:
            self.start_replica(name)
        self.after(STEP_NS, self._change)

    # Time.

    def after(self, wait_ns: Nanos, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_ns + wait_ns, self._count, what))

    def run(self, duration_ns: Nanos) -> None:
        end_ns = self.now_ns + duration_ns
        while self._queue and self._queue[0][0] <= end_ns:
            self.now_ns, _, what = heapq.heappop(self._queue)
            what()
        self.now_ns = end_ns

    # Processes.

    def start_gateway(self) -> None:
        self.dead.discard(GATEWAY)
        self.execution = Placed()
        self.gateway: OrderGateway = self.execution.gateway
        self.engine = StrategyEngine(GATEWAY, self.execution, Filter(), rules)
        assert isinstance(self.engine.broker, PaperBroker)
        self.execution.broker = self.engine.broker
        self.gateway.restore([msgspec.msgpack.decode(data, type=Record) for data in self.journal])
        self.engine.start(self.now_ns)
        self.engine.act(self.execution.restore, self.now_ns, None)
        self._open(self.engine)
        self._beat_gateway(self.execution)

    def start_replica(self, name: str) -> None:
        self.dead.discard(name)
        desk = Desk(name, self.random.getrandbits(62))
        engine = StrategyEngine(name, BaseStrategy(), Filter(), rules, broker=desk)
        self._open(engine)
        self.replicas[name] = Replica(engine, desk, Ladder)
        self._beat(name, self.replicas[name])

    def _open(self, engine: StrategyEngine) -> None:
        engine.receive_line_up("dedup", self.now_ns)
        engine.receive("dedup", self.market.image(), self.now_ns)

    def kill(self, name: str) -> None:
        """Have a process die where it stands; what was on its way to it is lost."""
        self.dead.add(name)
        self.paused.pop(name, None)

    def restart(self, name: str) -> None:
        if name in self.dead:
            self.start_gateway() if name == GATEWAY else self.start_replica(name)

    def pause(self, name: str) -> None:
        self.paused.setdefault(name, [])

    def go_on(self, name: str) -> None:
        for what in self.paused.pop(name, []):
            what()

    def _do(self, name: str, process: object, what: Callable[[], None]) -> None:
        """Have a process do something, if it is still the one that was meant, when it can."""
        if name in self.dead or process not in (self.execution, self.replicas.get(name)):
            return
        if name in self.paused:
            self.paused[name].append(lambda: self._do(name, process, what))
        else:
            what()

    # Steps.

    def _change(self) -> None:
        self.after(STEP_NS, self._change)
        if self.is_quiet:
            return
        message = self.market.change()
        self._do(GATEWAY, self.execution, lambda: self._feed_gateway(message))
        for name, replica in self.replicas.items():
            self._do(name, replica, lambda name=name, replica=replica: self._feed(name, replica, message))  # type: ignore[misc]

    def _feed_gateway(self, message: Message) -> None:
        self.engine.receive("dedup", message, self.now_ns)
        self._speak()

    def _feed(self, name: str, replica: Replica, message: Message) -> None:
        replica.engine.receive("dedup", message, self.now_ns)
        self._say(name, replica)

    def _beat(self, name: str, replica: Replica) -> None:
        if self.replicas.get(name) is replica and name not in self.dead:
            self._do(name, replica, lambda: self._say(name, replica))
            self.after(50 * MILLISECOND, lambda: self._beat(name, replica))

    def _beat_gateway(self, execution: PaperExecution) -> None:
        if self.execution is execution and GATEWAY not in self.dead:
            self._do(GATEWAY, execution, self._speak)
            self.after(50 * MILLISECOND, lambda: self._beat_gateway(execution))

    def _say(self, name: str, replica: Replica) -> None:
        assert replica.engine.is_running, replica.engine.statistics().failure
        call = replica.call(self.now_ns, is_warm=True)
        if call is not None:
            self._send(name, lambda: self._do(GATEWAY, self.execution, lambda: self._receive(call)))

    def _receive(self, call: Call) -> None:
        self.engine.act(listen, self.now_ns)
        self.gateway.receive(call, self.now_ns)
        self.engine.act(listen, self.now_ns)
        if self.loss and self.random.random() < 0.005:
            self.kill(GATEWAY)  # after it took something, before it wrote that down
            self.after(SECOND, lambda: self.restart(GATEWAY))
        else:
            self._speak()

    def _speak(self) -> None:
        assert self.engine.is_running, self.engine.statistics().failure
        self.execution.settle()
        self.gateway.receive_timeout(self.now_ns)
        self.journal += [msgspec.msgpack.encode(record) for record in self.gateway.records()]
        self.placed += self.execution.orders
        self.execution.orders.clear()
        for name, word in self.gateway.words():
            replica = self.replicas[name]
            self._send(name, lambda n=name, r=replica, w=word: self._do(n, r, lambda: self._hear(n, r, w)))  # type: ignore[misc]

    def _hear(self, name: str, replica: Replica, word: Word) -> None:
        was_active = replica.desk.epoch > 0
        replica.receive(word, self.now_ns)
        self.fenced += was_active and not replica.desk.epoch
        self._say(name, replica)

    def _send(self, replica: str, deliver: Callable[[], None]) -> None:
        """Send something between a replica and the gateway."""
        for _ in range(2 if self.random.random() < self.loss else 1):
            if replica not in self.cut and self.random.random() >= self.loss:
                self.after(self.random.randrange(1, 30 if self.loss else 3) * MILLISECOND, deliver)

    # Verdicts.

    def active(self) -> str:
        """Name the one replica that trades in the gateway's epoch."""
        holding = [
            name
            for name, replica in self.replicas.items()
            if name not in self.dead and replica.desk.epoch == self.gateway.epoch > 0
        ]
        assert len(holding) <= 1
        return holding[0] if holding else ""

    def ladder(self) -> Ladder:
        strategy = self.replicas[self.active()].strategy
        assert isinstance(strategy, Ladder)
        return strategy

    def check(self) -> None:
        """Nothing lost, nothing doubled: orders by their ids, fills by what the strategy was told and by the sums."""
        assert len(self.placed) == len(set(self.placed)), "an order was placed twice"
        account = self.gateway.ledger.accounts[BTC]
        ladder, desk = self.ladder(), self.replicas[self.active()].desk
        assert ladder.fills == list(range(1, account.fills + 1)), "each fill was told once, in order"
        assert wanted_at(self.market.book.id_last) - ladder.taken <= 1
        assert desk.position(BTC) == account.position == ladder.taken + SMALL * (account.bought - ladder.taken) / SMALL
        assert sum(replica.desk.epoch > 0 for replica in self.replicas.values()) == 1, "one was fenced"
        assert desk.orders.keys() == self.gateway.ledger.orders.keys()
        resting = {self.execution._ids[placed] for placed in self.engine.broker.orders}
        assert resting == self.gateway.ledger.orders.keys()
        for part in (self.engine, *(replica.engine for replica in self.replicas.values())):
            part.validate()
