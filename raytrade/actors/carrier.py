"""`Carrier`: carries what a recorder has closed to its target, at its own pace and past the recorder's threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from raytrade.storage.remote import Uploaded

EVERY_S = 5.0
STOP_S = 60.0
LONGEST_S = 60.0
"""Between two attempts when the target does not take anything."""


class Carried(Protocol):
    """What is run again and again: `raytrade.storage.remote.Uploader`, `raytrade.storage.postgres.PostgresSink`."""

    name: str
    counts: Uploaded

    def run(self) -> Uploaded:
        """Carry what is not there yet; a problem stands in what it gives."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Carrier:
    """Runs on a thread of its own; `on_problem` is told of a problem when it begins, and an empty text after it."""

    def __init__(self, carried: Carried, on_problem: Callable[[str], None], *, every_s: float = EVERY_S) -> None:
        self._carried = carried
        self._on_problem = on_problem
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Uploaded:
        """What has been carried."""
        return self._carried.counts

    def is_behind(self) -> bool:
        """Tell whether something is here that is not there."""
        return bool(self.counts.waiting or self.counts.problem)

    def stop(self) -> str:
        """Carry once more and end; gives the problem, or an empty text."""
        self._stopping.set()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            return f"{self._carried.name}: does not answer"
        problem = self._carried.run().problem
        self._carried.close()
        return problem

    def _run(self) -> None:
        wait_s, before = self._every_s, ""
        while not self._stopping.wait(wait_s):
            problem = self._carried.run().problem
            wait_s = min(2 * wait_s, LONGEST_S) if problem else self._every_s
            if bool(problem) != bool(before):
                self._on_problem(problem)
            before = problem
