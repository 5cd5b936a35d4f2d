"""REST books, inside the venue's weight budget."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections import deque
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection

from raytrade.core.clock import SECOND, Nanos
from raytrade.errors import LineLost
from raytrade.transport.egress import Egress

BODY_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 10.0
WINDOW_NS = 60 * SECOND
SHARE = 0.5
"""How much of a venue's stated weight we spend; the rest is the user's own."""


class WeightBudget:
    """Counts the weight spent in the last minute. Pure: the time is an argument."""

    def __init__(self, weight_per_minute_max: int) -> None:
        self._weight_max = int(weight_per_minute_max * SHARE) if weight_per_minute_max else 0
        self._spent: deque[tuple[Nanos, int]] = deque()

    def wait_ns(self, weight: int, now_ns: Nanos) -> Nanos:
        """Give how long to wait before spending `weight`; 0 books it at once."""
        while self._spent and self._spent[0][0] <= now_ns - WINDOW_NS:
            self._spent.popleft()
        total = sum(part for _, part in self._spent)
        if self._weight_max and self._spent and total + weight > self._weight_max:
            return self._spent[0][0] + WINDOW_NS - now_ns
        self._spent.append((now_ns, weight))
        return 0


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
