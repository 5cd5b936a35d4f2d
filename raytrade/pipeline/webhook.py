"""`Webhook`: posts notices as JSON from a thread of its own; a receiver that hangs holds up nothing."""

from __future__ import annotations

import threading
import urllib.request
from queue import Empty, Full, Queue

import msgspec

from raytrade.observation.alerts import Notice

PENDING_MAX = 100
ATTEMPTS = 3
TIMEOUT_S = 5.0
RETRY_S = 1.0


class Webhook:
    """Posts to one address, in order; after `ATTEMPTS` failures a notice is given up and counted."""

    def __init__(self, url: str) -> None:
        self.sent = 0
        self.lost = 0
        self.problem = ""
        self.url = url
        self._pending: Queue[Notice] = Queue(PENDING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        if url:
            self._thread.start()

    def post(self, notice: Notice) -> None:
        """Have a notice sent; never waits."""
        if not self.url:
            return
        try:
            self._pending.put_nowait(notice)
        except Full:
            self.lost += 1

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                notice = self._pending.get(timeout=0.5)
            except Empty:
                continue
            if self._deliver(notice):
                self.sent += 1
            else:
                self.lost += 1

    def _deliver(self, notice: Notice) -> bool:
        body = msgspec.json.encode(notice)
        for attempt in range(ATTEMPTS):
            headers = {"Content-Type": "application/json", "User-Agent": "raytrade"}
            request = urllib.request.Request(self.url, data=body, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    self.problem = ""
                    return True
            except (OSError, ValueError) as error:
                self.problem = str(error)
                if self._stopping.wait(RETRY_S * (attempt + 1)):
                    return False
        return False
