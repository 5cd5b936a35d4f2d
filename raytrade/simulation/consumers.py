"""`SimStrategy` and `SimRecorder`: the consumers, with the logic of their actors and open to the checkers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from raytrade.arbitration import Arbiter, SnapshotWanted
from raytrade.core.book import L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookSnapshot, Channel, Event, Flag, Gap, GapKind, Side, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.links.spill import Arrived, MemoryStore, SpillQueue
from raytrade.simulation.actor import Actor
from raytrade.simulation.network import Network
from raytrade.simulation.rules import CHAINED, simulated_rule
from raytrade.simulation.upstreams import SimUpstreams
from raytrade.simulation.watch import ArbiterWatch, Fail, Sees, stream_name
from raytrade.simulation.world import World
from raytrade.strategy.base import BaseStrategy, Context
from raytrade.strategy.engine import StrategyEngine

LATEST_BATCHES_MAX = 8
PENDING_MAX = 300
"""Messages that a disk which takes nothing leaves in memory; what follows waits."""

LiveBook = Callable[[str, L2Book], None]
"""Told of every LIVE book after each step: who holds it, and the book."""


class Probe(BaseStrategy):
    """A strategy that decides nothing and shows the checkers all that a strategy sees."""

    def __init__(self, who: str, watch: ArbiterWatch, live: LiveBook) -> None:
        self._who = who
        self._watch = watch
        self._live = live

    def on_book(self, context: Context, book: L2Book) -> None:
        """A LIVE book was moved."""
        self._live(self._who, book)

    def on_gap(self, context: Context, gap: Gap) -> None:
        """A gap was told."""
        self._watch.give([parse(encode(gap, self._who))])

    def on_trade(self, context: Context, trade: Trade) -> None:
        """A trade was told."""
        self._watch.give([parse(encode(trade, self._who))])


class SimStrategy(Actor):
    """Hosts a real `StrategyEngine`; `slow_ns` is the time each batch costs it."""

    def __init__(
        self, name: str, world: World, network: Network, dedups: list[str], fail: Fail, policy: Policy = Policy.SKIP
    ) -> None:
        super().__init__(name, world, network)
        self.slow_ns: Nanos = 0
        self.watch = ArbiterWatch(name, fail, Sees(unapplied=False))
        self.on_live: LiveBook = lambda _name, _book: None
        probe = Probe(name, self.watch, self._live)
        self.engine = StrategyEngine(name, probe, Filter(), simulated_rule, observer=self._observe)
        self.policy = policy
        self._upstreams = SimUpstreams(self, OpenLink(link=0, reader=name, policy=policy), dedups, self._change)

    def is_closed(self) -> bool:
        """Tell whether a link was closed for good because this consumer was too slow for it."""
        return bool(self._upstreams.closed())

    def is_live(self, instruments: list[str]) -> bool:
        """Tell whether all these books can be used."""
        books = self.engine.books
        return all(name in books and books[name].top() is not None for name in instruments)

    def has_room(self) -> bool:
        """Tell whether another batch may be posted; where the latest is wanted few wait."""
        return super().has_room() and (self.policy is not Policy.CONFLATE or self.batches_waiting < LATEST_BATCHES_MAX)

    def _live(self, who: str, book: L2Book) -> None:
        self.on_live(who, book)

    def _observe(self, kind: Kind, instrument: str, id_prev: int, id_last: int, flags: int) -> None:
        self.world.note(self.name, f"{kind.name} {instrument} ({id_prev}, {id_last}] flags {flags}")
        if kind is not Kind.TRADE and (chain := self.watch.chains.get(f"{instrument}/book")) is not None:
            chain.give(kind, flags, id_prev, id_last)

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Do what is due; see `raytrade.actors.strategy`."""
        self._upstreams.tick(now_ns)
        due_ns = self.engine.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self.engine.receive_timeout(now_ns)
        wanted = {command.instrument for command in self.engine.commands() if isinstance(command, SnapshotWanted)}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        return self.engine.deadline_ns()

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        now_ns = self.now_ns
        for message in self._upstreams.receive(dedup, data, now_ns):
            self.step()
            self.watch.receive(dedup, message)
            self.engine.receive(dedup, message, now_ns)
        if self.slow_ns:
            self.work(self.slow_ns)

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self.engine.receive_line_up if is_up else self.engine.receive_line_down)(dedup, now_ns)


class SimDisk:
    """What a recorder has taken: `durable` survives its death, `pending` does not; a full disk takes nothing."""

    def __init__(self, spill_bytes: tuple[int, int]) -> None:
        self.spill_bytes = spill_bytes
        """What a recorder may let wait, in memory and on disk."""
        self.durable: list[Message] = []
        self.is_full = False
        self.slow_ns: Nanos = 0
        self.pending: list[Message] = []
        self.pending_max = 0

    def write(self, messages: list[Message]) -> None:
        """Take messages; they are safe only after `flush`."""
        self.pending += messages
        self.pending_max = max(self.pending_max, len(self.pending))

    def flush(self) -> bool:
        """Make everything taken durable; tells whether that was possible."""
        if self.is_full:
            return False
        self.durable += self.pending
        self.pending = []
        return True


class SimHistory:
    """What a recorder that starts again finds on its disk; see `raytrade.actors.history`."""

    def __init__(self, disk: SimDisk) -> None:
        self.positions: dict[str, int] = {}
        self.openings: list[Message] = []
        self.breaks: list[tuple[str, Channel, int]] = []
        self._trades: dict[str, set[bytes]] = {}
        self.in_gap: set[str] = set()
        last: dict[tuple[str, Channel], int] = {}
        for message in disk.durable:
            if message.channel is Channel.BOOK:
                self._follow_gaps(message)
            if message.kind in (Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE):
                last[message.stream] = max(last.get(message.stream, 0), message.id_last)
                if message.kind is Kind.TRADE:
                    self._trades.setdefault(message.instrument, set()).add(message.tail())
        for (instrument, channel), id_last in last.items():
            if simulated_rule(instrument, channel).rule in CHAINED and id_last > 0:
                self._trades.pop(instrument if channel is Channel.TRADES else "", None)
                self.positions[f"{instrument}/{channel.name.lower()}"] = id_last
                self.openings.append(parse(encode(_opening(instrument, channel, id_last), "")))
            elif channel is Channel.BOOK:
                self.breaks.append((instrument, channel, id_last))

    def _follow_gaps(self, message: Message) -> None:
        if message.kind is Kind.GAP:
            self.in_gap.add(message.instrument)
        elif message.kind is Kind.RESYNCED:
            self.in_gap.discard(message.instrument)

    def has(self, message: Message) -> bool:
        """Tell whether the disk holds this trade, where no id would show it."""
        return message.kind is Kind.TRADE and message.tail() in self._trades.get(message.instrument, ())

    def follow(self, message: Message) -> None:
        """Note a message that was taken."""
        if simulated_rule(message.instrument, message.channel).rule in CHAINED:
            self.positions[stream_name(message)] = message.id_last


class SimRecorder(Actor):
    """Reads its links at once; arbitrates and writes to a `SimDisk` as fast as that is; the rest waits in a queue."""

    def __init__(
        self, name: str, world: World, network: Network, dedups: list[str], arbiter: Arbiter, disk: SimDisk, fail: Fail
    ) -> None:
        super().__init__(name, world, network)
        self.disk = disk
        self.queue = SpillQueue(MemoryStore(), *disk.spill_bytes)
        self._waiting: deque[Arrived] = deque()
        self._busy_ns: Nanos = 0
        self._time_ns: Nanos = 0
        self._given: list[Message] = []
        self.watch = ArbiterWatch(name, fail, Sees())
        self.arbiter = arbiter
        disk.pending = []
        self._history = SimHistory(disk)
        self._flushed_ns: Nanos = 0
        self._upstreams = SimUpstreams(self, OpenLink(link=0, reader=name), dedups, self._change)
        self._upstreams.positions = self._history.positions
        self._go_on(dedups)

    def _go_on(self, dedups: list[str]) -> None:
        for opening in self._history.openings:
            for dedup in dedups:
                self.arbiter.receive(dedup, opening, self.now_ns)
        self.watch.give([message for message in self.arbiter.output() if message.kind is Kind.SNAPSHOT])
        for instrument in sorted(self._history.in_gap):
            position = self._history.positions.get(f"{instrument}/book", 0)
            if position:
                doubt = self._break(instrument, Channel.BOOK, position, GapKind.DOUBT)
                self.arbiter.receive(dedups[0], doubt, self.now_ns)
        self.watch.give(self.arbiter.output())
        self.disk.write([self._break(*parts) for parts in self._history.breaks])

    def _break(self, instrument: str, channel: Channel, id_last: int, kind: GapKind = GapKind.RESET) -> Message:
        cause = "the recorder was started anew"
        gap = Gap(
            instrument=instrument,
            channel=channel,
            kind=kind,
            id_prev=id_last,
            id_last=0,
            cause=cause,
            ts_recv_ns=self.now_ns,
        )
        return parse(encode(gap, ""))

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Do what is due; see `raytrade.actors.recorder`."""
        self._push()
        self._upstreams.is_paused = bool(self._waiting)
        self._upstreams.tick(now_ns)
        if self.world.now_ns < self._busy_ns:
            return now_ns + self._busy_ns - self.world.now_ns
        self._work()
        if not self.queue and not self._waiting:
            self._advance(now_ns)
        self._write(now_ns)
        return self.arbiter.deadline_ns()

    def _put(self, arrived: Arrived) -> None:
        self._waiting.append(arrived)
        self._push()

    def _push(self) -> None:
        while self._waiting and self.queue.put(self._waiting[0]):
            self._waiting.popleft()

    def has_room(self) -> bool:
        """Tell whether another batch may be posted."""
        return super().has_room() and not self._waiting

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        messages = self._upstreams.receive(dedup, data, self.now_ns)
        if messages:
            self._put(Arrived(dedup, self.now_ns, messages))

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        self._put(Arrived(dedup, now_ns, [], is_up))

    def _work(self) -> None:
        is_stuck = self.disk.is_full and len(self.disk.pending) >= PENDING_MAX
        while not is_stuck and (arrived := self.queue.take()) is not None:
            self._arbitrate(arrived)
            self._push()

    def _advance(self, now_ns: Nanos) -> None:
        self._time_ns = max(self._time_ns, now_ns)
        due_ns = self.arbiter.deadline_ns()
        if due_ns is not None and self._time_ns >= due_ns:
            self.arbiter.receive_timeout(self._time_ns)

    def _arbitrate(self, arrived: Arrived) -> None:
        arbiter, dedup = self.arbiter, arrived.writer
        self._advance(arrived.ts_ns)
        self._drain()
        if arrived.is_up is not None:
            (arbiter.receive_line_up if arrived.is_up else arbiter.receive_line_down)(dedup, self._time_ns)
        for message in arrived.messages:
            self.step()
            if not self._history.has(message):
                self.watch.receive(dedup, message)
                arbiter.receive(dedup, message, self._time_ns)

    def _drain(self) -> None:
        """What has been decided so far was decided without what comes next."""
        given = self.arbiter.output()
        self.watch.give(given)
        self._given += given

    def _write(self, now_ns: Nanos) -> None:
        self._drain()
        messages, self._given = self._given, []
        wanted = {command.instrument for command in self.arbiter.commands()}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        for message in messages:
            self._cover(message)
        self.disk.write(messages)
        self.step()
        if now_ns - self._flushed_ns >= SECOND or now_ns < self._flushed_ns:
            self._flushed_ns = now_ns
            self.disk.flush()
            self._busy_ns = self.world.now_ns + self.disk.slow_ns

    def _cover(self, message: Message) -> None:
        ids = f"({message.id_prev}, {message.id_last}] flags {message.flags}"
        self.world.note(self.name, f"{message.kind.name} {message.instrument} {ids}")
        is_line = message.kind in (Kind.LINE_UP, Kind.LINE_DOWN)
        if not is_line and not message.flags & (Flag.UNAPPLIED | Flag.HISTORY):
            self._history.follow(message)


def _opening(instrument: str, channel: Channel, id_last: int) -> Event:
    if channel is Channel.BOOK:
        return BookSnapshot(
            instrument=instrument, id_last=id_last, bids=(), asks=(), price_scale=0, size_scale=0, flags=Flag.IMAGE
        )
    return Trade(
        instrument=instrument,
        trade_id=str(id_last),
        price=0,
        size=0,
        price_scale=0,
        size_scale=0,
        aggressor=Side.NONE,
        sequence=id_last,
    )
