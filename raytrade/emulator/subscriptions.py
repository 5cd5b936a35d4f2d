"""Who is subscribed to what of a synthetic market, and what each step looks like to them.

Invariant: a step is printed once per topic and shared by all its links; only links with windows
of their own get a print of their own. Called by the synthetic feed.
"""

from __future__ import annotations

import random
import time

from .dialect import Channel, Dialect, Topic
from .link import Link
from .market import Market, Step
from .message import Message
from .windows import DepthWindow, WindowMerger

Delivery = tuple[list[Link], Message]
Posting = tuple[Step, list[Delivery]]


class Subscriptions:
    """Topics by symbol with their links; `skew_windows` is the default of the settings."""

    def __init__(self, dialect: Dialect, market: Market, skew_windows: int) -> None:
        self._dialect = dialect
        self._traits = dialect.traits
        self._market = market
        self._skew_windows = skew_windows
        self._groups: dict[str, dict[Topic, list[Link]]] = {s: {} for s in market.books}
        self._windows: dict[tuple[str, int], DepthWindow] = {}
        self._mergers: dict[tuple[int, Topic], WindowMerger] = {}

    def subscribe(self, link: Link, topic: Topic) -> None:
        """Begin a topic, with its snapshot where the venue sends one in band."""
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
        if topic.depth:
            key = (topic.symbol, topic.depth)
            if key not in self._windows:
                self._windows[key] = DepthWindow(book, topic.depth, self._traits.tells_leaving)
        snapshot = self._dialect.snapshot(topic, book, time.time_ns())
        if snapshot is not None:
            link.post(snapshot)

    def unsubscribe(self, link: Link, topic: Topic) -> None:
        """End a topic; one that was never begun is ignored."""
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

    def render(self, step: Step) -> Posting:
        """Print a step for every group of links; the book is in the state after it."""
        deliveries: list[Delivery] = []
        time_ns = time.time_ns()
        book = self._market.books[step.symbol]
        narrowed: dict[int, Step] = {}
        for topic, links in self._groups[step.symbol].items():
            if topic.channel is Channel.TRADES:
                if step.trade is not None:
                    deliveries.append((links, self._dialect.trade(topic, step.trade, time_ns)))
                continue
            if self._is_skewed(topic, links):
                deliveries += self._skewed(topic, links, step, time_ns)
                continue
            shown = step
            if topic.depth:
                shown = narrowed.get(topic.depth) or self._narrow(topic, step)
                narrowed[topic.depth] = shown
                if not shown.levels and not self._traits.sends_empty:
                    continue
            deliveries.append((links, self._dialect.update(topic, shown, book, time_ns)))
        return step, deliveries

    def trades(self, step: Step, time_ns: int) -> list[Delivery]:
        """Print a step's trade alone."""
        groups = self._groups[step.symbol].items()
        if step.trade is None:
            return []
        wanted = [(topic, links) for topic, links in groups if topic.channel is Channel.TRADES]
        return [(links, self._dialect.trade(topic, step.trade, time_ns)) for topic, links in wanted]

    def flush(self) -> None:
        """Send the windows that are still open, as the stream ends."""
        for (number, topic), merger in self._mergers.items():
            window = merger.flush()
            book = self._market.books[topic.symbol]
            for link in self._groups[topic.symbol].get(topic, []):
                if link.number == number and window is not None:
                    link.post(self._dialect.update(topic, window, book, time.time_ns()))

    def _narrow(self, topic: Topic, step: Step) -> Step:
        return self._windows[topic.symbol, topic.depth].narrow(step)

    def _is_skewed(self, topic: Topic, links: list[Link]) -> bool:
        if not self._traits.has_windows:
            return False
        return bool(self._mergers) or any(self._skew(link, topic.symbol) > 1 for link in links)

    def _skewed(self, topic: Topic, links: list[Link], step: Step, time_ns: int) -> list[Delivery]:
        book = self._market.books[step.symbol]
        deliveries: list[Delivery] = []
        for link in links:
            shown = self._merge(link, topic, step)
            if shown is not None:
                deliveries.append(([link], self._dialect.update(topic, shown, book, time_ns)))
        return deliveries

    def _skew(self, link: Link, symbol: str) -> int:
        rule = None if link.plan is None else link.plan.standing("skew_windows", symbol)
        return self._skew_windows if rule is None else rule.steps_max

    def _merge(self, link: Link, topic: Topic, step: Step) -> Step | None:
        """Pass a step through the window of a link; None while the window stays open."""
        steps_max = self._skew(link, topic.symbol)
        key = (link.number, topic)
        merger = self._mergers.get(key)
        if merger is None:
            if steps_max <= 1:
                return step
            rng = random.Random(f"{link.number}:{topic.name}:{topic.symbol}")
            merger = self._mergers[key] = WindowMerger(steps_max, rng)
            link.report("skew_windows", topic.symbol)
        window = merger.add(step)
        if steps_max <= 1:
            del self._mergers[key]
            return window or merger.flush()
        return window
