"""`SimDedup`: the logic of `raytrade.actors.dedup` in the simulation."""

from __future__ import annotations

from collections.abc import Callable

from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.arbitration.crossing import CrossWatch
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, LineDown
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.core.rendezvous import ranked
from raytrade.links.line_books import checked_image
from raytrade.links.opening import OpenLink
from raytrade.links.publisher import Publisher
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


class SimDedup(Actor):
    """One replica."""

    def __init__(
        self, name: str, world: World, network: Network, collectors: list[str], links: LinkSettings, arbiter: Arbiter
    ) -> None:
        super().__init__(name, world, network)
        self.arbiter = arbiter
        self.watch: ArbiterWatch | None = None
        self.on_image: BookWitness = lambda _name, _book: None
        self.publisher = Publisher(world.random.getrandbits(WRITER_BITS) | 1, links, self._images, self._wake_link)
        self._books: dict[str, L2Book] = {}
        self._unbooked: list[Message] = []
        self._up: dict[str, Message] = {}
        self._lines_of: dict[str, dict[str, Message]] = {}
        self._unheard: dict[str, tuple[str, Message]] = {}
        self._asked: dict[str, int] = {}
        self._crossings = CrossWatch()
        template = OpenLink(link=0, reader=name, replay=True)
        self._upstreams = SimUpstreams(self, template, collectors, self._change)

    def tick(self, now_ns: Nanos) -> Nanos | None:
        """Do what is due; see `raytrade.actors.dedup`."""
        self._upstreams.tick(now_ns)
        if self._unheard:
            self._hear_resumed(now_ns)
        due_ns = self.arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self.arbiter.receive_timeout(now_ns)
        self._give_out()
        self.step()
        self.publisher.pump(now_ns)
        for note in self.publisher.notes():
            self.world.note(self.name, note)
        self._keep_books()
        for found in self._crossings.review(self._books, now_ns):
            self.world.note(self.name, f"{found.instrument} is {found.cause}")
            self.arbiter.blame(found.message, found.cause, now_ns)
        due = [at for at in (self.arbiter.deadline_ns(), self.publisher.due_ns()) if at is not None]
        return min(due) if due else None

    def receive_batch(self, collector: str, data: bytes) -> None:
        """Take a batch of a collector's link."""
        now_ns = self.now_ns
        for message in self._upstreams.receive(collector, data, now_ns):
            self.step()
            if message.kind is Kind.LINE_UP or message.kind is Kind.LINE_DOWN:
                self._note_line(collector, message)
            elif self._unheard and message.line in self._unheard:
                self._hear(message.line, now_ns)
            self._receive(message.line, message, now_ns)

    def _receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        if self.watch is not None:
            self.watch.receive(line, message)
        self.arbiter.receive(line, message, now_ns)

    def _note_line(self, collector: str, message: Message) -> None:
        lines = self._lines_of.setdefault(collector, {})
        self._unheard.pop(message.line, None)
        if message.kind is Kind.LINE_UP:
            lines[message.line] = message
        else:
            lines.pop(message.line, None)

    def _hear(self, line: str, now_ns: Nanos) -> None:
        collector, line_up = self._unheard.pop(line)
        self._note_line(collector, line_up)
        self._receive(line, line_up, now_ns)

    def _hear_resumed(self, now_ns: Nanos) -> None:
        resumed = self._upstreams.resumed()
        for line in [line for line, (collector, _) in self._unheard.items() if collector in resumed]:
            self._hear(line, now_ns)

    def _change(self, collector: str, is_up: bool, now_ns: Nanos) -> None:
        if is_up:
            return
        for line, line_up in self._lines_of.pop(collector, {}).items():
            self._unheard[line] = (collector, line_up)
            down = LineDown(venue=line_up.instrument, cause=f"no link to {collector}", ts_recv_ns=now_ns)
            self._receive(line, parse(encode(down, line)), now_ns)

    def _give_out(self) -> None:
        messages = self.arbiter.output()
        if messages:
            if self.watch is not None:
                self.watch.give(messages)
            self.publisher.append(messages)
            self._unbooked += messages
        for wanted in self.arbiter.commands():
            self._request_snapshot(wanted.instrument, wanted.reason)

    def _request_snapshot(self, instrument: str, reason: str) -> None:
        if simulated_rule(instrument, Channel.BOOK).in_band:
            self._upstreams.request_images({instrument}, self.now_ns)
        collectors = ranked(instrument, self._upstreams.up())
        if not collectors:
            return
        attempt = self._asked[instrument] = self._asked.get(instrument, -1) + 1
        name = collectors[attempt % len(collectors)]
        self.world.note(self.name, f"asks {name} for {instrument} ({reason})")

        def ask(actor: Actor) -> None:
            assert isinstance(actor, SimCollector)
            actor.request_snapshot(instrument)

        self.network.call(self.name, name, ask)

    def _keep_books(self) -> None:
        messages, self._unbooked = self._unbooked, []
        for message in messages:
            match message.kind:
                case Kind.DELTA | Kind.SNAPSHOT:
                    event = decode(message)
                    assert isinstance(event, BookDelta | BookSnapshot)
                    book = self._book(message.instrument)
                    book.apply(event)
                    self._crossings.follow(book, message)
                case Kind.GAP | Kind.STALLED if message.channel is Channel.BOOK:
                    self._book(message.instrument).invalidate()
                case Kind.RESYNCED if message.channel is Channel.BOOK:
                    self._book(message.instrument).revalidate()
                case Kind.LINE_UP:
                    self._up[message.line] = message
                case Kind.LINE_DOWN:
                    self._up.pop(message.line, None)

    def _book(self, instrument: str) -> L2Book:
        return self._books.setdefault(instrument, L2Book(instrument))

    def _images(self, wanted: Filter) -> list[Message]:
        self._keep_books()
        images = list(self._up.values())
        for instrument, book in self._books.items():
            if book.state is BookState.LIVE and wanted.accepts(instrument, Channel.BOOK):
                self.on_image(self.name, book)
                rule = simulated_rule(instrument, Channel.BOOK)
                images.append(parse(encode(checked_image(book, rule), self.name)))
        return images

    def _wake_link(self, link: int, problem: str | None) -> None:
        self.post(self.publisher.sent, link, problem)

    def open_link(self, wish: OpenLink, reader: str) -> int:
        """Open a link to `reader`; gives this writer's id."""
        self.publisher.open(wish, self.network.lane(self, reader), self.now_ns)
        return self.publisher.writer_id

    def is_live(self, instrument: str) -> bool:
        """Tell whether the replica's own book can be used."""
        book = self._books.get(instrument)
        return book is not None and book.state is BookState.LIVE

    def has_demoted(self, instrument: str, line: str) -> bool:
        """Tell whether the line is not believed."""
        counts = self.arbiter.statistics().get((instrument, Channel.BOOK))
        return counts is not None and f"{line} demoted" in counts.in_force


def new_arbiter(name: str, settings: ArbiterSettings) -> Arbiter:
    """Give the arbiter of a simulated actor."""
    return Arbiter(name, simulated_rule, settings)
