"""REST books, inside the venue's weight budget."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections import deque
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection

import msgspec

from raytrade.core.clock import SECOND, Nanos
from raytrade.errors import LineLost
from raytrade.transport.egress import Egress

BODY_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 10.0
WINDOW_NS = 60 * SECOND
SHARE = 0.5
"""How much of a venue's stated weight all collectors together spend; the rest is the user's own."""


class BudgetCounts(msgspec.Struct):
    """What of a budget was used; `weight_max` is what may be spent in a minute, 0 without a limit."""

    weight_max: int = 0
    spent: int = 0
    requests: int = 0
    refused: int = 0


class WeightBudget:
    """Counts the weight spent in the last minute. Pure: the time is an argument.

    With `turns` above 1 there are more spenders than requests in a minute: they take turns of two minutes by the
    clock, and spend in the first minute of their `turn` only, so that no minute sees two turns.
    """

    def __init__(self, weight_max: int, turn: int = 0, turns: int = 1) -> None:
        self.counts = BudgetCounts(weight_max)
        self._turn, self._turns = turn, turns
        self._spent: deque[tuple[Nanos, int]] = deque()
        self._growth: tuple[Nanos, int] | None = None

    def limit(self, weight_max: int, turn: int, turns: int, now_ns: Nanos) -> None:
        """Spend so much from now on; what is more than before only after a minute, when others spend less."""
        self._turn, self._turns = turn, turns
        grows = self.counts.weight_max and (weight_max > self.counts.weight_max or not weight_max)
        if not grows:
            self.counts.weight_max, self._growth = weight_max, None
        elif self._growth is None or self._growth[1] != weight_max:
            self._growth = (now_ns + WINDOW_NS, weight_max)

    def begin_late(self, weight: int, now_ns: Nanos) -> None:
        """Take all but one request of `weight` as spent: others spent it, or this one did before it was restarted."""
        if self.counts.weight_max > weight:
            self._spent.append((now_ns, self.counts.weight_max - weight))

    def wait_ns(self, weight: int, now_ns: Nanos) -> Nanos:
        """Give how long to wait before spending `weight`; 0 where it may be spent now."""
        self._advance(now_ns)
        if not self.counts.weight_max:
            return 0
        pause_ns = self._pause_ns(now_ns)
        if self.counts.spent + weight > self.counts.weight_max:
            first_ns = self._spent[0][0] if self._spent else now_ns
            pause_ns = max(pause_ns, first_ns + WINDOW_NS - now_ns)
        return pause_ns

    def spend(self, weight: int, now_ns: Nanos) -> Nanos:
        """Spend `weight` if it may be spent, else give how long to wait."""
        wait_ns = self.wait_ns(weight, now_ns)
        if not wait_ns:
            self._spent.append((now_ns, weight))
            self.counts.spent += weight
            self.counts.requests += 1
        return wait_ns

    def _advance(self, now_ns: Nanos) -> None:
        if self._growth is not None and now_ns >= self._growth[0]:
            self.counts.weight_max, self._growth = self._growth[1], None
        while self._spent and self._spent[0][0] <= now_ns - WINDOW_NS:
            self._spent.popleft()
        self.counts.spent = sum(part for _, part in self._spent)

    def _pause_ns(self, now_ns: Nanos) -> Nanos:
        """Give how long until the own turn."""
        if self._turns <= 1:
            return 0
        round_ns = 2 * self._turns * WINDOW_NS
        into_ns = (now_ns - 2 * self._turn * WINDOW_NS) % round_ns
        return 0 if into_ns < WINDOW_NS else round_ns - into_ns


class _Plain(urllib.request.HTTPHandler):
    """Leaves from a source address."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._connect = partial(HTTPConnection, source_address=(source, 0))

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open it."""
        return self.do_open(self._connect, req)


class _Encrypted(urllib.request.HTTPSHandler):
    """Leaves from a source address."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._connect = partial(HTTPSConnection, source_address=(source, 0))

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open it."""
        return self.do_open(self._connect, req)


def _opener(egress: Egress) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = []
    proxy = egress.proxy_url()
    if proxy:
        handlers.append(urllib.request.ProxyHandler({"http": proxy.reveal(), "https": proxy.reveal()}))
    source = egress.source()
    if source:
        handlers += [_Plain(source), _Encrypted(source)]
    return urllib.request.build_opener(*handlers)


def _fetch(url: str, egress: Egress) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "raytrade", "Accept": "application/json"})
    with _opener(egress).open(request, timeout=TIMEOUT_S) as reply:
        body: bytes = reply.read(BODY_BYTES_MAX + 1)
    if len(body) > BODY_BYTES_MAX:
        raise LineLost("rest", f"{url}: more than {BODY_BYTES_MAX} bytes")
    return body


async def fetch(url: str, egress: Egress) -> bytes:
    """Fetch a body in a thread, by this way out.

    Raises:
        LineLost: no answer, or an answer that is not 200.
    """
    if not url.startswith(("http://", "https://")):
        raise LineLost("rest", f"not an http address: {url}")
    try:
        return await asyncio.to_thread(_fetch, url, egress)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise LineLost("rest", f"{url}: {error}") from None
