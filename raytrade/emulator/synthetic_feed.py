"""Serves the synthetic market: subscriptions, snapshots, updates, trades, bursts.

Invariant: an in-band snapshot and the updates after it on one connection are contiguous, as both
are posted in one turn of the event loop. Called by the server.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping

from .dialect import (
    Channel,
    Dialect,
    Reply,
    RestReply,
    Session,
    Subscribe,
    Topic,
    Unsubscribe,
)
from .journal import Journal, TrueBook, true_book
from .link import Link
from .market import Market, MarketSettings, Step
from .message import Message
from .settings import EmulatorSettings, parse_burst
from .venues import DIALECTS
from .windows import DepthWindow, WindowMerger

STEPS_PER_TURN = 64
"""Updates posted before the event loop gets its turn."""
BURST_STEPS_PER_TURN = 512
"""Updates rendered for a burst before the event loop gets its turn."""
Delivery = tuple[list[Link], Message]
Posting = tuple[Step, list[Delivery]]


class SyntheticFeed:
    """A market and who is subscribed to what of it."""

    def __init__(self, settings: EmulatorSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._dialect: Dialect = DIALECTS[settings.venue](settings.symbols)
        traits = self.traits = self._dialect.traits
        self.ping_every_s = traits.ping_every_s
        self._market = Market(
            MarketSettings(
                symbols=settings.symbols,
                seed=settings.seed,
                levels=settings.levels,
                depth=settings.depth,
                trades_share=settings.trades_share,
                id_rule=traits.id_rule,
                is_touched=traits.is_touched,
            )
        )
        for symbol, book in self._market.books.items():
            journal.add_symbol(symbol, book.id_last)
        self._groups: dict[str, dict[Topic, list[Link]]] = {s: {} for s in settings.symbols}
        self._windows: dict[tuple[str, int], DepthWindow] = {}
        self._mergers: dict[tuple[int, Topic], WindowMerger] = {}
        self._links: list[Link] = []
        self._waiting: list[tuple[Link, str]] = []
        self._burst = BurstQueue(settings)
        self._pace_base = (0.0, 0)
        self._posted = 0
        self._is_closed_out = False
        self._beat_s = 0.0
        self._beats = 0
        self._posted_at_beat = 0

    @property
    def is_finished(self) -> bool:
        """Tell whether the last update has been posted to everyone."""
        return self._is_closed_out

    @property
    def is_greedy(self) -> bool:
        """Tell whether the clients set the pace: rate 0, or a burst going out."""
        return self._settings.rate == 0 or self._burst.is_active

    def accepts(self, session: Session) -> bool:
        """Tell whether the venue has this address."""
        return self._dialect.open(session, lambda symbol: False) is not None

    def connect(self, link: Link) -> None:
        """Greet a client and serve what its address asks for."""
        self._links.append(link)
        self._perform(link, self._dialect.open(link.session, self._known(link)) or [])

    def receive(self, link: Link, text: str | bytes) -> None:
        """Take a request; during a burst it waits, as the market is ahead of the stream."""
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        if self._burst.is_active:
            self._waiting.append((link, decoded))
            return
        actions = self._dialect.receive(link.session, decoded, self._known(link))
        self._perform(link, actions)

    def disconnect(self, link: Link) -> None:
        """Drop every subscription of a client."""
        for topic in list(link.topics):
            self._unsubscribe(link, topic)
        self._links.remove(link)

    def publish(self, now_s: float) -> float:
        """Post the updates that are due, or the next part of a burst."""
        if self._is_closed_out:
            return 1.0
        if self._burst.is_due(now_s):
            self._advance_burst(now_s)
            return 0.0
        wanted = self._due(now_s)
        for _ in range(min(wanted, STEPS_PER_TURN)):
            self._post(self._render(self._market.step()))
        if self._is_exhausted:
            self._close_out()
            return 0.0
        if wanted > STEPS_PER_TURN:
            return 0.0
        return self._seconds_to_next(now_s)

    def beat(self, now_s: float) -> None:
        """Send heartbeats, where the venue has them, to everyone who is subscribed."""
        every_s = self.traits.heartbeat_every_s
        if not every_s or now_s < self._beat_s + every_s:
            return
        self._beat_s = now_s
        is_busy = self._posted != self._posted_at_beat
        self._posted_at_beat = self._posted
        if self.traits.heartbeat_when_idle and is_busy:
            return
        self._beats += 1
        message = self._dialect.heartbeat(time.time_ns(), self._beats)
        if message is None:
            return
        for link in self._links:
            if self._wants_beat(link):
                link.post(message)

    def rest(self, path: str, query: Mapping[str, str], target: str) -> RestReply | None:
        """Answer from the true books as they are now."""
        return self._dialect.rest(path, query, self._market.books, time.time_ns())

    def books(self) -> dict[str, TrueBook]:
        """Print the true books."""
        scales = self.traits.price_scale, self.traits.size_scale
        return {
            symbol: true_book(book, *scales) for symbol, book in self._market.books.items()
        }

    def _wants_beat(self, link: Link) -> bool:
        if self.traits.heartbeat_when_idle:
            return bool(link.topics)
        return any(topic.channel is Channel.HEARTBEAT for topic in link.topics)

    def _known(self, link: Link) -> Callable[[str], bool]:
        def known(symbol: str) -> bool:
            if link.plan is not None and link.plan.standing("refuse", symbol):
                link.report("refuse", symbol)
                return False
            return symbol in self._groups

        return known

    def _perform(self, link: Link, actions: list[Subscribe | Unsubscribe | Reply]) -> None:
        for action in actions:
            if isinstance(action, Reply):
                link.post_text(action.text, action.tail)
            elif isinstance(action, Subscribe):
                self._subscribe(link, action.topic)
            else:
                self._unsubscribe(link, action.topic)

    def _subscribe(self, link: Link, topic: Topic) -> None:
        link.is_ready = True
        if link.plan is not None and link.plan.standing("ack_only", topic.symbol):
            link.report("ack_only", topic.symbol)
            return
        if topic in link.topics:
            return
        link.topics[topic] = None
        if topic.channel is Channel.HEARTBEAT:
            return
        self._groups[topic.symbol].setdefault(topic, []).append(link)
        book = self._market.books[topic.symbol]
        if topic.depth and topic.channel is Channel.BOOK:
            key = (topic.symbol, topic.depth)
            if key not in self._windows:
                self._windows[key] = DepthWindow(book, topic.depth, self.traits.tells_leaving)
        snapshot = self._dialect.snapshot(topic, book, time.time_ns())
        if snapshot is not None:
            link.post(snapshot)

    def _unsubscribe(self, link: Link, topic: Topic) -> None:
        if topic not in link.topics:
            return
        del link.topics[topic]
        self._mergers.pop((link.number, topic), None)
        if topic.channel is Channel.HEARTBEAT:
            return
        groups = self._groups[topic.symbol]
        groups[topic].remove(link)
        if not groups[topic]:
            del groups[topic]
        is_used = any(other.depth == topic.depth for other in groups)
        if topic.depth and not is_used:
            self._windows.pop((topic.symbol, topic.depth), None)

    def _render(self, step: Step) -> Posting:
        """Print a step for every group of subscribers; the book is in the state after it."""
        deliveries: list[Delivery] = []
        time_ns = time.time_ns()
        narrowed: dict[int, Step] = {}
        for topic, links in self._groups[step.symbol].items():
            if topic.channel is Channel.TRADES:
                if step.trade is not None:
                    deliveries.append((links, self._dialect.trade(topic, step.trade, time_ns)))
                continue
            plain = self._split_skewed(topic, links, step, time_ns, deliveries)
            if not plain:
                continue
            shown = step
            if topic.depth:
                shown = narrowed.get(topic.depth) or self._narrow(topic, step)
                narrowed[topic.depth] = shown
                if not shown.levels and not self.traits.sends_empty:
                    continue
            book = self._market.books[step.symbol]
            deliveries.append((plain, self._dialect.update(topic, shown, book, time_ns)))
        return step, deliveries

    def _narrow(self, topic: Topic, step: Step) -> Step:
        return self._windows[topic.symbol, topic.depth].narrow(step)

    def _split_skewed(
        self,
        topic: Topic,
        links: list[Link],
        step: Step,
        time_ns: int,
        deliveries: list[Delivery],
    ) -> list[Link]:
        """Serve the links that have windows of their own; return the others."""
        if not self.traits.has_windows:
            return links
        skewed = [link for link in links if self._skew(link, topic.symbol) > 1]
        if not skewed and not self._mergers:
            return links
        book = self._market.books[step.symbol]
        for link in links:
            shown = self._merge(link, topic, step)
            if shown is not None:
                deliveries.append(([link], self._dialect.update(topic, shown, book, time_ns)))
        return []

    def _skew(self, link: Link, symbol: str) -> int:
        rule = None if link.plan is None else link.plan.standing("skew_windows", symbol)
        return self._settings.skew_windows if rule is None else rule.steps_max

    def _merge(self, link: Link, topic: Topic, step: Step) -> Step | None:
        steps_max = self._skew(link, topic.symbol)
        key = (link.number, topic)
        merger = self._mergers.get(key)
        if merger is None:
            if steps_max <= 1:
                return step
            rng = random.Random(f"{self._settings.seed}:{link.number}:{topic.name}:{topic.symbol}")
            merger = self._mergers[key] = WindowMerger(steps_max, rng)
            link.report("skew_windows", topic.symbol)
        window = merger.add(step)
        if window is None and steps_max <= 1:
            window = merger.flush()
        if steps_max <= 1:
            del self._mergers[key]
        return window

    def _post(self, posting: Posting) -> None:
        step, deliveries = posting
        for links, message in deliveries:
            for link in links:
                link.post(message)
        self._posted += 1
        time_ns = time.time_ns()
        self._journal.add_update(step, time_ns)
        if step.trade is not None:
            self._journal.add_trade(step.trade, time_ns)

    def _due(self, now_s: float) -> int:
        if self._settings.rate == 0:
            due = STEPS_PER_TURN
        else:
            base_s, base_steps = self._pace_base
            rate = self._settings.rate * len(self._settings.symbols)
            due = int((now_s - base_s) * rate) + base_steps - self._market.steps_made
        if self._settings.updates:
            due = min(due, self._settings.updates - self._market.steps_made)
        return max(due, 0)

    @property
    def _is_exhausted(self) -> bool:
        return 0 < self._settings.updates <= self._market.steps_made

    def _seconds_to_next(self, now_s: float) -> float:
        if self._settings.rate == 0:
            return 0.0
        base_s, base_steps = self._pace_base
        rate = self._settings.rate * len(self._settings.symbols)
        next_s = base_s + (self._market.steps_made + 1 - base_steps) / rate
        return max(next_s - now_s, 0.0)

    def _advance_burst(self, now_s: float) -> None:
        burst = self._burst
        burst.is_active = True
        if burst.to_render and not self._is_exhausted:
            for _ in range(min(burst.to_render, BURST_STEPS_PER_TURN)):
                if self._is_exhausted:
                    break
                burst.rendered.append(self._render(self._market.step()))
                burst.to_render -= 1
            return
        burst.to_render = 0
        for _ in range(min(len(burst.rendered), STEPS_PER_TURN)):
            self._post(burst.rendered.popleft())
        if not burst.rendered:
            self._end_burst(now_s)

    def _end_burst(self, now_s: float) -> None:
        self._burst.is_active = False
        self._burst.is_over = True
        self._pace_base = (now_s, self._market.steps_made)
        waiting, self._waiting = self._waiting, []
        for link, text in waiting:
            if link in self._links:
                self.receive(link, text)
        if self._is_exhausted:
            self._close_out()

    def _close_out(self) -> None:
        """Send what windows and reordering still hold: nothing is left unsaid at the end."""
        for (number, topic), merger in list(self._mergers.items()):
            window = merger.flush()
            book = self._market.books[topic.symbol]
            for link in self._groups[topic.symbol].get(topic, []):
                if link.number == number and window is not None:
                    link.post(self._dialect.update(topic, window, book, time.time_ns()))
        for link in self._links:
            link.release()
        self._is_closed_out = True


class BurstQueue:
    """A burst: what is still to be rendered, and what is ready to go."""

    def __init__(self, settings: EmulatorSettings) -> None:
        burst = parse_burst(settings.burst)
        self._at_s = burst.at_s if burst else 0.0
        self.to_render = burst.updates if burst else 0
        self.is_over = burst is None
        self.is_active = False
        self.rendered: deque[Posting] = deque()

    def is_due(self, now_s: float) -> bool:
        """Tell whether the burst has begun and is not over."""
        return not self.is_over and now_s >= self._at_s
