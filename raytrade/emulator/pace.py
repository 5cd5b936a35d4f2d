"""The loop that drives a feed: publish what is due, hand it to the sockets, sleep.

Invariant: memory is bounded; a client that does not read holds up a stream without a pace of its
own for a limited time, and is disconnected when too much waits for it. Called by the server.
"""

from __future__ import annotations

import asyncio

from .feed import Feed
from .link import Link, is_congested
from .settings import EmulatorSettings

CONGESTED_BYTES = 256 * 1024
"""Bytes waiting for one client at which a stream without a pace of its own waits."""
PAUSE_S_MAX = 0.02
"""Longest sleep of the loop."""
PAUSE_S_BUSY = 0.001
"""Sleep of the loop while faults hold messages or a client is congested."""
TURN_S_MAX = 0.002
"""Time the loop may publish before it hands over and lets others run."""


class Pace:
    """The clock of the stream and the links that it serves; stream time is in seconds."""

    def __init__(self, settings: EmulatorSettings, feed: Feed) -> None:
        self.links: list[Link] = []
        self.finished = asyncio.Event()
        self._settings = settings
        self._feed = feed
        self._started_at_s: float | None = None
        self._opened_at_s = 0.0

    @property
    def is_started(self) -> bool:
        """Tell whether the stream has begun."""
        return self._started_at_s is not None

    @property
    def now_s(self) -> float:
        """Stream time; 0 before the start."""
        if self._started_at_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._started_at_s

    def begin(self) -> None:
        """Start the stream now; further calls do nothing."""
        if self._started_at_s is None:
            self._started_at_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Drive the feed until cancelled."""
        loop = asyncio.get_running_loop()
        self._opened_at_s = loop.time()
        if self._settings.clients == 0:
            self.begin()
        while True:
            await asyncio.sleep(self._turn(loop))

    def _turn(self, loop: asyncio.AbstractEventLoop) -> float:
        """Publish what is due and flush; return how long to sleep."""
        if not self.is_started and self._is_ready():
            self.begin()
        self._feed.beat(loop.time() - self._opened_at_s)
        now_s = self.now_s
        for link in list(self.links):
            link.poll(now_s)
        pause_s = PAUSE_S_MAX
        if self.is_started and not self._feed.is_finished:
            pause_s = min(self._publish(loop), PAUSE_S_MAX)
        for link in list(self.links):
            link.flush()
        self._drop_slow(loop)
        is_idle = all(link.is_idle for link in self.links)
        if self._feed.is_finished and is_idle:
            self.finished.set()
        return pause_s if is_idle else min(pause_s, PAUSE_S_BUSY)

    def _publish(self, loop: asyncio.AbstractEventLoop) -> float:
        if is_congested(self.links, CONGESTED_BYTES) and self._feed.is_greedy:
            return PAUSE_S_BUSY
        deadline_s = loop.time() + TURN_S_MAX
        pause_s = 0.0
        while pause_s == 0.0 and loop.time() < deadline_s:
            pause_s = self._feed.publish(self.now_s)
        return pause_s

    def _is_ready(self) -> bool:
        return sum(link.is_ready for link in self.links) >= self._settings.clients

    def _drop_slow(self, loop: asyncio.AbstractEventLoop) -> None:
        for link in self.links:
            if not link.is_open:
                continue
            is_holding_up = (
                self._feed.is_greedy
                and link.congested_s is not None
                and loop.time() - link.congested_s > self._settings.slow_client_s_max
            )
            waiting_bytes = link.backlog_bytes + link.held_bytes
            if is_holding_up or waiting_bytes > self._settings.buffer_bytes_max:
                link.cut("slow_client")
