"""`World`: the one queue of events, the one clock and the one source of chance of a simulation, and its trace."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

from raytrade.core.clock import SECOND, ManualClock, Nanos

START_NS = 1_700_000_000 * SECOND
STORY_LINES_MAX = 20_000


class Crashed(Exception):
    """An actor died in the middle of what it was doing."""


class Trace:
    """What happened, as a hash of everything and as a story of the last transitions."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)
        self.story: deque[tuple[Nanos, str, str]] = deque(maxlen=STORY_LINES_MAX)

    def note(self, now_ns: Nanos, who: str, what: str) -> None:
        """Add one transition."""
        self._hash.update(f"{now_ns} {who} {what}\n".encode())
        self.story.append((now_ns, who, what))

    def digest(self) -> str:
        """Give the hash of all transitions so far."""
        return self._hash.hexdigest()


class World:
    """Everything that happens goes through `at`.

    `now_ns` is the true time, `offsets_ns` by how much actors' clocks are wrong; `crash_in` counts down an actor's
    steps to its death.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock(START_NS)
        self.now_ns: Nanos = START_NS
        self.trace = Trace()
        self.offsets_ns: dict[str, Nanos] = {}
        self.crash_in: dict[str, int] = {}
        self.steps = 0
        self._queue: list[tuple[Nanos, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def at(self, due_ns: Nanos, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function` called at a time, after everything planned earlier for the same time."""
        self._serial += 1
        heappush(self._queue, (max(due_ns, self.now_ns), self._serial, function, arguments))

    def after(self, delay_ns: Nanos, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function` called after a while."""
        self.at(self.now_ns + delay_ns, function, *arguments)

    def run_until(self, end_ns: Nanos) -> None:
        """Run everything due up to a time, and stand at that time."""
        queue = self._queue
        while queue and queue[0][0] <= end_ns:
            due_ns, _, function, arguments = heappop(queue)
            self._move(due_ns)
            self.steps += 1
            function(*arguments)
        self._move(end_ns)

    def _move(self, now_ns: Nanos) -> None:
        self.clock.advance(now_ns - self.now_ns)
        self.now_ns = self.clock.now_ns()

    def between(self, least_ns: Nanos, most_ns: Nanos) -> Nanos:
        """Draw a duration."""
        return least_ns + int(self.random.random() * (most_ns - least_ns + 1))

    def chance(self, share: float) -> bool:
        """Draw whether something happens."""
        return share > 0 and self.random.random() < share

    def note(self, who: str, what: str) -> None:
        """Add a transition to the trace."""
        self.trace.note(self.now_ns, who, what)
