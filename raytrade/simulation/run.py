"""`run_seed`: one seed from the first frame to the verdict."""

from __future__ import annotations

import msgspec

from raytrade.arbitration import ArbiterSettings
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel
from raytrade.core.message import Kind, Message, decode
from raytrade.errors import InvariantError
from raytrade.simulation.actor import MAILBOX_BATCHES_MAX, Actor
from raytrade.simulation.checks import Broken, Checker, Violation
from raytrade.simulation.cluster import PROGRESS_NS, Cluster
from raytrade.simulation.collector import SimCollector
from raytrade.simulation.consumers import SimRecorder, SimStrategy
from raytrade.simulation.dedup import SimDedup
from raytrade.simulation.faults import Injector
from raytrade.simulation.plan import CLASSES, DEDUPS, RECORDER, Plan, VenuePlan, draw_plan
from raytrade.simulation.rules import CHAINED, simulated_rule
from raytrade.simulation.watch import ChainWatch
from raytrade.simulation.world import START_NS, World

CHUNK_NS = 250 * MILLISECOND
WARM_UP_NS = 300 * MILLISECOND
CALM_INTERVAL_NS = 400 * MILLISECOND
"""Time between changes of a venue after the faults."""
REST_NS = 3 * SECOND
BURST = 20
"""Changes of each venue in the moment before it falls quiet."""
BOOK_CHECK_EVERY = 8
ARBITERS = ArbiterSettings()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a seed, and its figures."""

    seed: int
    trace: str
    violation: Violation | None
    classes: list[str]
    venue_messages: int
    frames: int
    lines: int
    faults: list[str]
    crashes: int
    steps: int
    simulated_s: float
    recovery_s: float
    books_checked: int
    gaps_told: int
    losses: int
    losses_reported: int
    false_gaps: int


class Simulation:
    """One seed."""

    def __init__(self, seed: int, settings: ArbiterSettings = ARBITERS) -> None:
        self.world = World(seed)
        self.plan: Plan = draw_plan(seed, self.world.random)
        self.checker = Checker(lambda: self.world.now_ns, self.world.note, list(DEDUPS))
        self.cluster = Cluster(self.world, self.plan, self.checker, settings)
        self.injector = Injector(self.world, self.cluster, self.checker.calm)
        self.changes = 0
        self.trades = 0
        self.recovered_ns: Nanos = 0
        self._losses = self._losses_reported = 0
        self._is_resting = False
        self._restarts = self._count_crashes()

    def _count_crashes(self) -> list[str]:
        died: list[str] = []
        restart = self.cluster.network.on_crash

        def crashed(name: str) -> None:
            died.append(name)
            restart(name)

        self.cluster.network.on_crash = crashed
        return died

    def run(self) -> Result:
        """Run to the end, or to the first broken promise."""
        try:
            self._run()
        except Broken:
            pass
        except InvariantError as error:
            self._break("an actor", f"invariant: {error}")
        return self._result()

    def _break(self, who: str, what: str) -> None:
        try:
            self.checker.fail(who, what)
        except Broken:
            pass

    def _run(self) -> None:
        world = self.world
        self.cluster.start()
        self.injector.plan(self.plan.faults)
        for lie in self.plan.lies:
            self.checker.lies.liars.update(self.injector.lines(lie.target))
        self.injector.plan(self.plan.lies)
        for plan in self.plan.venues:
            world.after(WARM_UP_NS, self._change, plan)
            world.after(WARM_UP_NS, self._beat, plan.name)
        end_ns = max(self.injector.end_ns, START_NS + self.plan.active_ns)
        while world.now_ns < end_ns:
            self._advance()
        self.recovered_ns = self._recover("the faults")
        self._fall_quiet()
        self._check_end()

    def _fall_quiet(self) -> None:
        """One last burst while somebody is not listening, and then nothing more, ever: everybody must reach the end."""
        world = self.world
        self.injector.plan(self.plan.quiet)
        for _ in range(BURST):
            for venue in self.cluster.venues.values():
                self.changes += 1
                venue.change()
            world.run_until(world.now_ns + MILLISECOND)
        self._is_resting = True
        for venue in self.cluster.venues.values():
            venue.flush()
        rest_ns = max(self.injector.end_ns, world.now_ns) + REST_NS
        while world.now_ns < rest_ns:
            self._advance()
        self._recover("the venues fell quiet")
        self._await_end()

    def _await_end(self) -> None:
        """Every book must come to the venue's last state, though nothing new comes that would show what is missing."""
        start_ns = self.world.now_ns
        while self.cluster.behind() and self.world.now_ns <= start_ns + PROGRESS_NS:
            self._advance()

    def _advance(self) -> None:
        self.world.run_until(self.world.now_ns + CHUNK_NS)
        self.cluster.each(self._check_actor)

    def _recover(self, what: str) -> Nanos:
        """The faults are over: every book must be LIVE again in time."""
        world = self.world
        start_ns = world.now_ns
        while not self.cluster.is_live():
            if world.now_ns > start_ns + PROGRESS_NS:
                limit_s = PROGRESS_NS // SECOND
                self.checker.fail("cluster", f"no progress: not every book is LIVE {limit_s} s after {what}")
            self._advance()
        return world.now_ns - start_ns

    # The venues' life.

    def _change(self, plan: VenuePlan) -> None:
        if self._is_resting:
            return
        world, venue = self.world, self.cluster.venues[plan.name]
        self.changes += 1
        venue.change()
        if world.chance(plan.trade_share):
            self.trades += 1
            venue.trade()
        is_active = world.now_ns < START_NS + self.plan.active_ns
        interval_ns = plan.interval_ns if is_active else CALM_INTERVAL_NS
        world.after(world.between(interval_ns // 2, interval_ns * 3 // 2), self._change, plan)

    def _beat(self, name: str) -> None:
        self.cluster.venues[name].beat()
        self.world.after(SECOND, self._beat, name)

    # Checks.

    def _check_actor(self, actor: Actor) -> None:
        if actor.mailbox_max > MAILBOX_BATCHES_MAX:
            self.checker.fail(actor.name, f"{actor.mailbox_max} batches in the mailbox")
        match actor:
            case SimCollector():
                self._check_ring(actor)
            case SimDedup():
                self._check_ring(actor)
                actor.shard.arbiter.validate()
                self._hear_accusations(actor)
            case SimStrategy():
                actor.engine.validate()
                if not actor.engine.is_running:
                    self.checker.fail(actor.name, f"the probe raised: {actor.engine.statistics().failure}")
            case SimRecorder():
                actor.arbiter.validate()
            case _:
                pass

    def _hear_accusations(self, dedup: SimDedup) -> None:
        for (instrument, channel), counts in dedup.shard.arbiter.statistics().items():
            if channel is Channel.BOOK and simulated_rule(instrument, channel).rule in CHAINED:
                for line, part in counts.lines.items():
                    if part.disagreements:
                        self.checker.accuse(dedup.name, instrument, line)

    def _check_ring(self, actor: SimCollector | SimDedup) -> None:
        ring = actor.publisher.ring
        if ring.bytes_held > ring.bytes_max or ring.end - ring.start > ring.items_max:
            self.checker.fail(actor.name, f"the ring holds {ring.bytes_held} bytes, {ring.end - ring.start} messages")

    def _check_end(self) -> None:
        for strategy in self.cluster.strategies():
            for instrument in self.checker.subjects:
                self.checker.final(strategy.name, instrument, strategy.engine.books.get(instrument))
        self.checker.check_gaps()
        self.checker.check_lies()
        self._check_recording()

    def _check_recording(self) -> None:
        """What is on the disk, over all lives of the recorder, keeps every promise by itself."""
        disk = self.cluster.disk
        disk.flush()
        watch = self.cluster.durable_watch
        books: dict[str, L2Book] = {}
        for count, message in enumerate(disk.durable):
            watch.give([message])
            if message.kind in (Kind.SNAPSHOT, Kind.DELTA):
                self._replay(books, message, check=count % BOOK_CHECK_EVERY == 0)
            elif message.kind is Kind.GAP and message.channel is Channel.BOOK and message.instrument in books:
                books[message.instrument].invalidate()
        for stream, chain in watch.chains.items():
            self._check_losses(stream, chain)
        for stream in self.checker.trades:
            taken = watch.trades[stream].seen if stream in watch.trades else set()
            self.checker.check_trades(RECORDER, stream, taken)

    def _replay(self, books: dict[str, L2Book], message: Message, *, check: bool) -> None:
        event = decode(message)
        assert isinstance(event, BookDelta | BookSnapshot)
        book = books.setdefault(message.instrument, L2Book(message.instrument))
        book.apply(event)
        is_chained = simulated_rule(message.instrument, Channel.BOOK).rule in CHAINED
        is_doubtful = self.checker.lies.concerns(message.instrument)
        if check and is_chained and not is_doubtful and book.top() is not None:
            self.checker.live("recording", book)

    def _check_losses(self, stream: str, chain: ChainWatch) -> None:
        """What no line delivered must stand in the gaps."""
        if chain.first is None:
            return
        told = {number for start, end in chain.gaps for number in range(start + 1, end + 1)}
        lost = self.checker.lost(stream, chain.first, chain.covered)
        silent = [number for number in lost if number not in told]
        self._losses += len(lost)
        self._losses_reported += len(lost) - len(silent)
        if silent:
            self.checker.fail("recording", f"{stream}: {silent[0]} ({len(silent)} in all) was lost and is in no gap")

    def _result(self) -> Result:
        checker = self.checker
        violation = checker.violations[0] if checker.violations else None
        return Result(
            seed=self.plan.seed,
            trace=self.world.trace.digest(),
            violation=violation,
            classes=[CLASSES[venue.name] for venue in self.plan.venues],
            venue_messages=self.changes + self.trades,
            frames=sum(venue.frames for venue in self.cluster.venues.values()),
            lines=len(self.cluster.paths),
            faults=[f"{fault.kind} {fault.target}" for fault in (*self.plan.faults, *self.plan.lies)],
            crashes=len(self._restarts),
            steps=self.world.steps,
            simulated_s=(self.world.now_ns - START_NS) / SECOND,
            recovery_s=self.recovered_ns / SECOND,
            books_checked=checker.books_checked,
            gaps_told=checker.gaps_told,
            losses=self._losses,
            losses_reported=self._losses_reported,
            false_gaps=sum("false gap" in each.what for each in checker.violations),
        )


def run_seed(seed: int, settings: ArbiterSettings = ARBITERS) -> Result:
    """Run one seed."""
    return Simulation(seed, settings).run()
