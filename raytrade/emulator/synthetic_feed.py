"""Serves the synthetic market: subscriptions, snapshots, updates, trades, bursts.

Invariant: an in-band snapshot and the updates after it on one connection are contiguous, as both
are posted in one turn of the event loop. Called by the server.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .dialect import (
    Channel,
    Dialect,
    Reply,
    RestReply,
    Session,
    Subscribe,
    Unsubscribe,
)
from .journal import Journal, TrueBook, true_book
from .link import Link
from .market import Market, MarketSettings
from .settings import EmulatorSettings, parse_burst
from .subscriptions import Posting, Subscriptions
from .venues import DIALECTS

STEPS_PER_TURN = 64
"""Updates posted before the event loop gets its turn."""
BURST_STEPS_PER_TURN = 512
"""Updates rendered for a burst before the event loop gets its turn."""


class SyntheticFeed:
    """A market and who is subscribed to what of it."""

    def __init__(self, settings: EmulatorSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._dialect: Dialect = DIALECTS[settings.venue](settings.symbols)
        traits = self.traits = self._dialect.traits
        self.ping_every_s = traits.ping_every_s
        self._market = self._make_market()
        for symbol, book in self._market.books.items():
            journal.add_symbol(symbol, book.id_last)
        self._subscriptions = Subscriptions(self._dialect, self._market, settings.skew_windows)
        self._links: list[Link] = []
        self._waiting: list[tuple[Link, str]] = []
        self._burst = BurstQueue(settings)
        self._pace_base = (0.0, 0)
        self._posted = 0
        self._is_closed_out = False
        self._is_ended = False
        self._beat_s = 0.0
        self._beats = 0
        self._posted_at_beat = 0

    def _make_market(self) -> Any:
        """Give what has true `books` and counts its `steps_made`: here a market that draws steps."""
        settings = self._settings
        return Market(
            MarketSettings(
                symbols=settings.symbols,
                seed=settings.seed,
                levels=settings.levels,
                depth=settings.depth,
                trades_share=settings.trades_share,
                id_rule=self.traits.id_rule,
                is_touched=self.traits.is_touched,
            )
        )

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
        self._perform(link, self._dialect.open(link.session, known_to(link, self._market.books)) or [])

    def receive(self, link: Link, text: str | bytes) -> None:
        """Take a request; during a burst it waits, as the market is ahead of the stream."""
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        if self._burst.is_active:
            self._waiting.append((link, decoded))
            return
        actions = self._dialect.receive(link.session, decoded, known_to(link, self._market.books))
        self._perform(link, actions)

    def disconnect(self, link: Link) -> None:
        """Drop every subscription of a client."""
        for topic in list(link.topics):
            self._subscriptions.unsubscribe(link, topic)
        self._links.remove(link)

    def publish(self, now_s: float) -> float:
        """Post the updates that are due, or the next part of a burst."""
        if self._is_closed_out:
            return 1.0
        if self._burst.is_due(now_s):
            self._advance_burst(now_s)
            return 0.0
        wanted = 0 if self._is_ended else self._due(now_s)
        for _ in range(min(wanted, STEPS_PER_TURN)):
            self._post(self._subscriptions.render(self._market.step()))
        if self._is_exhausted():
            self._close_out()
            return 0.0
        if wanted > STEPS_PER_TURN:
            return 0.0
        return self._seconds_to_next(now_s)

    def finish(self) -> None:
        """Make no more updates."""
        self._is_ended = True

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
        return {symbol: true_book(book, *scales) for symbol, book in self._market.books.items()}

    def _wants_beat(self, link: Link) -> bool:
        if self.traits.heartbeat_when_idle:
            return bool(link.topics)
        return any(topic.channel is Channel.HEARTBEAT for topic in link.topics)

    def _perform(self, link: Link, actions: list[Subscribe | Unsubscribe | Reply]) -> None:
        for action in actions:
            if isinstance(action, Reply):
                link.post_text(action.text, action.tail)
            elif isinstance(action, Subscribe):
                self._subscriptions.subscribe(link, action.topic)
            else:
                self._subscriptions.unsubscribe(link, action.topic)

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

    def _is_exhausted(self) -> bool:
        return self._is_ended or 0 < self._settings.updates <= self._market.steps_made

    def _seconds_to_next(self, now_s: float) -> float:
        if self._settings.rate == 0:
            return 0.0
        base_s, base_steps = self._pace_base
        rate = self._settings.rate * len(self._settings.symbols)
        next_s: float = base_s + (self._market.steps_made + 1 - base_steps) / rate
        return max(next_s - now_s, 0.0)

    def _advance_burst(self, now_s: float) -> None:
        burst = self._burst
        burst.is_active = True
        if burst.to_render and not self._is_exhausted():
            for _ in range(min(burst.to_render, BURST_STEPS_PER_TURN)):
                if self._is_exhausted():
                    break
                burst.rendered.append(self._subscriptions.render(self._market.step()))
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
        if self._is_exhausted():
            self._close_out()

    def _close_out(self) -> None:
        """Send what windows and reordering still hold: nothing is left unsaid at the end."""
        self._subscriptions.flush()
        for link in self._links:
            link.release()
        self._is_closed_out = True


def known_to(link: Link, symbols: Mapping[str, object]) -> Callable[[str], bool]:
    """Make the test of symbols for a link: those of the market that no fault refuses to it."""

    def known(symbol: str) -> bool:
        if link.plan is not None and link.plan.standing("refuse", symbol):
            link.report("refuse", symbol)
            return False
        return symbol in symbols

    return known


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
