"""`Checker`: compares what consumers are told with the truth; the first broken promise ends the simulation.

Three kinds of checks. At every place: order, once, no silent loss, no false gap (`watch`). At every LIVE book: it is
the venue's. From end to end: what no line delivered is in a `Gap` at the recorder, and what came through a path that
no fault touched is in none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import msgspec

from raytrade.arbitration import Rule
from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import BookDelta, Channel, Event, Flag, Gap, GapKind, Side, Trade
from raytrade.simulation.lies import Lies
from raytrade.simulation.market import PRICE_SCALE, SIZE_SCALE, Market, Row
from raytrade.simulation.rules import CHAINED, simulated_rule

CHECKSUM_LEVELS = 10
PROMPT_NS = 200 * MILLISECOND
"""A copy that took longer from the venue to its collector may come when its absence was already told."""
CALM_BEFORE_NS = SECOND
CALM_AFTER_NS = 4 * SECOND


class Violation(msgspec.Struct, frozen=True):
    """A promise that was broken: when, by whom, and how."""

    ts_ns: Nanos
    who: str
    what: str


class Broken(BaseException):
    """The simulation found a violation and stops; no engine may take it for a fault of its strategy."""


class Subject(msgspec.Struct):
    """One instrument: its truth, and how deep books show it (0: all of it); `is_proved` if every loss shows."""

    market: Market
    depth: int = 0
    is_proved: bool = True


class Deliveries:
    """Which ids of one stream reached which lines' machines, and when; `in_order` only those before any later one."""

    def __init__(self) -> None:
        self.whole: set[int] = set()
        self.in_order: dict[int, list[tuple[Nanos, str]]] = {}
        self._highest: dict[str, int] = {}

    def take(self, line: str, id_prev: int, id_last: int, now_ns: Nanos) -> None:
        """A line's machine gave ``(id_prev, id_last]``."""
        highest = self._highest.get(line, 0)
        for number in range(id_prev + 1, id_last + 1):
            self.whole.add(number)
            if number > highest:
                self.in_order.setdefault(number, []).append((now_ns, line))
        self._highest[line] = max(highest, id_last)


class Calm:
    """When which actors and links were touched by a fault; a path is safe where it was not."""

    def __init__(self) -> None:
        self._touched: dict[str, list[tuple[Nanos, Nanos]]] = {}

    def touch(self, element: str, start_ns: Nanos, end_ns: Nanos) -> None:
        """A fault is at work there in this time."""
        self._touched.setdefault(element, []).append((start_ns, end_ns))

    def is_calm(self, elements: tuple[str, ...], start_ns: Nanos, end_ns: Nanos) -> bool:
        """Tell whether no fault touched any of these."""
        return not any(
            start <= end_ns and start_ns <= end for element in elements for start, end in self._touched.get(element, ())
        )


class Checker:
    """Knows the truth of all instruments."""

    def __init__(self, now: Callable[[], Nanos], note: Callable[[str, str], None], dedups: list[str]) -> None:
        self.subjects: dict[str, Subject] = {}
        self.violations: list[Violation] = []
        self.calm = Calm()
        self.deliveries: dict[str, Deliveries] = {}
        self.trades: dict[str, dict[bytes, list[tuple[Nanos, str]]]] = {}
        """Of trades with sparse ids: when each came to which line's machine."""
        self.lies = Lies(dedups, self.calm.is_calm)
        self.books_checked = 0
        self.gaps_told = 0
        self._now = now
        self._note = note
        self._dedups = dedups
        self._index: dict[tuple[str, str], int] = {}
        self._gaps: list[tuple[Nanos, str, str, Gap]] = []

    def fail(self, who: str, what: str) -> None:
        """Report a broken promise."""
        self.violations.append(Violation(self._now(), who, what))
        self._note(who, f"BROKEN: {what}")
        raise Broken(what)

    # What comes in.

    def witness(self, line: str, event: Event) -> None:
        """A line's machine gave an event."""
        match event:
            case BookDelta() if simulated_rule(event.instrument, Channel.BOOK).rule in CHAINED:
                self.lies.witness(line, event, self.subjects[event.instrument].market, self._now())
                self._delivered(f"{event.instrument}/book").take(line, event.id_prev, event.id_last, self._now())
            case Trade() if simulated_rule(event.instrument, Channel.TRADES).rule is Rule.DENSE:
                delivered = self._delivered(f"{event.instrument}/trades")
                delivered.take(line, event.sequence - 1, event.sequence, self._now())
            case Trade() if not event.flags & Flag.HISTORY:
                copies = self.trades.setdefault(f"{event.instrument}/trades", {})
                copies.setdefault(event.trade_id.encode(), []).append((self._now(), line))
            case _:
                pass

    def _delivered(self, stream: str) -> Deliveries:
        return self.deliveries.setdefault(stream, Deliveries())

    # Books.

    def live(self, who: str, book: L2Book) -> None:
        """A book that says it is LIVE must be the venue's."""
        self.books_checked += 1
        rule = simulated_rule(book.instrument, Channel.BOOK).rule
        if rule in CHAINED:
            self._live_by_id(who, book)
        else:
            self._live_by_state(who, book)

    def _live_by_id(self, who: str, book: L2Book) -> None:
        market = self.subjects[book.instrument].market
        if not market.knows(book.id_last):
            self.fail(who, f"{book.instrument}: LIVE at {book.id_last}, which the venue never had")
        state = market.state(book.id_last)
        is_wrong = _rows(book, Side.BUY, 0) != state[0] or _rows(book, Side.SELL, 0) != state[1]
        if is_wrong and not self.lies.explain(who, book.instrument, self._now()):
            self.fail(who, f"{book.instrument}: LIVE at {book.id_last} with levels that are not the venue's")

    def _live_by_state(self, who: str, book: L2Book) -> None:
        """Ids are the connection's: the book must be some state of the venue, and never an earlier one than before."""
        subject = self.subjects[book.instrument]
        market, depth = subject.market, subject.depth
        count = depth if subject.is_proved else CHECKSUM_LEVELS
        bids, asks = _rows(book, Side.BUY, count), _rows(book, Side.SELL, count)
        key = (who, book.instrument)
        start = self._index.get(key, market.id_first)
        for number in range(start, market.id_last + 1):
            state = market.state(number)
            if (state[0][:count] if count else state[0]) == bids and (state[1][:count] if count else state[1]) == asks:
                self._index[key] = number
                return
        earlier = [n for n in range(market.id_first, start) if market.state(n)[0][: count or None] == bids]
        how = f"the state {earlier[-1]} after {start}" if earlier else f"no state of the venue since {start}"
        self.fail(who, f"{book.instrument}: LIVE with {how}")

    def restarted(self, who: str) -> None:
        """A consumer has begun anew: its books may be older than those of its life before."""
        self.lies.started_ns[who] = self._now()
        for key in [key for key in self._index if key[0] == who]:
            del self._index[key]

    def final(self, who: str, instrument: str, book: L2Book | None) -> None:
        """After the venue has come to rest, a book must be its last state."""
        subject = self.subjects[instrument]
        market = subject.market
        state = market.state(market.id_last)
        if book is None or book.top() is None:
            self.fail(who, f"{instrument}: not LIVE in the end ({book.state.value if book else 'no book'})")
            return
        count = subject.depth if subject.is_proved else CHECKSUM_LEVELS
        sides = zip((Side.BUY, Side.SELL), state, strict=True)
        is_wrong = any(_rows(book, side, count) != part[: count or None] for side, part in sides)
        if is_wrong and not self.lies.explain(who, instrument, self._now()):
            self.fail(who, f"{instrument}: the last book is not the venue's")

    # From end to end.

    def told_gap(self, who: str, stream: str, gap: Gap) -> None:
        """A consumer was told of a gap."""
        self.gaps_told += 1
        if gap.kind is GapKind.VENUE and gap.id_last > gap.id_prev:
            self._gaps.append((self._now(), who, stream, gap))

    def check_gaps(self) -> None:
        """No id in a gap may have come to the consumer's end of a path that no fault touched."""
        for told_ns, who, stream, gap in self._gaps:
            if self.lies.concerns(stream.rpartition("/")[0]):
                continue  # who doubts everything waits for a book first; `watch` looks at what it makes of the rest
            for number in range(gap.id_prev + 1, gap.id_last + 1):
                for at_ns, line in self._delivered(stream).in_order.get(number, ()):
                    if self._is_safe(who, stream, number, at_ns, line, told_ns):
                        ids = f"({gap.id_prev}, {gap.id_last}]"
                        self.fail(who, f"{stream}: false gap {ids}: {line} delivered {number} in time")

    def _is_safe(self, who: str, stream: str, number: int, at_ns: Nanos, line: str, told_ns: Nanos) -> bool:
        if at_ns >= told_ns or at_ns - self._published_ns(stream, number) > PROMPT_NS:
            return False
        return self._has_calm_path(who, line, at_ns, told_ns)

    def _has_calm_path(self, who: str, line: str, at_ns: Nanos, until_ns: Nanos) -> bool:
        collector = line.partition("/")[0]
        span = (at_ns - CALM_BEFORE_NS, max(at_ns + CALM_AFTER_NS, until_ns))
        return any(
            self.calm.is_calm((collector, f"{collector}>{dedup}", dedup, f"{dedup}>{who}", who), *span)
            for dedup in self._dedups
        )

    def _published_ns(self, stream: str, number: int) -> Nanos:
        instrument, _, channel = stream.rpartition("/")
        market = self.subjects[instrument].market
        if channel == "book":
            return market.at_ns(number)
        at = bisect_left(market.prints, number, key=lambda print_: print_.number)
        return market.prints[at].ts_venue_ns if at < len(market.prints) else 0

    def check_trades(self, who: str, stream: str, taken: set[bytes]) -> None:
        """Every trade that came to the consumer's end of a path that no fault touched must have been taken."""
        for trade_id, copies in self.trades.get(stream, {}).items():
            if trade_id not in taken and any(self._has_calm_path(who, line, at_ns, at_ns) for at_ns, line in copies):
                self.fail(who, f"{stream}: trade {trade_id.decode()} was delivered and is lost")

    def accuse(self, who: str, instrument: str, line: str) -> None:
        """A dedup says that a line contradicts others: where none lies, none may be accused."""
        if not self.lies.concerns(instrument):
            self.fail(who, f"{instrument}: {line} is said to contradict others, and no line lies")
        self.lies.accused.add((instrument, line))

    def check_lies(self) -> None:
        """Every lie that could be known for one must have been reported."""
        for instrument, lie in self.lies.unreported():
            self.fail("cluster", f"{instrument}: {lie.line} lied at {lie.id_last}, and nobody said so")

    def lost(self, stream: str, first: int, last: int) -> list[int]:
        """Give the ids of ``(first, last]`` that no line's machine ever delivered."""
        whole = self._delivered(stream).whole
        return [number for number in range(first + 1, last + 1) if number not in whole]


def _rows(book: L2Book, side: Side, count: int) -> list[Row]:
    """Give the levels in the market's scale."""
    rows = book.levels(side, count)
    if book.price_scale == PRICE_SCALE and book.size_scale == SIZE_SCALE:
        return rows
    price_factor, size_factor = 10 ** (PRICE_SCALE - book.price_scale), 10 ** (SIZE_SCALE - book.size_scale)
    return [(price * price_factor, size * size_factor) for price, size in rows]
