"""`SimDedup`: the `Shard` that `raytrade.actors.dedup` hosts, in the simulation."""

from __future__ import annotations

from collections.abc import Callable

from raytrade.arbitration import Arbiter, ArbiterSettings, SnapshotWanted
from raytrade.core.book import L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import Channel
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Publisher
from raytrade.links.shard import Shard
from raytrade.links.writer import LinkSettings
from raytrade.simulation.actor import Actor
from raytrade.simulation.collector import WRITER_BITS, SimCollector
from raytrade.simulation.network import Network
from raytrade.simulation.rules import simulated_rule
from raytrade.simulation.upstreams import SimUpstreams
from raytrade.simulation.watch import ArbiterWatch
from raytrade.simulation.world import World

BookWitness = Callable[[str, L2Book], None]
"""Told of every image that is given out: by whom, and the book."""


class WatchedArbiter(Arbiter):
    """An arbiter of which everything that comes in and goes out is checked."""

    def __init__(self, name: str, settings: ArbiterSettings, watch: ArbiterWatch) -> None:
        super().__init__(name, simulated_rule, settings)
        self._watch_of_all = watch
        watch.is_believed = lambda stream, line: not self.has_demoted(stream.rpartition("/")[0], line)

    def has_demoted(self, instrument: str, line: str) -> bool:
        """Tell whether the line is not believed."""
        stream = self._streams.get((instrument, Channel.BOOK))
        return stream is not None and f"{line} demoted" in stream.counts.in_force

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Take one message."""
        self._watch_of_all.receive(line, message)
        super().receive(line, message, now_ns)

    def output(self) -> list[Message]:
        """Drain the merged stream."""
        messages = super().output()
        self._watch_of_all.give(messages)
        return messages


class SimDedup(Actor):
    """One replica."""

    def __init__(
        self,
        name: str,
        world: World,
        network: Network,
        collectors: list[str],
        links: LinkSettings,
        arbiter: WatchedArbiter,
    ) -> None:
        super().__init__(name, world, network)
        self._arbiter = arbiter
        self.shard = Shard(name, arbiter, simulated_rule)
        self.on_image: BookWitness = lambda _name, _book: None
        self.publisher = Publisher(world.random.getrandbits(WRITER_BITS) | 1, links, self._images, self._wake_link)
        template = OpenLink(link=0, reader=name, replay=True)
        self._upstreams = SimUpstreams(self, template, collectors, self._change)

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Do what is due; see `raytrade.actors.dedup`."""
        shard = self.shard
        self._upstreams.tick(now_ns)
        shard.resume(self._upstreams.resumed, now_ns)
        shard.advance(now_ns)
        self._give_out()
        self.step()
        self.publisher.pump(now_ns)
        for note in self.publisher.notes():
            self.world.note(self.name, note)
        shard.settle(now_ns)
        for incident, _, fields in shard.notes():
            self.world.note(self.name, f"{incident.value}: {fields}")
        due = [at for at in (shard.arbiter.deadline_ns(), self.publisher.due_ns()) if at is not None]
        return min(due) if due else None

    def receive_batch(self, collector: str, data: bytes) -> None:
        """Take a batch of a collector's link."""
        now_ns = self.now_ns
        for message in self._upstreams.receive(collector, data, now_ns):
            self.step()
            self.shard.receive(collector, [message], now_ns)

    def _change(self, collector: str, is_up: bool, now_ns: Nanos) -> None:
        if not is_up:
            self.shard.lose(collector, now_ns)

    def _give_out(self) -> None:
        messages = self.shard.output()
        if messages:
            self.publisher.append(messages)
        for wanted in self.shard.arbiter.commands():
            self._request_snapshot(wanted)

    def _request_snapshot(self, wanted: SnapshotWanted) -> None:
        instrument = wanted.instrument
        if simulated_rule(instrument, Channel.BOOK).in_band and not wanted.line:
            self._upstreams.request_images({instrument}, self.now_ns)
        collectors = self.shard.whom_to_ask(wanted, self._upstreams.up())
        if not collectors:
            return
        self.world.note(self.name, f"asks {collectors[0]} for {instrument} ({wanted.reason})")

        def ask(actor: Actor) -> None:
            assert isinstance(actor, SimCollector)
            actor.request_snapshot(instrument, wanted.line)

        self.network.call(self.name, collectors[0], ask)

    def _images(self, wanted: Filter) -> list[Message]:
        images = self.shard.images(wanted)
        for image in images:
            if image.kind is Kind.SNAPSHOT:
                self.on_image(self.name, self.shard.books[image.instrument])
        return images

    def _wake_link(self, link: int, problem: str | None) -> None:
        self.post(self.publisher.sent, link, problem)

    def open_link(self, wish: OpenLink, reader: str) -> int:
        """Open a link to `reader`; gives this writer's id."""
        self.publisher.open(wish, self.network.lane(self, reader), self.now_ns)
        return self.publisher.writer_id

    def is_live(self, instrument: str) -> bool:
        """Tell whether the replica's own book can be used."""
        return instrument in self.shard.live()

    def has_demoted(self, instrument: str, line: str) -> bool:
        """Tell whether the line is not believed."""
        return self._arbiter.has_demoted(instrument, line)
