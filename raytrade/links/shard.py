"""`Shard`: what one replica of a dedup knows and decides: lines in, one stream out, books for images. Pure.

Its host (an actor, or the simulation) hands it what links bring (`receive`, `lose`, `resume`), calls `advance`, sends
what `output` gives, and calls `settle` after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raytrade.arbitration import Arbiter
from raytrade.arbitration.crossing import CROSSED_NS, CrossWatch
from raytrade.arbitration.disagreement import Disagreements
from raytrade.arbitration.silence import REVIEW_NS, SilenceWatch
from raytrade.arbitration.stream import RuleBook, SnapshotWanted
from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import Channel, Gap, LineDown, LineUp, Stalled
from raytrade.core.incidents import Field, Incident
from raytrade.core.instrument import Filter
from raytrade.core.members import DELTA, LINE_DOWN, LINE_UP, SNAPSHOT
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.core.rendezvous import ranked
from raytrade.links.line_books import checked_image

UNBOOKED_MAX = 256
UNBOOKED_NS = 50 * MILLISECOND


class Note(NamedTuple):
    """An incident that the host is to note."""

    incident: Incident
    ts_ns: Nanos
    fields: dict[str, Field]


class Shard:
    """One replica; `crossed_ns`: how long a book may be crossed (0: any time)."""

    def __init__(self, name: str, arbiter: Arbiter, rules: RuleBook, crossed_ns: Nanos = CROSSED_NS) -> None:
        self.arbiter = arbiter
        self.books: dict[str, L2Book] = {}
        """As of the last `keep_books`."""
        self.up: dict[str, Message] = {}
        """The lines whose word of being up went out last, with that word."""
        self._name = name
        self._rules = rules
        self._said: list[Message] = []
        self._notes: list[Note] = []
        self._unbooked: list[Message] = []
        self._booked_ns: Nanos = 0
        self._lines_of: dict[str, dict[str, Message]] = {}
        self._unheard: dict[str, tuple[str, Message]] = {}
        self._asked: dict[str, int] = {}
        self._silence = SilenceWatch()
        self._disagreements = Disagreements()
        self._crossings = CrossWatch(crossed_ns)
        self._reviewed_ns: Nanos = 0

    # What comes over the links of collectors.

    def receive(self, collector: str, messages: list[Message], now_ns: Nanos) -> None:
        """Take what a collector's link brought."""
        receive = self.arbiter.receive
        for message in messages:
            kind = message.kind
            if kind is LINE_UP or kind is LINE_DOWN:
                self._note_line(collector, message)
            elif self._unheard and message.line in self._unheard:
                self._hear(message.line, now_ns)
            receive(message.line, message, now_ns)

    def _note_line(self, collector: str, message: Message) -> None:
        lines = self._lines_of.setdefault(collector, {})
        self._unheard.pop(message.line, None)
        if message.kind is LINE_UP:
            lines[message.line] = message
        else:
            lines.pop(message.line, None)

    def _hear(self, line: str, now_ns: Nanos) -> None:
        """A line that was lost with its link is there again."""
        collector, line_up = self._unheard.pop(line)
        self._note_line(collector, line_up)
        self.arbiter.receive(line, line_up, now_ns)

    def lose(self, collector: str, now_ns: Nanos) -> list[Message]:
        """Without its link a collector's lines are as good as down, until one is heard of again; gives that word."""
        words: list[Message] = []
        for line, line_up in self._lines_of.pop(collector, {}).items():
            self._unheard[line] = (collector, line_up)
            down = LineDown(venue=line_up.instrument, cause=f"no link to {collector}", ts_recv_ns=now_ns)
            words.append(parse(encode(down, line)))
            self.arbiter.receive(line, words[-1], now_ns)
        return words

    def resume(self, resumed: Callable[[], list[str]], now_ns: Nanos) -> None:
        """A link that goes on where it was brings word of every change, so its lines are as they were: up."""
        if not self._unheard:
            return
        collectors = resumed()
        for line in [line for line, (collector, _) in self._unheard.items() if collector in collectors]:
            self._hear(line, now_ns)

    def lines(self) -> list[str]:
        """Give the lines of the collectors that are up."""
        return [line for lines in self._lines_of.values() for line in lines]

    # What time brings.

    def advance(self, now_ns: Nanos) -> None:
        """Do what is due."""
        due_ns = self.arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self.arbiter.receive_timeout(now_ns)
        if not 0 <= now_ns - self._reviewed_ns < REVIEW_NS:
            self._reviewed_ns = now_ns
            self._watch_silence(now_ns)
            self._watch_lines(now_ns)
            self._watch_crossings(now_ns)

    def _watch_silence(self, now_ns: Nanos) -> None:
        """Tell consumers of lines that say nothing while others flow; for the arbiter such a line is as it was."""
        lines = {line: message.instrument for lines in self._lines_of.values() for line, message in lines.items()}
        for word in self._silence.review(self.arbiter.statistics(), lines.keys(), now_ns):
            venue = lines[word.line]
            cause = f"silent for {word.silent_ns // MILLISECOND} ms while other lines flow"
            down = LineDown(venue=venue, cause=cause, ts_recv_ns=now_ns)
            event = down if word.is_silent else LineUp(venue=venue, ts_recv_ns=now_ns)
            self._said.append(parse(encode(event, word.line)))

    def _watch_lines(self, now_ns: Nanos) -> None:
        """Note which lines contradict others, and what that has changed."""
        streams = self.arbiter.statistics()
        for found in self._disagreements.review(streams, now_ns):
            said: dict[str, Field] = {"line": found.line, "instrument": found.instrument, "count": found.count}
            self._notes.append(Note(Incident.LINE_DISAGREES, now_ns, said))
        for change in self._disagreements.changes(streams):
            merged = change.in_force or "the venue's own class"
            said = {"instrument": change.instrument, "merged": merged}
            self._notes.append(Note(Incident.MERGE_CHANGED, now_ns, said))

    def _watch_crossings(self, now_ns: Nanos) -> None:
        for found in self._crossings.review(self.books, now_ns):
            said: dict[str, Field] = {"instrument": found.instrument, "line": found.message.line, "cause": found.cause}
            self._notes.append(Note(Incident.BOOK_CROSSED, now_ns, said))
            self.arbiter.blame(found.message, found.cause, now_ns)

    # What goes out.

    def output(self) -> list[Message]:
        """Drain what is to be sent to every consumer."""
        messages = self.arbiter.output()
        if self._said:
            messages += self._said
            self._said = []
        self._unbooked += messages
        return messages

    def notes(self) -> list[Note]:
        """Drain the incidents."""
        drained, self._notes = self._notes, []
        return drained

    def whom_to_ask(self, wanted: SnapshotWanted, up: list[str]) -> list[str]:
        """Give the collectors to ask for a book, best first: the same on every replica, others at the next attempt.

        A line's own book can only be asked for where the line is.
        """
        instrument = wanted.instrument
        if wanted.line:
            return [name for name in up if wanted.line in self._lines_of.get(name, {})]
        collectors = ranked(instrument, up)
        if not collectors:
            return []
        attempt = self._asked[instrument] = self._asked.get(instrument, -1) + 1
        first = attempt % len(collectors)
        return collectors[first:] + collectors[:first]

    # Books.

    def settle(self, now_ns: Nanos) -> None:
        """Keep the books, if much has gone out since, or it was long ago."""
        if len(self._unbooked) >= UNBOOKED_MAX or not 0 <= now_ns - self._booked_ns < UNBOOKED_NS:
            self._booked_ns = now_ns
            self.keep_books()

    def keep_books(self) -> None:
        """Apply what went out to the books that images are made of: after sending, and many at a time.

        An image is only made after this, so the books may be late; one at a time the work costs several times more.
        """
        messages, self._unbooked = self._unbooked, []
        for message in messages:
            match kind := message.kind:
                case _ if kind is DELTA or kind is SNAPSHOT:
                    book = self._book(message.instrument)
                    book.take(message)
                    self._crossings.follow(book, message)
                case Kind.GAP | Kind.STALLED:
                    self._note(message)
                    if message.channel is Channel.BOOK:
                        self._book(message.instrument).invalidate()
                case Kind.RESYNCED:
                    self._note(message)
                    if message.channel is Channel.BOOK:
                        self._book(message.instrument).revalidate()
                case Kind.LINE_UP:
                    self.up[message.line] = message
                case Kind.LINE_DOWN:
                    self.up.pop(message.line, None)

    def _note(self, message: Message) -> None:
        said: dict[str, Field] = {"instrument": message.instrument, "channel": message.channel.name.lower()}
        match decode(message):
            case Gap() as gap:
                said |= {"kind": gap.kind.name.lower(), "cause": gap.cause, "id_prev": gap.id_prev}
                said |= {"id_last": gap.id_last, "lines_up": len(gap.lines)}
                incident = Incident.GAP
            case Stalled(cause=cause):
                said["cause"], incident = cause, Incident.STALLED
            case _:
                said["id_last"], incident = message.id_last, Incident.RESYNCED
        self._notes.append(Note(incident, message.ts_recv_ns, said))

    def _book(self, instrument: str) -> L2Book:
        book = self.books.get(instrument)
        if book is None:
            book = self.books[instrument] = L2Book(instrument)
        return book

    def live(self) -> list[str]:
        """Give the instruments whose book can be used."""
        self.keep_books()
        return [name for name, book in self.books.items() if book.state is BookState.LIVE]

    def images(self, wanted: Filter) -> list[Message]:
        """Give what opens a link: word of the lines that are up, and the wanted books that can be used."""
        live = self.live()
        images = list(self.up.values())
        for instrument in live:
            if wanted.accepts(instrument, Channel.BOOK):
                image = checked_image(self.books[instrument], self._rules(instrument, Channel.BOOK))
                images.append(parse(encode(image, self._name)))
        return images

    # What is seen from outside.

    def silent(self) -> list[str]:
        """Give the lines that say nothing while others flow."""
        return list(self._silence.silent)

    def alarms(self, now_ns: Nanos) -> dict[str, str]:
        """Give what is wrong with instruments, until it is over for good."""
        return self._crossings.alarms(now_ns) | self.arbiter.alarms(now_ns)
